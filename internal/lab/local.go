package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/foreshift/foreshift/schemas"
)

// localPool is the directory of a host's own storage pool, as the host sees it.
const localPool = "/var/lib/libvirt/images"

// written is how much of a local disk the guest writes itself, at most; the rest
// keeps what it was made with.
const written = 4 << 20

// LocalFile is a guest's disk in the host's own pool, seen from outside the host.
func (h *Host) LocalFile(guest string) string {
	return filepath.Join(h.dir, "var", "images", guest+".img")
}

// localContent is what a local disk is made with: nothing in it can be skipped as
// empty, and each block is different.
func localContent(size schemas.Bytes) []byte {
	b := make([]byte, int(size))
	for i, x := 0, uint64(1); i+8 <= len(b); i += 8 {
		x = x*6364136223846793005 + 1442695040888963407
		for k := range 8 {
			b[i+k] = byte(x >> (8 * k))
		}
	}
	return b
}

// CheckLocal holds the disks of a local guest to the rule: whole on the host where it
// runs, and no file of it on any other. Nil when they are so.
func (l *Lab) CheckLocal(g *Guest, at *Host) error {
	var errs []error
	for _, h := range l.Hosts {
		b, err := os.ReadFile(h.LocalFile(g.Name))
		switch {
		case h != at && err == nil:
			errs = append(errs, fmt.Errorf("a disk of %s is left on %s", g.Name, h.Name))
		case h != at && errors.Is(err, fs.ErrNotExist):
		case err != nil:
			errs = append(errs, err)
		case len(b) != int(g.Local):
			errs = append(errs, fmt.Errorf("the disk of %s has %d bytes on %s, want %d", g.Name, len(b), h.Name, int(g.Local)))
		case !bytes.Equal(b[written:], localContent(g.Local)[written:]):
			errs = append(errs, fmt.Errorf("the disk of %s is damaged on %s", g.Name, h.Name))
		}
	}
	return errors.Join(errs...)
}

// definePool gives a host its own storage pool. libvirtd starts it again with itself.
func (h *Host) definePool(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(h.dir, "var", "images"), 0o711); err != nil {
		return err
	}
	for _, c := range [][]string{{"pool-define-as", "images", "dir", "--target", localPool}, {"pool-start", "images"}, {"pool-autostart", "images"}} {
		if _, err := h.virsh(ctx, c...); err != nil {
			return err
		}
	}
	return nil
}
