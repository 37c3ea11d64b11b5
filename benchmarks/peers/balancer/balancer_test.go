package balancer

import "testing"

func TestBalance(t *testing.T) {
	hosts := []Host{{10, 100}, {10, 100}, {10, 5}}
	vms := []VM{{4, 10, 0, 0}, {3, 10, 0, 1}, {2, 10, 0, 0}, {1, 10, 1, 1}}
	moves := Balance(hosts, vms, .2, 10)
	if len(moves) == 0 {
		t.Fatal("a host at 90 % beside one at 10 %, and nothing moves")
	}
	load, on := make([]float64, 3), []int{0, 0, 0, 1}
	for _, m := range moves {
		on[m.VM] = m.To
	}
	for i, v := range vms {
		load[on[i]] += v.CPU
	}
	if on[1] == on[3] {
		t.Error("two VMs of a group share a host")
	}
	if load[2] > 0 {
		t.Error("a VM went where its memory has no room")
	}
	if len(Balance(hosts, vms, 1, 10)) != 0 {
		t.Error("within the gap, and VMs move")
	}
	if len(Balance(hosts, vms, 0, 1)) > 1 {
		t.Error("more moves than allowed")
	}
}
