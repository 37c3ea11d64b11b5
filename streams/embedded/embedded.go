// Package embedded runs the bus inside a process: a NATS server with the same
// accounts, users and permissions that a real cluster gets, on loopback only.
//
// What comes in: a state directory. What goes out: a running server, and in that
// directory the keys of every role, the pinned authorities, JetStream's files and
// contexts for the nats command line.
//
// What is promised:
//
//   - Keys are made once and kept with mode 0600, directories with 0700. A key
//     file that others can read is refused with the command that mends it.
//   - It listens on 127.0.0.1 and nowhere else.
//   - Started again on the same directory, it goes on where it ended.
//   - Shutdown stops everything that Start has started.
//
// It creates no streams: that is streams.Apply, here as everywhere.
package embedded

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/nats-io/nats-server/v2/server"
)

// Options of an embedded server.
type Options struct {
	StateDir string
	Port     int    // 0: any that is free
	Listen   string // empty or a loopback address
	Hosts    []schemas.HostID
	// PerHost gives every host's agent and actuator keys of their own, as on a
	// real fleet. Otherwise the roles "agent" and "actuator" serve all hosts.
	PerHost bool
	// SyncAlways writes every message to disk before it is acknowledged.
	SyncAlways bool
}

// Server is a running embedded server.
type Server struct {
	opt Options
	srv *server.Server
	url string
}

// readyTimeout bounds the start; recovery of a large store takes a while.
const readyTimeout = 60 * time.Second

// storeLimit bounds JetStream's files. It only has to be above the sum of the
// streams' sizes at [streams.ScaleEmbedded]; nothing is allocated ahead.
const storeLimit = 64 << 30

// Start makes the keys that are missing and runs the server until Shutdown.
func Start(opt Options) (*Server, error) {
	s, err := start(opt)
	if err != nil {
		return nil, fmt.Errorf("embedded bus: %w", err)
	}
	return s, nil
}

func start(opt Options) (*Server, error) {
	if opt.StateDir == "" {
		return nil, fmt.Errorf("a state directory is needed")
	}
	dir, err := filepath.Abs(opt.StateDir)
	if err != nil {
		return nil, err
	}
	opt.StateDir = dir
	host := opt.Listen
	if host == "" {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("listen on %q: only loopback addresses are served; run a nats-server with TLS for others", host)
	}
	if opt.Port < 0 || opt.Port > 65535 {
		return nil, fmt.Errorf("port %d: want 0 to 65535", opt.Port)
	}
	for _, h := range opt.Hosts {
		if err := schemas.CheckToken("host", string(h)); err != nil {
			return nil, err
		}
	}
	if err := free(host, opt.Port); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	users, _, err := streams.EnsureAuth(streams.AuthOptions{Dir: dir, Hosts: opt.Hosts, Shared: true, Own: opt.PerHost})
	if err != nil {
		return nil, err
	}
	conf, err := configure(opt, host, users)
	if err != nil {
		return nil, err
	}
	srv, err := run(conf)
	if err != nil {
		return nil, err
	}
	s := &Server{opt: opt, srv: srv, url: "nats://" + srv.Addr().String()}
	if err := writeContexts(dir, s.url); err != nil {
		s.Shutdown()
		return nil, err
	}
	return s, nil
}

// free says at once that a port is taken; the server itself would only not become
// ready.
func free(host string, port int) error {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("port %d: %w", port, err)
	}
	return l.Close()
}

// configure writes the server's configuration, which holds public keys only, and
// gives its path.
func configure(opt Options, host string, users []streams.User) (string, error) {
	accounts, err := streams.ServerAccounts(users, opt.Hosts)
	if err != nil {
		return "", err
	}
	port := opt.Port
	if port == 0 {
		port = server.RANDOM_PORT
	}
	var w strings.Builder
	fmt.Fprintf(&w, "server_name: foreshift\nlisten: %q\n", net.JoinHostPort(host, strconv.Itoa(port)))
	fmt.Fprintf(&w, "max_payload: %d\nmax_pending: %d\n", streams.MaxPayload+64<<10, 128<<20)
	fmt.Fprintf(&w, "jetstream { store_dir: %q, max_memory_store: %d, max_file_store: %d", filepath.Join(opt.StateDir, "jetstream"), 256<<20, int64(storeLimit))
	if opt.SyncAlways {
		w.WriteString(", sync_interval: always")
	}
	w.WriteString(" }\n")
	w.WriteString(accounts)
	path := filepath.Join(opt.StateDir, "nats-server.conf")
	if err := os.WriteFile(path, []byte(w.String()), 0o600); err != nil {
		return "", err
	}
	return path, nil
}

func run(conf string) (*server.Server, error) {
	o, err := server.ProcessConfigFile(conf)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", conf, err)
	}
	o.NoSigs, o.NoLog = true, true
	srv, err := server.NewServer(o)
	if err != nil {
		return nil, err
	}
	go srv.Start()
	if !srv.ReadyForConnections(readyTimeout) {
		srv.Shutdown()
		srv.WaitForShutdown()
		return nil, fmt.Errorf("not ready after %v: is the state directory used by another process?", readyTimeout)
	}
	return srv, nil
}

// URL is where clients connect.
func (s *Server) URL() string { return s.url }

// Dir is the state directory.
func (s *Server) Dir() string { return s.opt.StateDir }

// Credentials are those of a role; see [streams.RoleNames].
func (s *Server) Credentials(role string) streams.Credentials {
	return streams.Credentials{URL: s.url, Role: role, Dir: s.opt.StateDir}
}

// ApplyOptions are those that fit this server.
func (s *Server) ApplyOptions() streams.ApplyOptions {
	return streams.ApplyOptions{Hosts: s.opt.Hosts, Replicas: 1, Scale: streams.ScaleEmbedded}
}

// Shutdown stops the server and waits for it; its files are then complete.
func (s *Server) Shutdown() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

// Port is where it listens.
func (s *Server) Port() int {
	if a, ok := s.srv.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}
