package tunnel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/foreshift/foreshift/actuator/tunnel/plane"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// part is what the test binary is told when it is a gateway's role.
type part struct {
	URL, Dir   string
	Site, Peer schemas.SiteID
	Gateway    Gateway
}

// TestMain lets the test binary be a gateway's role, or the holder that a role starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 6 && os.Args[1] == "hold" {
		var mtu int
		_, _ = fmt.Sscan(os.Args[5], &mtu)
		end(plane.Hold(context.Background(), os.Args[3], mtu))
	}
	if text := os.Getenv("FORESHIFT_TEST_GATEWAY"); text != "" {
		var p part
		err := json.Unmarshal([]byte(text), &p)
		if err == nil {
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			var b *streams.Bus
			if b, err = streams.Connect(context.Background(), streams.Credentials{URL: p.URL, Dir: p.Dir, Role: streams.RoleTunnel, Log: log}); err == nil {
				err = Run(context.Background(), b, Config{Site: p.Site, Peer: p.Peer, Rate: 2e7, LeaseTTL: 600 * time.Millisecond, Log: log, Gateway: &p.Gateway})
			}
		}
		end(err)
	}
	os.Exit(m.Run())
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// gate is a gateway's namespace with a role in it.
type gate struct {
	*bus
	ns   netns.NsHandle
	part part
	log  string
	cmd  *exec.Cmd
}

func (g *gate) in(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := netns.Set(g.ns); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

func (g *gate) start() {
	g.t.Helper()
	text, _ := json.Marshal(g.part)
	self, _ := os.Executable()
	out, err := os.OpenFile(g.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		g.t.Fatal(err)
	}
	defer out.Close()
	g.cmd = exec.Command(self)
	g.cmd.Env = append(os.Environ(), "FORESHIFT_TEST_GATEWAY="+string(text))
	g.cmd.Stdout, g.cmd.Stderr = out, out
	if err := g.in(g.cmd.Start); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gate) kill() {
	if g.cmd != nil {
		_ = g.cmd.Process.Kill()
		_ = g.cmd.Wait()
		g.cmd = nil
	}
}

// gates makes two gateways, joined by a wire, who reach the test's bus.
func gates(t *testing.T, b *bus) (out [2]*gate) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	u := strings.TrimPrefix(b.srv.URL(), "nats://")
	for i := range out {
		site, peer := []schemas.SiteID{"private", "public"}[i], []schemas.SiteID{"public", "private"}[i]
		g := &gate{bus: b, log: filepath.Join(t.TempDir(), "role.log")}
		g.part = part{URL: b.srv.URL(), Dir: b.srv.Dir(), Site: site, Peer: peer, Gateway: Gateway{Endpoint: fmt.Sprintf("192.0.2.%d:51820", i+1),
			Plane: plane.Config{Dir: filepath.Join(t.TempDir(), "keys"), Prefix: fmt.Sprintf("g%d%c", os.Getpid()%10000, 'a'+i), First: i == 0, Inside: netip.MustParsePrefix("10.88.0.0/29"), Listen: 51820,
				Bridge: "br0", VNI: 7, Holder: []string{self, "hold"}, Reach: map[schemas.HostID]netip.Addr{"h1": netip.MustParseAddr("10.66.0.1"), "h2": netip.MustParseAddr("10.66.0.2")}}}}
		made := make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			var err error
			g.ns, err = netns.New()
			made <- err
		}()
		if err := <-made; err != nil {
			t.Fatal(err)
		}
		out[i] = g
		t.Cleanup(func() {
			g.kill()
			_ = g.in(func() error {
				p, err := plane.New(g.part.Gateway.Plane)
				if err != nil {
					return err
				}
				return p.Down()
			})
			if b, _ := os.ReadFile(g.log); t.Failed() {
				t.Logf("%s:\n%s", site, b)
			}
			g.ns.Close()
		})
	}
	if err := out[0].in(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wan"}, PeerName: "wan", PeerNamespace: netlink.NsFd(int(out[1].ns))})
	}); err != nil {
		t.Fatal(err)
	}
	for i, g := range out {
		if err := g.in(func() error {
			br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
			wan, err := netlink.LinkByName("wan")
			lo, err2 := netlink.LinkByName("lo")
			if err = errors.Join(err, err2); err != nil {
				return err
			}
			addr, _ := netlink.ParseAddr(fmt.Sprintf("192.0.2.%d/24", i+1))
			seg, _ := netlink.ParseAddr(fmt.Sprintf("10.66.0.%d/24", i+1))
			if err := errors.Join(netlink.AddrAdd(wan, addr), netlink.LinkSetUp(wan), netlink.LinkSetUp(lo), netlink.LinkAdd(br), netlink.AddrAdd(br, seg), netlink.LinkSetUp(br)); err != nil {
				return err
			}
			l, err := net.Listen("tcp", u)
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
			go func() { // the bus is on the machine's loopback
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() {
						defer c.Close()
						out, err := net.Dial("tcp", u)
						if err != nil {
							return
						}
						defer out.Close()
						go func() { _, _ = io.Copy(out, c); out.Close() }()
						_, _ = io.Copy(c, out)
					}()
				}
			}()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// echoes opens a connection over the segment; the function tells whether it lives.
func echoes(t *testing.T, a, b *gate) func() error {
	t.Helper()
	if err := b.in(func() error {
		l, err := net.Listen("tcp", "10.66.0.2:9000")
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(c, c); c.Close() }()
			}
		}()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var c net.Conn
	for late := time.Now().Add(20 * time.Second); c == nil; time.Sleep(100 * time.Millisecond) {
		err := a.in(func() (err error) { c, err = net.DialTimeout("tcp", "10.66.0.2:9000", time.Second); return err })
		if err != nil && time.Now().After(late) {
			t.Fatalf("the sites are not joined: %v", err)
		}
	}
	t.Cleanup(func() { c.Close() })
	return func() error {
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("ping")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 4))
		return err
	}
}

