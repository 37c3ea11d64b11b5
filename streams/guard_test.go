package streams

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A CA named in the credentials counts as one beside the keys does, and more than it.
func TestTLSFilesOfTheCredentials(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "elsewhere.pem")
	if err := os.WriteFile(ca, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Credentials{URL: "nats://bus.example:4222", Dir: dir}
	if _, err := secure(c); err == nil {
		t.Error("a bus off loopback is spoken to in the clear")
	}
	c.TLS.CA = ca
	if o, err := secure(c); err != nil || len(o) != 1 {
		t.Error(len(o), err)
	}
	c.TLS.Cert, c.TLS.Key = "cert.pem", "key.pem"
	if o, err := secure(c); err != nil || len(o) != 2 {
		t.Error(len(o), err)
	}
	c.TLS.CA = filepath.Join(dir, "none.pem")
	if _, err := secure(c); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Error(err)
	}
}
