package streamstest

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/cluster"
	"github.com/foreshift/foreshift/streams/embedded"
)

// Cluster is three servers with TLS between them and to their clients, and every stream
// of the table three times.
type Cluster struct {
	cluster.Options
	Servers []*embedded.Node // by node; nil while it is down
	configs []string
	t       testing.TB
}

// ClusterOptions are those of three servers on free ports of loopback.
func ClusterOptions(t testing.TB, dir string, hosts ...schemas.HostID) cluster.Options {
	t.Helper()
	if len(hosts) == 0 {
		hosts = Hosts
	}
	o := cluster.Options{Dir: dir, Hosts: hosts, Shared: true}
	for i := range 3 {
		o.Nodes = append(o.Nodes, cluster.Node{Name: fmt.Sprintf("n%d", i), Client: freeAddress(t), Route: freeAddress(t), Store: filepath.Join(dir, fmt.Sprintf("store%d", i))})
	}
	return o
}

// Memory is a directory that is gone with the test, in memory where there is such a
// place: writing through to disk is a promise to the operator, not to a test, and takes
// most of the time of one.
func Memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "foreshift-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("%s stays: %v", dir, err)
		}
	})
	return dir
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// StartCluster runs three servers in this process and applies the table to them.
func StartCluster(t testing.TB, hosts ...schemas.HostID) *Cluster {
	t.Helper()
	c := &Cluster{Options: ClusterOptions(t, Memory(t), hosts...), Servers: make([]*embedded.Node, 3), t: t}
	var err error
	if c.configs, err = cluster.Write(c.Options); err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 3)
	for i := range c.Servers {
		go func() {
			var err error
			c.Servers[i], err = embedded.Serve(c.configs[i])
			started <- err
		}()
	}
	for range c.Servers {
		if err := <-started; err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for i := range c.Servers {
			c.Stop(i)
		}
	})
	ApplyReplicated(t, c.Options)
	return c
}

// Stop ends a server.
func (c *Cluster) Stop(i int) {
	if s := c.Servers[i]; s != nil {
		s.Shutdown()
		c.Servers[i] = nil
	}
}

// Start starts it again.
func (c *Cluster) Start(i int) {
	c.t.Helper()
	var err error
	if c.Servers[i], err = embedded.Serve(c.configs[i]); err != nil {
		c.t.Fatal(err)
	}
}

// Connect opens the bus as a role, until the test ends.
func (c *Cluster) Connect(role string) *streams.Bus {
	c.t.Helper()
	return ConnectTo(c.t, c.Options, role)
}

// ConnectTo opens a cluster's bus as a role, until the test ends.
func ConnectTo(t testing.TB, o cluster.Options, role string) *streams.Bus {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		b, err := streams.Connect(ctx, streams.Credentials{URL: o.URL(), Role: role, Dir: o.Dir, Log: slog.New(slog.DiscardHandler)})
		cancel()
		if err == nil {
			t.Cleanup(b.Close)
			return b
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// ApplyReplicated makes every stream three times, placed by tags, as soon as the cluster
// has a leader.
func ApplyReplicated(t testing.TB, o cluster.Options) {
	t.Helper()
	admin := ConnectTo(t, o, streams.RoleAdmin)
	deadline := time.Now().Add(60 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		_, err := streams.Apply(ctx, admin, streams.ApplyOptions{Hosts: o.Hosts, Replicas: 3, Placement: true, Scale: streams.ScaleEmbedded})
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("streams not applied: %v", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
