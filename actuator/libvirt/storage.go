package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"
	"path"
	"slices"
	"strings"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// Disks on local storage are copied along with their VM: from a file in a storage
// pool of the source to a file of the same path that is made for it in a pool of the
// destination. Two rules keep the data safe. The destination must not have such a
// file yet: what is there is somebody's, or the storage is shared in a way that
// nobody told us. And the source's file goes only after the move has succeeded, when
// no other VM of the host names it.

func unfit(format string, args ...any) error {
	return &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonStorage, Detail: fmt.Sprintf(format, args...)}}
}

// local gives the disks of a VM that have to be copied along, or says why they
// cannot be.
func (c *conn) local(ctx context.Context, dom lv.Domain, g *Guest) (out []schemas.DiskCopy, err error) {
	var pools []pool
	for i, d := range g.Disks {
		if d.Type != "file" || d.Common {
			continue // block, network and volume disks, and those in common use, are there on every host or libvirt refuses
		}
		if pools == nil {
			if pools, err = c.pools(ctx); err != nil && !isRefused(err) { // a daemon may have no storage driver
				return nil, err
			}
		}
		p := holding(pools, d.Path)
		switch shared := c.sees(d.Path); {
		case p != nil && p.Shared || shared != nil && *shared:
			continue
		case p == nil && shared == nil:
			continue // nobody here can tell: libvirt itself looks, and refuses what is not shared
		case p == nil:
			return nil, unfit("disk %s is on local storage outside every storage pool: define a pool for %s on both hosts (virsh pool-define-as NAME dir --target %[2]s), or put the disk on shared storage", d.Target, path.Dir(d.Path))
		case d.Chain:
			return nil, unfit("disk %s is on local storage and stands on other files, of which nobody knows that the destination's are the same: flatten it first (virsh blockpull %s %s --wait)", d.Target, g.Name, d.Target)
		case d.Format != "raw" && d.Format != "qcow2":
			return nil, unfit("disk %s is on local storage in the format %q: only raw and qcow2 are copied", d.Target, d.Format)
		}
		capacity, err := call(ctx, c, "size of disk "+d.Target, c.lim.Quick, func() (uint64, error) {
			_, n, _, err := c.l.DomainGetBlockInfo(dom, g.Disks[i].Target, 0)
			return n, err
		})
		if err != nil {
			return nil, err
		}
		out = append(out, schemas.DiskCopy{Target: d.Target, Path: d.Path, Format: d.Format, Capacity: schemas.Bytes(capacity)})
	}
	return out, nil
}

// sees says whether a file system is shared, where the daemon's files are this
// process's too.
func (c *conn) sees(path string) *bool {
	if !c.here {
		return nil
	}
	return PathShared(path)
}

// pool is a storage pool with its handle.
type pool struct {
	Pool
	handle lv.StoragePool
}

func holding(pools []pool, file string) *pool {
	var best *pool
	for i := range pools {
		if pools[i].Holds(file) && (best == nil || len(pools[i].Path) > len(best.Path)) {
			best = &pools[i]
		}
	}
	return best
}

// pools lists the active ones.
func (c *conn) pools(ctx context.Context) ([]pool, error) {
	handles, err := call(ctx, c, "storage pools", c.lim.Quick, func() ([]lv.StoragePool, error) {
		p, _, err := c.l.ConnectListAllStoragePools(1, lv.ConnectListStoragePoolsActive)
		return p, err
	})
	if err != nil {
		return nil, err
	}
	out := make([]pool, 0, len(handles))
	for _, h := range handles {
		doc, err := call(ctx, c, "pool "+h.Name, c.lim.Quick, func() (string, error) { return c.l.StoragePoolGetXMLDesc(h, 0) })
		if isNotFound(err) {
			continue // it went
		}
		if err != nil {
			return nil, err
		}
		p, err := parsePool(doc)
		if err != nil {
			return nil, err
		}
		out = append(out, pool{p, h})
	}
	return out, nil
}

// volume is a file to be made, and where.
type volume struct {
	disk schemas.DiskCopy
	in   *pool
}

