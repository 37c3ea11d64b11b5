package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// bus is a real server with a link between two hosts, and what the roles said of it.
type bus struct {
	t      *testing.T
	srv    *embedded.Server
	agent  *streams.Bus
	placer *streams.Bus
	act    *streams.Bus
	mu     sync.Mutex
	said   []*schemas.Tunnel
	links  []*schemas.CapacityLink
	n      int
}

func newBus(t *testing.T) *bus {
	b := &bus{t: t, srv: streamstest.Start(t, "h1", "h2")}
	b.agent, b.placer, b.act = streamstest.Connect(t, b.srv, streams.RoleAgent), streamstest.Connect(t, b.srv, streams.RolePlacer), streamstest.Connect(t, b.srv, "actuator-h1")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	for _, in := range []streams.Input{{Stream: "KV_tunnels", Filters: []string{"$KV.tunnels.*"}}, {Stream: streams.Capacity, Filters: []string{"capacity.link.*.*"}}} {
		wg.Go(func() {
			if err := b.placer.Consume(ctx, "test", in, func(e streams.Event) {
				b.mu.Lock()
				defer b.mu.Unlock()
				switch m := e.Msg.(type) {
				case *schemas.Tunnel:
					b.said = append(b.said, m)
				case *schemas.CapacityLink:
					b.links = append(b.links, m)
				}
			}); err != nil {
				t.Error(err)
			}
		})
	}
	for i, site := range []schemas.SiteID{"private", "public"} {
		h := schemas.HostID(fmt.Sprintf("h%d", i+1))
		b.put(b.agent, streams.SubjectCapacityHost(h), &schemas.CapacityHost{Host: h, Site: site, Time: schemas.At(time.Now()), Capacity: schemas.Amounts{CPU: 1000, Mem: 1e9}, Overcommit: schemas.Overcommit{CPU: 1, Mem: 1}, Speed: 1,
			VMs: []schemas.InventoryVM{{VM: schemas.VMID{byte(i + 1)}, State: schemas.VMRunning, AllocMem: 1e9, VCPUs: 1}}})
	}
	b.put(b.agent, streams.SubjectCapacityLink("private", "public"), &schemas.CapacityLink{A: "private", B: "public", Time: schemas.At(time.Now()), RTT: 20, Bandwidth: 1e8, Free: 1e8, By: "a1"})
	return b
}

func (b *bus) put(from *streams.Bus, subject string, m schemas.Message) {
	b.t.Helper()
	b.n++
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := from.Publish(ctx, streams.Out{Subject: subject, ID: fmt.Sprintf("t%d", b.n), Msg: m}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bus) command(id schemas.CommandID, vm byte) {
	now := schemas.At(time.Now())
	b.put(b.placer, streams.SubjectCommand(schemas.VMID{vm}, "h1", "h2"), &schemas.Command{ID: id, Plan: "p1", PlanHash: "00", VM: schemas.VMID{vm}, Name: "v", Source: "h1", Destination: "h2",
		Issued: now, Expires: now.Add(time.Minute), Deadline: now.Add(time.Hour), Reason: schemas.Reason{Code: schemas.ReasonOK}, Bandwidth: 1e8})
}

// role starts a gateway's role; the function ends it.
func (b *bus) role(site, peer schemas.SiteID) (stop func()) {
	c := b.srv.Credentials(streams.RoleTunnel)
	c.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := streams.Connect(ctx, c)
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, conn, Config{Site: site, Peer: peer, LeaseTTL: 600 * time.Millisecond, Log: c.Log})
	}()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				b.t.Error(err)
			}
			conn.Close()
		})
	}
	b.t.Cleanup(stop)
	return stop
}

// until waits for a share-out that satisfies ok.
func (b *bus) until(what string, within time.Duration, ok func(*schemas.Tunnel) bool) *schemas.Tunnel {
	b.t.Helper()
	for late := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) {
		b.mu.Lock()
		if n := len(b.said); n > 0 && ok(b.said[n-1]) {
			defer b.mu.Unlock()
			return b.said[n-1]
		}
		if time.Now().After(late) {
			defer b.mu.Unlock()
			b.t.Fatalf("%s: not within %s; said %d times, last %+v", what, within, len(b.said), last(b.said))
		}
		b.mu.Unlock()
	}
}

func last[T any](s []T) (v T) {
	if len(s) > 0 {
		v = s[len(s)-1]
	}
	return v
}

// TestRole: a command's share is there well within two seconds; when the gateway that
// decides goes, the other takes over with the rates in force.
func TestRole(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	stop := b.role("private", "public")
	b.until("an empty link", 5*time.Second, func(x *schemas.Tunnel) bool { return len(x.Shares) == 0 && x.Left == 9e7 })
	b.role("public", "private")
	at := time.Now()
	b.command("c1", 1)
	got := b.until("a share", 2*time.Second, func(x *schemas.Tunnel) bool { return len(x.Shares) == 1 && x.Shares[0].Rate == 9e7 })
	t.Logf("a share %s after the command", time.Since(at).Round(time.Millisecond))
	b.command("c2", 2)
	b.until("the second waits", 2*time.Second, func(x *schemas.Tunnel) bool { return len(x.Shares) == 2 && x.Shares[1].Waits })
	b.put(b.act, streams.SubjectProgress(schemas.VMID{1}), &schemas.Progress{Command: "c1", Epoch: 1, VM: schemas.VMID{1}, Host: "h1", Time: schemas.At(time.Now()), Phase: schemas.PhasePreCopy, Total: 1e9, Remaining: 8e8, DirtyRate: 1e7, Speed: 8e7})
	b.until("its dirty rate counts", 4*time.Second, func(x *schemas.Tunnel) bool { return len(x.Shares) == 2 && x.Shares[0].Floor == 1.25e7 })
	stop()
	x := b.until("the other gateway decides", 8*time.Second, func(x *schemas.Tunnel) bool { return x.Lease != got.Lease })
	if x.Shares[0].Rate != 9e7 || !x.Shares[1].Waits {
		t.Errorf("after the change of hands: %+v", x.Shares)
	}
	b.put(b.act, streams.SubjectOutcome(schemas.VMID{1}, "h1"), &schemas.Outcome{Command: "c1", Epoch: 1, VM: schemas.VMID{1}, Host: "h1", Source: "h1", Destination: "h2", Time: schemas.At(time.Now()),
		Result: schemas.ResultSucceeded, Reason: schemas.Reason{Code: schemas.ReasonOK}, RunsAt: "h2", SourceSeen: "absent", DestSeen: "running"})
	b.until("the second has its turn", 2*time.Second, func(x *schemas.Tunnel) bool {
		return len(x.Shares) == 1 && x.Shares[0].Command == "c2" && !x.Shares[0].Waits
	})
	// The link's report is another message, on another stream: it may be read after.
	for late := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		b.mu.Lock()
		l := last(b.links)
		b.mu.Unlock()
		if l != nil && l.Shared && l.Moves == 1 && l.RTT == 20 && len(l.Shares) == 1 {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("the link is reported as %+v", l)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	for name, c := range map[string]Config{"one site": {Site: "a"}, "itself": {Site: "a", Peer: "a"}, "rate": {Rate: -1}, "reserved": {Reserved: 1}, "name": {Site: "a b", Peer: "c"}} {
		if err := c.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := (&Config{}).Validate(); err != nil {
		t.Error(err)
	}
}
