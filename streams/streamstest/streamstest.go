// Package streamstest starts a bus for tests: a real server in the test's process
// with all streams applied, gone with the test.
//
// What comes in: a test and the hosts it speaks of. What goes out: an embedded
// server, connections by role, and signing keys. It is promised that every
// connection and the server are closed when the test ends, and that what a test
// publishes through [Raw] reaches the stream byte for byte, however wrong it is.
package streamstest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
	"github.com/nats-io/nats.go"
)

// Hosts are those of a server started without any.
var Hosts = []schemas.HostID{"h1", "h2"}

// Start runs a server with every stream of the table. Hosts defaults to [Hosts];
// each has its durable consumer, and keys of its own for its agent and actuator.
func Start(t testing.TB, hosts ...schemas.HostID) *embedded.Server {
	t.Helper()
	s := StartBare(t, hosts...)
	admin := Connect(t, s, streams.RoleAdmin)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := streams.Apply(ctx, admin, s.ApplyOptions()); err != nil {
		t.Fatal(err)
	}
	return s
}

// StartBare runs a server on which nobody has made a stream yet.
func StartBare(t testing.TB, hosts ...schemas.HostID) *embedded.Server {
	t.Helper()
	if len(hosts) == 0 {
		hosts = Hosts
	}
	s, err := embedded.Start(embedded.Options{StateDir: t.TempDir(), Hosts: hosts, PerHost: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// Connect opens the bus as a role, until the test ends. Warnings are not logged:
// tests provoke them.
func Connect(t testing.TB, s *embedded.Server, role string) *streams.Bus {
	t.Helper()
	c := s.Credentials(role)
	c.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b, err := streams.Connect(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// Raw stores a message as it is, as the first role that may write its subject, and
// gives its sequence.
func Raw(t testing.TB, s *embedded.Server, m *nats.Msg) uint64 {
	t.Helper()
	st, err := streams.StreamFor(m.Subject)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range streams.RoleNames() {
		if !streams.MayWrite(role, m.Subject) {
			continue
		}
		b := Connect(t, s, role)
		defer b.Close()
		c := map[streams.Account]*streams.Conn{streams.Tel: b.Tel, streams.Ctrl: b.Ctrl, streams.AuditTrail: b.Audit}[st.Account]
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		ack, err := c.JS.PublishMsg(ctx, m)
		if err != nil {
			t.Fatalf("%s: %v", m.Subject, err)
		}
		return ack.Sequence
	}
	t.Fatalf("%s: no role may write it", m.Subject)
	return 0
}