// patience is how long a machine that is short of CPU may take to come to what is waited
// for; none of it is a limit that the tunnel promises.
const patience = 30 * time.Second

// shaped waits until the gateway has a class of a move, or has none any more: until then
// it has not read what was decided.
func (g *gate) shaped(want bool) {
	g.t.Helper()
	for late := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		found := false
		err := g.in(func() error {
			links, err := netlink.LinkList()
			for _, l := range links {
				if !strings.HasPrefix(l.Attrs().Name, g.part.Gateway.Plane.Prefix+"x") {
					continue
				}
				classes, err := netlink.ClassList(l, netlink.HANDLE_NONE)
				if err != nil {
					return err
				}
				for _, c := range classes {
					_, minor := netlink.MajorMinor(c.Attrs().Handle)
					found = found || c.Type() == "htb" && minor >= 0x100
				}
			}
			return err
		})
		if err == nil && found == want {
			return
		}
		if time.Now().After(late) {
			g.t.Fatalf("classes of moves at the gateway: %t, want %t; %v", found, want, err)
		}
	}
}

// TestGateways: two roles make a tunnel of what they announce; it outlives each of them;
// keys are not changed while a move crosses, and are changed without a loss when none
// does; the link is measured.
func TestGateways(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	b := newBus(t)
	g := gates(t, b)
	g[0].start()
	g[1].start()
	alive := echoes(t, g[0], g[1])
	must := func(what string) {
		t.Helper()
		if err := alive(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("joined")
	b.until("the link is measured", patience, func(x *schemas.Tunnel) bool { return x.Rate == 2e7 })
	b.command("c1", 1)
	b.until("a share", patience, func(x *schemas.Tunnel) bool { return len(x.Shares) == 1 && x.Shares[0].Rate == 1.8e7 })

	rotate := func(i int) schemas.ReasonCode {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		why, err := Rotate(ctx, g[i].part.Gateway.Plane.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return why.Code
	}
	g[0].shaped(true) // the gateway reads the share-out too
	if why := rotate(0); why != schemas.ReasonUnderWay {
		t.Errorf("rotation while a move crosses: %s", why)
	}
	g[0].kill()
	must("one role is dead")
	g[1].kill()
	must("both roles are dead")
	again := time.Now()
	g[0].start()
	g[1].start()
	b.until("a new holder of the lease", patience, func(x *schemas.Tunnel) bool { return x.Time.Std().After(again) && len(x.Shares) == 1 })
	must("both are back")
	b.put(b.act, streams.SubjectOutcome(schemas.VMID{1}, "h1"), &schemas.Outcome{Command: "c1", Epoch: 1, VM: schemas.VMID{1}, Host: "h1", Source: "h1", Destination: "h2", Time: schemas.At(time.Now()),
		Result: schemas.ResultSucceeded, Reason: schemas.Reason{Code: schemas.ReasonOK}, RunsAt: "h2", SourceSeen: "absent", DestSeen: "running"})
	b.until("no move", patience, func(x *schemas.Tunnel) bool { return len(x.Shares) == 0 })
	g[0].shaped(false)
	g[1].shaped(false)
	if why := rotate(1); why != schemas.ReasonOK {
		t.Errorf("rotation without a move: %s", why)
	}
	key := func(i, epoch int) bool {
		_, err := os.Stat(filepath.Join(g[i].part.Gateway.Plane.Dir, fmt.Sprintf("%s.%d.key", g[i].part.Gateway.Plane.Prefix, epoch)))
		return err == nil
	}
	for late := time.Now().Add(2 * patience); !key(0, 2) || !key(1, 2) || key(0, 1) || key(1, 1); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("keys were not changed")
		}
		must("while keys are changed")
	}
	must("keys are changed")
}
