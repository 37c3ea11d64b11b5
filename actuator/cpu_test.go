package actuator

import (
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/schemas"
)

// TestCPURefused: a destination whose CPU lacks what the guest's has says so before
// anything is touched there, and the guest runs on; another host takes it.
func TestCPURefused(t *testing.T) {
	t.Parallel()
	r := newRigOf(t, sim.Config{Seed: 3, Hosts: 4, VMs: 16, Base: time.Second, NICBandwidth: 40e9, LinkBandwidth: 40e9, Lacking: map[int][]string{1: {"x2apic", "avx512f"}}})
	for i := range 3 {
		r.host(i)
	}
	vm := r.on(0)
	r.beat()
	c := r.command(vm, 0, 1)
	r.send(c)
	o := r.end(c.ID, 20*time.Second)
	if o.Result != schemas.ResultFailed || o.Reason.Code != schemas.ReasonCPUModel || !strings.Contains(o.Reason.Detail, "does not provide required features: x2apic") || o.RunsAt != c.Source || o.DestSeen != "absent" {
		t.Fatalf("%s: %s; runs at %s, at the destination %s", o.Result, o.Reason, o.RunsAt, o.DestSeen)
	}
	r.at(vm, 0)
	for _, p := range r.fleet.Truth(vm.ID).Copies {
		if p.Host == c.Destination {
			t.Errorf("the destination has a copy: %+v", p)
		}
	}
	c = r.command(vm, 0, 2)
	r.send(c)
	r.want(c.ID, schemas.ResultSucceeded, 20*time.Second)
	r.at(vm, 2)
}
