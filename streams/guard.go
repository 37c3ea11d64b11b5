package streams

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats.go"
)

// FileCA is the certificate of the bus's private CA, beside the keys of a role.
const FileCA = "ca.pem"

// ErrNoTLS refuses to speak to a bus off loopback in the clear.
var ErrNoTLS = errors.New("not without TLS off loopback")

// Loopback says whether a host name or address stays on this machine.
func Loopback(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// secure gives the connection's options for TLS. A bus that is not on loopback is
// spoken to over TLS only: by the CA in the role's directory, or, for a tls:// address,
// by the system's. Keys prove who we are; TLS proves who the server is.
func secure(c Credentials) ([]nats.Option, error) {
	ca := filepath.Join(c.Dir, FileCA)
	if c.TLS.CA != "" {
		ca = c.TLS.CA
	}
	_, err := os.Stat(ca)
	switch {
	case err == nil:
		return caOptions(c, ca)
	case c.TLS.CA != "":
		return nil, fmt.Errorf("certificate of the bus's CA: %w", err)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	for _, s := range strings.Split(c.URL, ",") {
		u, err := serverURL(s)
		if err != nil {
			return nil, err
		}
		if u.Scheme != "tls" && u.Scheme != "wss" && !Loopback(u.Hostname()) {
			return nil, fmt.Errorf("%s: %w: put the bus's %s beside the keys in %s (`foreshift streams cluster` makes it), or use a tls:// address whose certificate this system trusts",
				u.Redacted(), ErrNoTLS, FileCA, c.Dir)
		}
	}
	return c.TLS.client(), nil
}

// client shows our certificate to servers that ask for one.
func (f TLSFiles) client() []nats.Option {
	if f.Cert == "" {
		return nil
	}
	return []nats.Option{nats.ClientCert(f.Cert, f.Key)}
}

// caOptions: servers off loopback must have a certificate of the CA. On loopback the
// embedded bus has none, and stays as it is unless it is asked for by tls://.
func caOptions(c Credentials, ca string) ([]nats.Option, error) {
	for _, s := range strings.Split(c.URL, ",") {
		u, err := serverURL(s)
		if err != nil {
			return nil, err
		}
		if u.Scheme == "tls" || !Loopback(u.Hostname()) {
			return append(c.TLS.client(), nats.RootCAs(ca)), nil
		}
	}
	return nil, nil
}

func serverURL(s string) (*url.URL, error) {
	s = strings.TrimSpace(s)
	if !strings.Contains(s, "://") {
		s = "nats://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("address of the bus %.80q: want nats://HOST:PORT or tls://HOST:PORT", s)
	}
	return u, nil
}

// ReadSecret reads a file with a secret. One that others can read or write is refused
// with the command that mends it.
func ReadSecret(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if m := st.Mode().Perm(); m&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o and is open to others: run `chmod 0600 %s`", path, m, path)
	}
	return os.ReadFile(path)
}
