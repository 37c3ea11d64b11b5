// Package cluster writes what a cluster of nats-servers needs to be Foreshift's bus: a
// private CA, a certificate and a configuration for each server, and the accounts.
//
// What comes in: a directory, the servers with the addresses they listen on, and what
// each carries. What goes out: files to be copied to the servers, and ca.pem, which
// every service needs beside its keys. Repeated, it keeps the keys that are there.
//
// What is promised:
//
//   - Clients and servers speak TLS, and servers know each other by certificates of
//     this CA; without TLS it writes nothing that is not on loopback.
//   - Servers tagged "ctrl" write every message to disk before they acknowledge it
//     (sync_interval: always is server-wide), and `foreshift streams apply --placement`
//     puts the streams of commands and of the audit trail on them alone. By default
//     each server carries both: the fleet's telemetry is a few messages a second.
//   - Keys of the CA and of the servers have mode 0600.
//
// Why: acknowledged writes that nobody has fsynced are lost when power fails on all
// servers at once; for telemetry that does not matter, for commands it does.
package cluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Node is one nats-server.
type Node struct {
	Name   string
	Client string // host:port for services
	Route  string // host:port for the other servers
	Tags   []string
	Store  string // directory of JetStream's files on that server; default /var/lib/nats
}

// The tags that streams are placed by.
const (
	TagCtrl = streams.TagCtrl // commands, plans, acts, audit: written through
	TagTel  = streams.TagTel  // telemetry
)

// Options of a cluster.
type Options struct {
	Dir    string // of the credentials, where the files go as well
	Name   string // default foreshift
	Nodes  []Node // 3 or 5; each kind of tag on at least 3 of them
	Hosts  []schemas.HostID
	Shared bool // and so have the roles that serve all hosts: for simulated ones
	NoTLS  bool // loopback only
	// At is the directory of a server's files on that server; default where they are
	// written. nats-server takes relative names for its working directory's.
	At string
}

// Files of a node, in Dir/servers/<name>/.
const (
	DirServers = "servers"
	FileConf   = "nats-server.conf"
	fileCert   = "server.pem"
	fileKey    = "server-key.pem"
	fileCAKey  = "ca-key.pem"
)

// ConfigOf is where a node's configuration is.
func ConfigOf(dir, node string) string { return filepath.Join(dir, DirServers, node, FileConf) }

// URL names all servers, for --nats.
func (o Options) URL() string {
	scheme := "tls://"
	if o.NoTLS {
		scheme = "nats://"
	}
	urls := make([]string, len(o.Nodes))
	for i, n := range o.Nodes {
		urls[i] = scheme + n.Client
	}
	return strings.Join(urls, ",")
}

// Validate reports all faults at once.
func (o Options) Validate() error {
	var faults []string
	bad := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	if len(o.Nodes) != 3 && len(o.Nodes) != 5 && len(o.Nodes) != 6 {
		bad("%d servers: 3, 5 or 6 are wanted, so that one may be lost", len(o.Nodes))
	}
	seen := map[string]bool{}
	count := map[string]int{}
	for _, n := range o.Nodes {
		if err := schemas.CheckToken("server", n.Name); err != nil {
			bad("%v", err)
		}
		for _, a := range []string{n.Name, n.Client, n.Route} {
			if seen[a] {
				bad("server %s: %s is named twice", n.Name, a)
			}
			seen[a] = true
		}
		for what, a := range map[string]string{"client": n.Client, "route": n.Route} {
			host, port, err := net.SplitHostPort(a)
			if err != nil || host == "" || port == "" {
				bad("server %s: %s address %q: want host:port", n.Name, what, a)
			} else if o.NoTLS && !streams.Loopback(host) {
				bad("server %s: %s address %q is not on loopback: that needs TLS", n.Name, what, a)
			}
		}
		for _, t := range n.Tags {
			if t != TagCtrl && t != TagTel {
				bad("server %s: tag %q: want %s or %s", n.Name, t, TagCtrl, TagTel)
			}
		}
		for _, t := range []string{TagCtrl, TagTel} {
			if n.has(t) {
				count[t]++
			}
		}
	}
	for _, t := range []string{TagCtrl, TagTel} {
		if count[t] < 3 {
			bad("%d servers carry %s: its streams have 3 replicas", count[t], t)
		}
	}
	if len(faults) == 0 {
		return nil
	}
	slices.Sort(faults)
	return fmt.Errorf("cluster: %s", strings.Join(faults, "; "))
}

// has says whether a node carries a kind of stream; one without tags carries all.
func (n Node) has(tag string) bool { return len(n.Tags) == 0 || slices.Contains(n.Tags, tag) }

// Write makes what is missing and gives the paths of the configurations.
func Write(o Options) (configs []string, err error) {
	if o.Name == "" {
		o.Name = "foreshift"
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if _, _, err := streams.EnsureAuth(streams.AuthOptions{Dir: o.Dir, Hosts: o.Hosts, Own: true, Shared: o.Shared}); err != nil {
		return nil, err
	}
	accounts, err := os.ReadFile(filepath.Join(o.Dir, streams.FileAccounts))
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	var ca *authority
	if !o.NoTLS {
		if ca, err = ensureCA(o.Dir); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
	}
	for _, n := range o.Nodes {
		dir := filepath.Join(o.Dir, DirServers, n.Name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
		if ca != nil {
			if err := ca.ensureCert(dir, n); err != nil {
				return nil, fmt.Errorf("cluster: server %s: %w", n.Name, err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, streams.FileAccounts), accounts, 0o600); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
		path := filepath.Join(dir, FileConf)
		if err := os.WriteFile(path, []byte(o.config(n)), 0o600); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
		configs = append(configs, path)
	}
	return configs, nil
}