// room finds a place for every disk: a pool of the same directory, in which no file
// of that name is yet, with space for all of them.
func (c *conn) room(ctx context.Context, disks []schemas.DiskCopy) ([]volume, error) {
	if len(disks) == 0 {
		return nil, nil
	}
	pools, err := c.pools(ctx)
	if err != nil {
		return nil, err
	}
	fresh := map[string]bool{}
	need := map[string]schemas.Bytes{}
	out := make([]volume, 0, len(disks))
	for _, d := range disks {
		p := holding(pools, d.Path)
		if p == nil || path.Dir(d.Path) != strings.TrimSuffix(p.Path, "/") {
			return nil, unfit("the destination has no storage pool for %s: virsh pool-define-as NAME dir --target %[1]s, pool-start and pool-autostart it", path.Dir(d.Path))
		}
		if p.Shared {
			return nil, unfit("%s is local at the source and the shared pool %s at the destination", path.Dir(d.Path), p.Name)
		}
		if !fresh[p.Name] {
			// The daemon knows the files of a pool only as of its last look.
			err := do(ctx, c, "refresh pool "+p.Name, c.lim.Phase, func() error { return c.l.StoragePoolRefresh(p.handle, 0) })
			if err != nil {
				return nil, err
			}
			fresh[p.Name] = true
		}
		switch _, err := c.volume(ctx, d.Path); {
		case err == nil:
			return nil, unfit("the destination has a file %s already: if the directory is shared, give its pool a shared type; if it is left over, remove it there (virsh vol-delete %[1]s)", d.Path)
		case !isNotFound(err):
			return nil, err
		}
		need[p.Name] += d.Capacity
		if need[p.Name] > p.Available {
			return nil, unfit("pool %s of the destination has %.2f GiB free, the disks need %.2f", p.Name, float64(p.Available)/(1<<30), float64(need[p.Name])/(1<<30))
		}
		out = append(out, volume{d, p})
	}
	return out, nil
}

func (c *conn) volume(ctx context.Context, file string) (lv.StorageVol, error) {
	return call(ctx, c, "look up volume "+file, c.lim.Quick, func() (lv.StorageVol, error) { return c.l.StorageVolLookupByPath(file) })
}

// makeVolumes makes the files that disks are copied into, all or none.
func (c *conn) makeVolumes(ctx context.Context, disks []schemas.DiskCopy) (made []string, err error) {
	volumes, err := c.room(ctx, disks)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		doc, err := volumeXML(v.disk)
		if err == nil {
			err = do(ctx, c, "make volume "+v.disk.Path, c.lim.Phase, func() error {
				_, err := c.l.StorageVolCreateXML(v.in.handle, doc, 0)
				return err
			})
		}
		if err != nil {
			return nil, joined(err, c.removeVolumes(ctx, made))
		}
		made = append(made, v.disk.Path)
	}
	return made, nil
}

func volumeXML(d schemas.DiskCopy) (string, error) {
	var name strings.Builder
	if err := xml.EscapeText(&name, []byte(path.Base(d.Path))); err != nil {
		return "", err
	}
	return fmt.Sprintf("<volume><name>%s</name><capacity unit='bytes'>%d</capacity><allocation unit='bytes'>0</allocation><target><format type='%s'/></target></volume>",
		name.String(), int64(d.Capacity), d.Format), nil
}

// removeVolumes deletes files of pools; what is not there is no error.
func (c *conn) removeVolumes(ctx context.Context, files []string) error {
	for _, f := range files {
		v, err := c.volume(ctx, f)
		if isNotFound(err) {
			continue
		}
		if err == nil {
			err = do(ctx, c, "delete volume "+f, c.lim.Phase, func() error { return c.l.StorageVolDelete(v, 0) })
		}
		if err != nil && !isNotFound(err) {
			return err
		}
	}
	return nil
}

// Room says whether disks can be copied to this host, before anything is made.
func (d *Destination) Room(ctx context.Context, disks []schemas.DiskCopy) error {
	c, err := d.h.conn(ctx)
	if err != nil {
		return err
	}
	_, err = c.room(ctx, disks)
	return err
}

// Clear deletes files that were made for a move that is given up.
func (d *Destination) Clear(ctx context.Context, files []string) error { return d.h.clear(ctx, files) }

// Discard deletes the files that a move has copied away. One that a VM of this host
// still names is kept, which is an error.
func (s *Source) Discard(ctx context.Context, files []string) error { return s.h.clear(ctx, files) }

func (h *Host) clear(ctx context.Context, files []string) error {
	if len(files) == 0 {
		return nil
	}
	c, err := h.conn(ctx)
	if err != nil {
		return err
	}
	guests, err := c.guests(ctx, 0)
	if err != nil {
		return err
	}
	for i := range guests {
		for _, f := range files {
			if guests[i].names(f) {
				return unfit("%s is kept: %s names it", f, guests[i].Name)
			}
		}
	}
	// The daemon knows the files of a pool only as of its last look.
	pools, err := c.pools(ctx)
	if err != nil {
		return err
	}
	for i := range pools {
		p := &pools[i]
		if !slices.ContainsFunc(files, p.Holds) {
			continue
		}
		if err := do(ctx, c, "refresh pool "+p.Name, c.lim.Phase, func() error { return c.l.StoragePoolRefresh(p.handle, 0) }); err != nil {
			return err
		}
	}
	return c.removeVolumes(ctx, files)
}

func (g *Guest) names(file string) bool {
	for _, d := range g.Disks {
		if d.Path == file {
			return true
		}
	}
	return false
}

// joined is the first error with what else went wrong after it.
func joined(err, more error) error {
	if more != nil {
		return fmt.Errorf("%w (and then: %v)", err, more)
	}
	return err
}
