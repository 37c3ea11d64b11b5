package plane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// keyFile is where the private key of an epoch is kept.
func (p *Plane) keyFile(epoch int) string {
	return filepath.Join(p.cfg.Dir, fmt.Sprintf("%s.%d.key", p.cfg.Prefix, epoch))
}

// key reads the private key of an epoch, and makes it when there is none.
func (p *Plane) key(epoch int) (wgtypes.Key, error) {
	path := p.keyFile(epoch)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		k, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			return k, fmt.Errorf("tunnel key: %w", err)
		}
		if err := os.MkdirAll(p.cfg.Dir, 0o700); err != nil {
			return k, fmt.Errorf("tunnel key: %w", err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return k, fmt.Errorf("tunnel key: %w", err)
		}
		_, err = f.WriteString(k.String() + "\n")
		return k, errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		return wgtypes.Key{}, fmt.Errorf("tunnel key: %w", err)
	}
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o077 != 0 {
		return wgtypes.Key{}, fmt.Errorf("tunnel key: %s has mode %04o and is open to others: run `chmod 0600 %s`", path, st.Mode().Perm(), path)
	}
	k, err := wgtypes.ParseKey(strings.TrimSpace(string(b)))
	if err != nil {
		return k, fmt.Errorf("tunnel key: %s: %w; remove it and a new one is made", path, err)
	}
	return k, nil
}

// Epochs are those of which a private key is kept, in order.
func (p *Plane) Epochs() ([]int, error) {
	names, err := filepath.Glob(filepath.Join(p.cfg.Dir, p.cfg.Prefix+".*.key"))
	if err != nil {
		return nil, err
	}
	var out []int
	for _, n := range names {
		var e int
		if _, err := fmt.Sscanf(strings.TrimPrefix(filepath.Base(n), p.cfg.Prefix), ".%d.key", &e); err == nil && e > 0 {
			out = append(out, e)
		}
	}
	sortInts(out)
	return out, nil
}
