package actuator

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
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
	asksForItsCPU(t, ctx, hosts[0], hosts[1], g.ID)
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

// asksForItsCPU: real libvirt says that it can run the CPU of a live guest, and which
// feature it lacks for one that wants more.
func asksForItsCPU(t *testing.T, ctx context.Context, from, to *libvirt.Host, vm schemas.VMID) {
	t.Helper()
	now := schemas.At(time.Now())
	offer, err := from.Source().Begin(ctx, migration.Ticket{Epoch: 1, Command: &schemas.Command{ID: "cpu", VM: vm, Source: "h1", Destination: "h2", Expires: now.Add(time.Minute), Deadline: now.Add(time.Hour)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := from.Source().Abort(ctx, vm); err != nil {
		t.Fatal(err)
	}
	if err := to.Destination("").Fits(ctx, offer.XML); err != nil {
		t.Errorf("the CPU of a running guest: %v", err)
	}
	// An emulated CPU never has it.
	err = to.Destination("").Fits(ctx, strings.Replace(offer.XML, "</cpu>", "<feature policy='require' name='avx512f'/></cpu>", 1))
	if why := migration.ReasonOf(err); why.Code != schemas.ReasonCPUModel || !strings.Contains(why.Detail, "avx512f") {
		t.Errorf("a CPU with avx512f: %v", err)
	}
}
