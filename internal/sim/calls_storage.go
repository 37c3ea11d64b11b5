package sim

import (
	"encoding/xml"
	"path"
	"strings"

	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/internal/sim/world"
	"github.com/foreshift/foreshift/schemas"
)

// The storage pools of every host: the fleet's shared storage and, with
// [Config.LocalDisks], a directory of its own.
const (
	poolName   = "shared"
	SharedPath = "/srv/shared"
	localName  = "images"
	LocalPath  = "/var/lib/libvirt/images"
)

// diskPath is where the disk of a VM lies, on whatever host.
func (f *Fleet) diskPath(name string) string {
	dir := SharedPath
	if f.cfg.LocalDisks {
		dir = LocalPath
	}
	return dir + "/" + strings.ToLower(name) + ".qcow2"
}

// pools are those of a host.
func (d *daemon) pools() []rpc.Pool {
	out := []rpc.Pool{{Name: poolName, UUID: uuidOf(d.f.cfg.Seed, 3, 0)}}
	if d.f.cfg.LocalDisks {
		out = append(out, rpc.Pool{Name: localName, UUID: uuidOf(d.f.cfg.Seed, 3, 1+d.index)})
	}
	return out
}

func (d *daemon) pool(is func(rpc.Pool) bool) (rpc.Pool, bool) {
	for _, p := range d.pools() {
		if is(p) {
			return p, true
		}
	}
	return rpc.Pool{}, false
}

// onPool is a call that takes a storage pool.
func onPool(do func(*request, rpc.Pool) error) handler {
	return locked(func(r *request) error {
		asked := r.in.Pool()
		if err := r.args(); err != nil {
			return err
		}
		p, ok := r.d.pool(func(p rpc.Pool) bool { return p.Name == asked.Name || p.UUID == asked.UUID })
		if !ok {
			return rpc.Errorf(rpc.CodeNoStoragePool, "Storage pool not found: no storage pool with matching name '%.80s'", asked.Name)
		}
		return do(r, p)
	})
}

func says(v func(*request, rpc.Pool)) handler {
	return onPool(func(r *request, p rpc.Pool) error { v(r, p); return nil })
}

var poolCalls = map[rpc.Proc]handler{
	rpc.ConnectListAllStoragePools: func(r *request) error {
		results, flags := r.in.I32(), r.in.U32()
		if err := r.args(); err != nil {
			return err
		}
		pools := r.d.pools()
		if flags&3 == 1 { // inactive ones only
			pools = nil
		}
		if results != 0 {
			r.out.U32(uint32(len(pools)))
			for _, p := range pools {
				r.out.Pool(p)
			}
		} else {
			r.out.U32(0)
		}
		r.out.U32(uint32(len(pools)))
		return nil
	},
	rpc.ConnectNumOfStoragePools: func(r *request) error { r.out.I32(int32(len(r.d.pools()))); return nil },
	rpc.ConnectListStoragePools: func(r *request) error {
		r.out.U32(uint32(len(r.d.pools())))
		for _, p := range r.d.pools() {
			r.out.Str(p.Name)
		}
		return nil
	},
	rpc.StoragePoolLookupByName: func(r *request) error {
		name := r.in.Str()
		if err := r.args(); err != nil {
			return err
		}
		p, ok := r.d.pool(func(p rpc.Pool) bool { return p.Name == name })
		if !ok {
			return rpc.Errorf(rpc.CodeNoStoragePool, "Storage pool not found: no storage pool with matching name '%.80s'", name)
		}
		r.out.Pool(p)
		return nil
	},
	rpc.StoragePoolLookupByUUID: func(r *request) error {
		id := r.in.UUID()
		if err := r.args(); err != nil {
			return err
		}
		p, ok := r.d.pool(func(p rpc.Pool) bool { return p.UUID == id })
		if !ok {
			return rpc.Errorf(rpc.CodeNoStoragePool, "Storage pool not found: no storage pool with matching uuid '%s'", schemas.VMID(id))
		}
		r.out.Pool(p)
		return nil
	},
	rpc.StoragePoolGetInfo: says(func(r *request, p rpc.Pool) {
		capacity, used := r.d.storage(p)
		r.out.U32(2) // running
		r.out.U64(capacity)
		r.out.U64(used)
		r.out.U64(capacity - used)
	}),
	rpc.StoragePoolGetXMLDesc: says(func(r *request, p rpc.Pool) {
		capacity, used := r.d.storage(p)
		r.out.Str(poolXML(p, capacity, used))
	}),
	rpc.StoragePoolGetAutostart: says(func(r *request, _ rpc.Pool) { r.out.I32(1) }),
	rpc.StoragePoolNumOfVolumes: says(func(r *request, p rpc.Pool) {
		n := len(r.d.f.vms)
		if p.Name == localName {
			n = len(r.d.volumes)
		}
		r.out.I32(int32(n))
	}),
	rpc.StoragePoolIsActive:     says(func(r *request, _ rpc.Pool) { r.out.Bool(true) }),
	rpc.StoragePoolIsPersistent: says(func(r *request, _ rpc.Pool) { r.out.Bool(true) }),
	rpc.StoragePoolRefresh:      says(func(*request, rpc.Pool) {}),
	rpc.StorageVolCreateXML:     onPool(createVolume),
	rpc.StorageVolLookupByPath: locked(func(r *request) error {
		file := r.in.Str()
		if err := r.args(); err != nil {
			return err
		}
		if _, ok := r.d.volumes[file]; !ok {
			return rpc.Errorf(rpc.CodeNoStorageVol, "Storage volume not found: no storage vol with matching path '%.80s'", file)
		}
		r.volume(file)
		return nil
	}),
	rpc.StorageVolDelete: locked(func(r *request) error {
		_, _, key := r.in.Str(), r.in.Str(), r.in.Str()
		if err := r.args(); err != nil {
			return err
		}
		if _, ok := r.d.volumes[key]; !ok {
			return rpc.Errorf(rpc.CodeNoStorageVol, "Storage volume not found: no storage vol with matching key '%.80s'", key)
		}
		delete(r.d.volumes, key)
		return nil
	}),
	rpc.DomainGetBlockInfo: onGuest(func(r *request, g *world.Guest) *rpc.Error {
		size := uint64(g.VM.Disk)
		r.out.U64(size / 2) // allocation
		r.out.U64(size)
		r.out.U64(size / 2)
		return nil
	}),
}

