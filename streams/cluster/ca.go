package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/foreshift/foreshift/streams"
)

// Lives of certificates. A server's is renewed by running the command again when less
// than a third of it is left.
const (
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 2 * 365 * 24 * time.Hour
)

// authority is a private CA: good for the servers of one bus and for nothing else.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// ensureCA reads the CA in dir, or makes one.
func ensureCA(dir string) (*authority, error) {
	certPath, keyPath := filepath.Join(dir, streams.FileCA), filepath.Join(dir, fileCAKey)
	b, err := os.ReadFile(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		return newCA(dir)
	}
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, pem: b}
	if a.cert, err = parseCert(certPath, b); err != nil {
		return nil, err
	}
	if a.key, err = readKey(keyPath); err != nil {
		return nil, err
	}
	return a, nil
}

func newCA(dir string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t, err := template("Foreshift bus CA", caLife)
	if err != nil {
		return nil, err
	}
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	a := &authority{dir: dir, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := writeKey(filepath.Join(dir, fileCAKey), key); err != nil {
		return nil, err
	}
	return a, os.WriteFile(filepath.Join(dir, streams.FileCA), a.pem, 0o644)
}

// ensureCert makes a node's certificate when it is missing, old, of another CA, or does
// not name its addresses.
func (a *authority) ensureCert(dir string, n Node) error {
	if err := os.WriteFile(filepath.Join(dir, streams.FileCA), a.pem, 0o644); err != nil {
		return err
	}
	certPath, keyPath := filepath.Join(dir, fileCert), filepath.Join(dir, fileKey)
	var names []string
	for _, addr := range []string{n.Client, n.Route} {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return err
		}
		names = append(names, host)
	}
	if a.good(certPath, keyPath, names) {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t, err := template(n.Name, serverLife)
	if err != nil {
		return err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} // it calls the others, too
	for _, host := range names {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return err
	}
	if err := writeKey(keyPath, key); err != nil {
		return err
	}
	return os.WriteFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// good says whether a certificate can stay.
func (a *authority) good(certPath, keyPath string, names []string) bool {
	b, err := os.ReadFile(certPath)
	if err != nil {
		return false
	}
	c, err := parseCert(certPath, b)
	if err != nil || c.CheckSignatureFrom(a.cert) != nil || time.Until(c.NotAfter) < serverLife/3 {
		return false
	}
	key, err := readKey(keyPath)
	if err != nil || !key.PublicKey.Equal(c.PublicKey) {
		return false
	}
	for _, n := range names {
		if c.VerifyHostname(n) != nil {
			return false
		}
	}
	return true
}

func template(name string, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"Foreshift"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life)}, nil
}

func parseCert(path string, b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: no certificate in it", path)
	}
	return x509.ParseCertificate(block.Bytes)
}

// readKey reads a private key; one that others can read is refused.
func readKey(path string) (*ecdsa.PrivateKey, error) {
	b, err := streams.ReadSecret(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s: no key in it", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T", path, k)
	}
	return key, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
