package lab

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/foreshift/foreshift/schemas"
)

// onLab skips a test that needs real hypervisors unless it is asked for (task
// test:lab does) and possible.
func onLab(t *testing.T) context.Context {
	t.Helper()
	if os.Getenv("FORESHIFT_LAB") != "1" {
		t.Skip("lab skipped: set FORESHIFT_LAB=1 (or run task test:lab) to test on real libvirt and QEMU")
	}
	if os.Geteuid() != 0 {
		t.Skip(ErrNotRoot.Error())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// upLab brings a lab up for one test and takes it down after it.
func upLab(t *testing.T, ctx context.Context, change ...func(*Config)) *Lab {
	t.Helper()
	c := Config{Dir: filepath.Join(t.TempDir(), "lab"), Progress: func(s string) { t.Log(s) }}
	for _, f := range change {
		f(&c)
	}
	l, err := Up(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range l.Hosts {
				t.Logf("%s: %s", h.Name, h.logTail())
			}
			for _, g := range l.guests {
				t.Logf("console of %s: %s", g.Name, g.Tail(1500))
			}
		}
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// traces is [Lab.Traces] for a test.
func traces(t *testing.T, l *Lab) []string {
	t.Helper()
	out, err := l.Traces()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func netnsInodes(t *testing.T, l *Lab) map[uint64]bool {
	t.Helper()
	in := map[uint64]bool{}
	for _, n := range l.rec.Hosts {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(netnsDir, n), &st); err != nil {
			t.Fatal(err)
		}
		in[st.Ino] = true
	}
	return in
}

func TestNotRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("needs a user who is not root")
	}
	if _, err := Up(t.Context(), Config{Dir: t.TempDir()}); !errors.Is(err, ErrNotRoot) {
		t.Errorf("Up: %v", err)
	}
	if err := Install(t.Context(), nil); !errors.Is(err, ErrNotRoot) {
		t.Errorf("Install: %v", err)
	}
}

func TestConfig(t *testing.T) {
	c, err := Config{}.defaults()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Hosts) != 3 || c.Hosts[0].ID != "lab-a" || c.Hosts[2].Name != "h3" {
		t.Errorf("default hosts %+v", c.Hosts)
	}
	for name, bad := range map[string]Config{
		"too many hosts": {Hosts: make([]HostConfig, maxHosts+1)},
		"twice":          {Hosts: []HostConfig{{Name: "x"}, {Name: "x"}}},
		"name":           {Hosts: []HostConfig{{Name: "../x"}}},
		"id":             {Hosts: []HostConfig{{ID: "a.b"}}},
		"long directory": {Dir: "/" + strings.Repeat("x", 100)},
	} {
		if _, err := bad.defaults(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for name, bad := range map[string]GuestSpec{
		"no name":     {},
		"name":        {Name: "a b"},
		"load":        {Name: "a", Load: "0:1 init=/bin/sh"},
		"small":       {Name: "a", Memory: 64 << 20},
		"working set": {Name: "a", Memory: 96 << 20, WorkingSet: 64 << 20},
	} {
		if _, err := bad.defaults(); err == nil {
			t.Errorf("guest %s: accepted", name)
		}
	}
}

func TestClaimDirLeavesOthersAlone(t *testing.T) {
	dir := t.TempDir()
	keep := filepath.Join(dir, "precious")
	if err := os.WriteFile(keep, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := claimDir(dir); err == nil {
		t.Error("a directory of somebody else was claimed")
	}
	if _, err := os.Stat(keep); err != nil {
		t.Error(err)
	}
	own := filepath.Join(dir, "lab")
	for range 2 {
		if err := claimDir(own); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLabUpAndDown(t *testing.T) {
	ctx := onLab(t)
	start := time.Now()
	l := upLab(t, ctx)
	up := time.Since(start)
	g, err := l.StartGuest(ctx, l.Hosts[0], GuestSpec{Name: "vm1", Load: "0:30"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("hosts up after %v, guest booted after %v", up, time.Since(start))

	seen := map[schemas.VMID]bool{}
	for _, h := range l.Hosts {
		name, err := h.virsh(ctx, "hostname")
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(name) != h.Name {
			t.Errorf("host %s calls itself %q", h.Name, name)
		}
		caps, err := h.virsh(ctx, "capabilities")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(caps, h.UUID.String()) || seen[h.UUID] {
			t.Errorf("host %s has not its own UUID", h.Name)
		}
		seen[h.UUID] = true
	}
	if at, err := l.RunsAt(ctx, g.ID); err != nil || at != l.Hosts[0] {
		t.Errorf("runs at %v: %v", at, err)
	}
	time.Sleep(2500 * time.Millisecond) // balloon statistics come once a second
	stats, err := l.Hosts[0].virsh(ctx, "domstats", "--state", "--cpu-total", "--vcpu", "--balloon", "--interface", g.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"state.state=1", "cpu.time=", "vcpu.0.time=", "vcpu.0.delay=", "balloon.rss=", "balloon.unused=", "net.0.tx.bytes="} {
		if !strings.Contains(stats, want) {
			t.Errorf("domstats lacks %s:\n%s", want, stats)
		}
	}
	if r := l.Beats.Report(g.Name); r.Bad != 0 || r.Pages == 0 || r.Level != 30 || r.Resets != 0 {
		t.Errorf("heartbeats: %+v", r)
	}
	if !strings.Contains(g.Tail(4000), "TICK vm1") {
		t.Errorf("no tick on the console: %s", g.Tail(500))
	}
	// A second lab in the same place is refused while this one lives.
	if _, err := Up(ctx, Config{Dir: l.Dir}); err == nil || !strings.Contains(err.Error(), "already runs") {
		t.Errorf("a second lab in one directory: %v", err)
	}
	inside := netnsInodes(t, l)
	if pids, err := processesIn(inside); err != nil || len(pids) < 4 {
		t.Errorf("processes inside: %v, %v; want three libvirtd and a QEMU", pids, err)
	}
	start = time.Now()
	for range 2 {
		if err := l.Down(ctx); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("down after %v", time.Since(start))
	if left := traces(t, l); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if pids, err := processesIn(inside); err != nil || len(pids) > 0 {
		t.Errorf("processes left: %v, %v", pids, err)
	}
}

// A lab whose process was killed is found and removed by the next one.
func TestLabCleansUpAfterAKilledRun(t *testing.T) {
	ctx := onLab(t)
	if dir := os.Getenv("FORESHIFT_LAB_VICTIM"); dir != "" { // the child: killed below
		if _, err := Up(ctx, Config{Dir: dir, Hosts: make([]HostConfig, 1)}); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("UP\n")
		<-ctx.Done()
		return
	}
	dir := filepath.Join(t.TempDir(), "lab")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "FORESHIFT_LAB_VICTIM="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 3)
	if _, err := out.Read(buf); err != nil || string(buf) != "UP\n" {
		t.Fatalf("child said %q: %v", buf, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	all, err := records()
	if err != nil {
		t.Fatal(err)
	}
	var victim *Lab
	for _, r := range all {
		if r.Dir == dir {
			victim = &Lab{Dir: dir, rec: r}
		}
	}
	if victim == nil {
		t.Fatal("the killed lab is not in the registry")
	}
	inside := netnsInodes(t, victim)
	if pids, err := processesIn(inside); err != nil || len(pids) == 0 {
		t.Fatalf("nothing outlived the killed run (%v): the test proves nothing", err)
	}
	cleaned, err := Clean(ctx, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, d := range cleaned {
		found = found || d == dir
	}
	if left := traces(t, victim); !found || len(left) > 0 {
		t.Errorf("cleaned %v, left behind %v", cleaned, left)
	}
	if pids, err := processesIn(inside); err != nil || len(pids) > 0 {
		t.Errorf("processes left: %v, %v", pids, err)
	}
}

func TestLabFaults(t *testing.T) {
	ctx := onLab(t)
	l := upLab(t, ctx)
	h := l.Hosts[0]
	g, err := l.StartGuest(ctx, h, GuestSpec{Name: "vm1"})
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	if err := h.CutLink(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1200 * time.Millisecond)
	if err := h.HealLink(); err != nil {
		t.Fatal(err)
	}
	if !poll(ctx, 10*time.Second, 20*time.Millisecond, func() bool { return time.Since(l.Beats.Report("vm1").Last) < 100*time.Millisecond }) {
		t.Error("no heartbeat after the link was healed")
	}
	if s := l.Beats.Report("vm1").Silence(from, time.Now()); s < time.Second {
		t.Errorf("the cut link shows as a silence of %v only", s)
	}
	if err := h.KillLibvirtd(ctx); err != nil {
		t.Fatal(err)
	}
	if s := l.States(ctx, g.ID); s[0] != StateUnknown || s[1] != StateAbsent {
		t.Errorf("with libvirtd dead: %v", s)
	}
	if err := h.StartLibvirtd(ctx); err != nil {
		t.Fatal(err)
	}
	if at, err := l.RunsAt(ctx, g.ID); err != nil || at != h {
		t.Errorf("after libvirtd's restart: runs at %v, %v", at, err)
	}
	if r := l.Beats.Report("vm1"); r.Resets != 0 {
		t.Errorf("the guest booted again: %+v", r)
	}
	if err := h.KillQEMU("vm1"); err != nil {
		t.Fatal(err)
	}
	if !poll(ctx, 5*time.Second, 50*time.Millisecond, func() bool { return l.States(ctx, g.ID)[0] == StateOff }) {
		t.Errorf("after QEMU was killed: %v", l.States(ctx, g.ID))
	}
	if err := h.KillQEMU("vm1"); err == nil {
		t.Error("a QEMU that is gone was killed again")
	}
}
