package sim

import (
	"bytes"
	"context"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"go.uber.org/goleak"

	"github.com/foreshift/foreshift/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hand is a clock that tests move.
type hand struct {
	mu sync.Mutex
	t  time.Time
}

func (h *hand) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.t
}

func (h *hand) add(d time.Duration) {
	h.mu.Lock()
	h.t = h.t.Add(d)
	h.mu.Unlock()
}

var epoch = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

// serve starts a fleet on loopback until the test ends.
func serve(t testing.TB, cfg Config) *Fleet {
	t.Helper()
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return f
}

type dialer string

func (d dialer) Dial() (net.Conn, error) { return net.DialTimeout("tcp", string(d), 5*time.Second) }

func address(uri string) string {
	a, _, _ := strings.Cut(strings.TrimPrefix(uri, "qemu+tcp://"), "/")
	return a
}

func dial(t testing.TB, h Host) *libvirt.Libvirt {
	t.Helper()
	var l *libvirt.Libvirt
	var err error
	for try := 0; try < 100; try++ {
		l = libvirt.NewWithDialer(dialer(address(h.URI))) // a client that failed once is not used again
		if err = l.ConnectToURI(libvirt.QEMUSystem); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("connect to %s: %v", h.URI, err)
	}
	t.Cleanup(func() { _ = l.Disconnect() }) // a test may have killed the other end
	return l
}

// eventually waits for something that real time brings about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// on gives the VMs that begin on a host.
func (f *Fleet) on(h schemas.HostID) (out []VM) {
	for _, v := range f.vms {
		if v.Host == h {
			out = append(out, v)
		}
	}
	return out
}

func TestVirshReadsTheFleet(t *testing.T) {
	if _, err := exec.LookPath("virsh"); err != nil {
		t.Skip("virsh is not installed: the check against libvirt's own client is left out")
	}
	f := serve(t, Config{Seed: 1, Base: time.Second})
	uri := f.Hosts()[0].URI
	vm := f.on(f.Hosts()[0].ID)[0]
	for _, c := range []struct{ args, want string }{
		{"list --all", vm.Name},
		{"list --all --uuid", vm.ID.String()},
		{"hostname", string(f.Hosts()[0].ID)},
		{"nodeinfo", "CPU(s):"},
		{"nodecpustats", "idle:"},
		{"nodememstats", "total"},
		{"version", "Using library"},
		{"uri", uri},
		{"capabilities", "<arch>x86_64</arch>"},
		{"domstats", "vcpu.0.delay="},
		{"domstats --balloon " + vm.Name, "balloon.available="},
		{"domstats --dirtyrate " + vm.Name, "dirtyrate.calc_status=0"},
		{"dominfo " + vm.Name, "Persistent:     yes"},
		{"domstate --reason " + vm.Name, "running (booted)"},
		{"domjobinfo " + vm.Name, "None"},
		{"dommemstat " + vm.Name, "usable"},
		{"domuuid " + vm.Name, vm.ID.String()},
		{"dumpxml " + vm.Name, "urn:foreshift:labels"},
		{"metadata " + vm.Name + " --uri urn:foreshift:labels", "key=\"class\""},
		{"domblklist " + vm.Name, "/srv/shared/"},
		{"pool-list", "shared"},
		{"pool-info shared", "running"},
		{"pool-dumpxml shared", "/srv/shared"},
		{"migrate-getspeed " + vm.Name, "8796093022207"},
		{"migrate-getmaxdowntime " + vm.Name, "300"},
	} {
		args := append([]string{"-c", uri}, strings.Fields(c.args)...)
		var out, errs bytes.Buffer
		cmd := exec.Command("virsh", args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			t.Errorf("virsh %s: %v: %s", c.args, err, errs.String())
		} else if !strings.Contains(out.String(), c.want) {
			t.Errorf("virsh %s: no %q in\n%s", c.args, c.want, out.String())
		}
	}
	// Host 0 also answers at 127.0.0.1.
	_, port, err := net.SplitHostPort(address(uri))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("virsh", "-c", "qemu+tcp://127.0.0.1:"+port+"/system", "hostname").CombinedOutput()
	if err != nil || !strings.Contains(string(out), string(f.Hosts()[0].ID)) {
		t.Errorf("host 0 at 127.0.0.1: %v: %s", err, out)
	}
}
