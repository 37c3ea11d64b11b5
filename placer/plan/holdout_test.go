package plan

import (
	"testing"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// About the share that the policy names is left out, the same VMs all day, other ones on
// another day, and never a move of much benefit.
func TestLotLeavesOutItsShare(t *testing.T) {
	const vms = 20000
	v := &fleet.View{Issued: 1000 * schemas.StepsPerDay, VMs: make([]fleet.VM, vms)}
	for i := range v.VMs {
		v.VMs[i].ID = schemas.VMID{byte(i), byte(i >> 8), 1}
	}
	p := policy.Default()
	p.Learning = &schemas.Learning{HoldOut: .02}
	s := &State{V: v, P: p, minBenefit: 300}
	lot := func() (out []int) {
		for i := range v.VMs {
			if s.heldOut(&candidate{vm: int32(i)}, 400) {
				out = append(out, i)
			}
		}
		return out
	}
	today := lot()
	if n := len(today); n < vms/50-80 || n > vms/50+80 {
		t.Errorf("%d of %d left out", n, vms)
	}
	v.Issued += schemas.StepsPerDay - 1
	if again := lot(); len(again) != len(today) || again[0] != today[0] {
		t.Error("the lot changed within a day")
	}
	v.Issued++
	both := map[int]bool{}
	for _, i := range today {
		both[i] = true
	}
	same := 0
	for _, i := range lot() {
		if both[i] {
			same++
		}
	}
	if same > 40 {
		t.Errorf("%d VMs drawn on both days", same)
	}
	if s.heldOut(&candidate{vm: int32(today[0])}, 600) {
		t.Error("a move of much benefit was left out")
	}
	s.P.Learning = nil
	if len(lot()) != 0 {
		t.Error("something was left out though nobody asked for it")
	}
}
