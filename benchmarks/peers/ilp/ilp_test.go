package ilp

import (
	"context"
	"errors"
	"testing"

	"github.com/foreshift/foreshift/benchmarks/peers/balancer"
	"github.com/foreshift/foreshift/benchmarks/peers/cbc"
)

func TestPlaceIsOptimal(t *testing.T) {
	hosts := []balancer.Host{{CPU: 10, Mem: 30}, {CPU: 10, Mem: 30}}
	vms := []balancer.VM{{CPU: 4, Mem: 10}, {CPU: 3, Mem: 10, Group: 1}, {CPU: 2, Mem: 10, Group: 1}, {CPU: 1, Mem: 10}}
	at, r, err := Place(context.Background(), hosts, vms, 0, 5)
	if errors.Is(err, cbc.ErrMissing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	load := make([]float64, 2)
	for i, v := range vms {
		load[at[i]] += v.CPU
	}
	if max(load[0], load[1]) != 6 || at[1] == at[2] || !r.Optimal {
		t.Errorf("load %v, places %v, %+v", load, at, r)
	}
	still, _, err := Place(context.Background(), hosts, vms, 1, 5)
	if err != nil {
		t.Fatal(err)
	}
	moved := 0
	for i := range still {
		if still[i] != vms[i].Host {
			moved++
		}
	}
	if moved != 1 {
		t.Errorf("with a high price of a move %d VMs move; the group asks for 1", moved)
	}
}
