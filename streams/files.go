package streams

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nkeys"
)

// Files of a state directory.
const (
	DirCreds        = "creds"
	FileAuthorities = "authorities.json"
)

// SeedFile is where the connection key of a role in an account is kept.
func SeedFile(dir, role string, a Account) string {
	return filepath.Join(dir, DirCreds, role+"."+string(a)+".nk")
}

// SigningFile is where the signing key of a role is kept.
func SigningFile(dir, role string) string {
	return filepath.Join(dir, DirCreds, role+".sign.nk")
}

// ReadSeed reads a key. A file that others can read or write is refused with the
// command that mends it.
func ReadSeed(path string) (nkeys.KeyPair, error) {
	b, err := ReadSecret(path)
	if err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	kp, err := nkeys.FromSeed(bytes.TrimSpace(b))
	if err != nil {
		return nil, fmt.Errorf("seed: %s: %w", path, err)
	}
	return kp, nil
}

// EnsureSeed reads the key at path, or makes one there, and gives its public part.
func EnsureSeed(path string) (nkeys.KeyPair, string, error) {
	kp, err := ReadSeed(path)
	if errors.Is(err, fs.ErrNotExist) {
		kp, err = newSeed(path)
	}
	if err != nil {
		return nil, "", err
	}
	pub, err := kp.PublicKey()
	if err != nil {
		return nil, "", fmt.Errorf("seed: %s: %w", path, err)
	}
	return kp, pub, nil
}

func newSeed(path string) (nkeys.KeyPair, error) {
	kp, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("seed: make a key: %w", err)
	}
	seed, err := kp.Seed()
	if err != nil {
		return nil, fmt.Errorf("seed: make a key: %w", err)
	}
	if err := writeFile(path, append(seed, '\n'), 0o600); err != nil {
		return nil, err
	}
	return kp, nil
}

// writeFile replaces a file at once: a reader sees the old or the new one, never
// half. Its directory is made, closed to others.
func writeFile(path string, b []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