// volume appends libvirt's remote_nonnull_storage_vol.
func (r *request) volume(file string) {
	r.out.Str(localName)
	r.out.Str(path.Base(file))
	r.out.Str(file)
}

func createVolume(r *request, p rpc.Pool) error {
	doc := r.in.Str()
	if err := r.args(); err != nil {
		return err
	}
	var v struct {
		Name     string `xml:"name"`
		Capacity uint64 `xml:"capacity"`
	}
	if err := xml.Unmarshal([]byte(doc), &v); err != nil || v.Name == "" || strings.Contains(v.Name, "/") {
		return rpc.Errorf(rpc.CodeXML, "XML error: volume %.80q: %v", v.Name, err)
	}
	if p.Name != localName {
		return rpc.Errorf(rpc.CodeNoSupport, "this function is not supported by the connection driver: volumes of pool %s", p.Name)
	}
	file := LocalPath + "/" + v.Name
	if _, there := r.d.volumes[file]; there {
		return rpc.Errorf(rpc.CodeStorageVolExist, "storage volume '%.80s' exists already", v.Name)
	}
	r.d.volumes[file] = v.Capacity
	r.volume(file)
	return nil
}

// storage is the capacity and use of a pool in bytes: shared storage holds all
// disks, and could hold as many again; a host's own is as large.
func (d *daemon) storage(p rpc.Pool) (capacity, used uint64) {
	for i := range d.f.vms {
		capacity += 2 * uint64(d.f.vms[i].Disk)
	}
	if p.Name != localName {
		return capacity, capacity / 2
	}
	if d.f.cfg.LocalSpace > 0 {
		capacity = uint64(d.f.cfg.LocalSpace)
	}
	for _, n := range d.volumes {
		used += n
	}
	return max(capacity, used), used
}

// Volumes are the files in a host's own pool, with their sizes.
func (f *Fleet) Volumes(host schemas.HostID) map[string]schemas.Bytes {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[string]schemas.Bytes{}
	for file, n := range f.daemons[f.byHost[host]].volumes {
		out[file] = schemas.Bytes(n)
	}
	return out
}

// local says why a disk on the host alone keeps a VM from migrating with the flags,
// as libvirt does.
func (r *request) local(name string, flags uint32) error {
	if !r.d.f.cfg.LocalDisks || flags&world.FlagNonSharedDisk != 0 {
		return nil
	}
	return rpc.Errorf(rpc.CodeMigrateUnsafe, "Unsafe migration: Migration without shared storage is unsafe: %s", r.d.f.diskPath(name))
}

// waits says why a disk cannot be copied to this host, as libvirt does.
func (r *request) waits(name string, flags uint32) error {
	if flags&world.FlagNonSharedDisk == 0 {
		return nil
	}
	if _, there := r.d.volumes[r.d.f.diskPath(name)]; !there {
		return rpc.Errorf(rpc.CodeOperationFailed, "operation failed: disk vda: %s does not exist and was not made", r.d.f.diskPath(name))
	}
	return nil
}
