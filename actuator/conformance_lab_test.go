package actuator

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/internal/lab"
)

// TestLabConformance: what the drive relies on holds of real libvirtd and QEMU as it
// does of the simulated ones. One guest serves all; each part begins wherever the
// last one left it.
func TestLabConformance(t *testing.T) {
	if os.Getenv("FORESHIFT_LAB") != "1" {
		t.Skip("lab skipped: set FORESHIFT_LAB=1 (or run task test:lab) to test on real libvirt and QEMU")
	}
	if os.Geteuid() != 0 {
		t.Skip(lab.ErrNotRoot.Error())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	l, err := lab.Up(ctx, lab.Config{Dir: filepath.Join(t.TempDir(), "lab"), Hosts: make([]lab.HostConfig, 2), Progress: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	g, err := l.StartGuest(ctx, l.Hosts[0], lab.GuestSpec{Name: "vm1"})
	if err != nil {
		t.Fatal(err)
	}
	hosts := make([]*libvirt.Host, 2)
	for i, h := range l.Hosts {
		if hosts[i], err = libvirt.Open(ctx, h.URI); err != nil {
			t.Fatal(err)
		}
		defer hosts[i].Close()
	}
	conformWithin(t, 4*time.Minute, func(t *testing.T) pair {
		at, err := l.RunsAt(ctx, g.ID)
		if err != nil {
			t.Fatal(err)
		}
		from, to := 0, 1
		if at == l.Hosts[1] {
			from, to = 1, 0
		}
		hosts[from].Source().Drop(g.ID) // what the last part left begun
		return pair{hosts[from].Source(), hosts[to].Destination(l.Hosts[to].Address), g.ID, g.Name}
	})
	if r := l.Beats.Report(g.Name); r.Bad != 0 || r.Resets != 0 {
		t.Errorf("the guest was harmed: %+v", r)
	}
}
