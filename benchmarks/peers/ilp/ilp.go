// Package ilp places VMs by integer programming, as some schedulers do that hand the
// whole cluster to a solver, to compare ours with.
//
// What comes in: hosts and VMs as package balancer knows them, and seconds of CPU. What
// goes out: where every VM should be, and what the solver says of it.
//
// What is promised: the programme minimises the load of the fullest host, as a share of
// its capacity, with every VM on one host, memory kept, and VMs of a group apart. It has
// no notion of what a move costs, as published ones have not by default: a small price
// per move may be asked for. The solver is CBC, run by package cbc; without it
// [cbc.ErrMissing].
//
// Why: such a programme is exact about a question that is not quite the operator's.
package ilp

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"github.com/foreshift/foreshift/benchmarks/peers/balancer"
	"github.com/foreshift/foreshift/benchmarks/peers/cbc"
)

// Place gives the host of every VM. price is what one move adds to the objective, which
// is a share of capacity.
func Place(ctx context.Context, hosts []balancer.Host, vms []balancer.VM, price, seconds float64) ([]int, cbc.Result, error) {
	r, values, err := cbc.SolveValues(ctx, func(w io.Writer) error { return write(w, hosts, vms, price) }, seconds)
	if err != nil {
		return nil, r, fmt.Errorf("integer programme of %d hosts and %d VMs: %w", len(hosts), len(vms), err)
	}
	if !r.Found {
		return nil, r, fmt.Errorf("integer programme of %d hosts and %d VMs: nothing found in %g CPU-seconds", len(hosts), len(vms), seconds)
	}
	at := make([]int, len(vms))
	for i := range vms {
		at[i] = -1
		for h := range hosts {
			if values[name(i, h)] > .5 {
				at[i] = h
			}
		}
		if at[i] < 0 {
			return nil, r, fmt.Errorf("integer programme: the solution leaves VM %d without a host", i)
		}
	}
	return at, r, nil
}

func name(vm, host int) string { return fmt.Sprintf("x%d_%d", vm, host) }

// write is the programme in LP format: minimise t + price * moves.
func write(out io.Writer, hosts []balancer.Host, vms []balancer.VM, price float64) error {
	w := bufio.NewWriter(out)
	fmt.Fprint(w, "Minimize\n obj: t")
	if price > 0 {
		for i, v := range vms {
			for h := range hosts {
				if h != v.Host {
					fmt.Fprintf(w, "\n + %g %s", price, name(i, h))
				}
			}
		}
	}
	fmt.Fprint(w, "\nSubject To\n")
	groups := map[int][]int{}
	last := 0
	for i, v := range vms {
		fmt.Fprintf(w, " v%d:", i)
		for h := range hosts {
			fmt.Fprintf(w, "\n + %s", name(i, h))
		}
		fmt.Fprint(w, " = 1\n")
		if v.Group != 0 {
			groups[v.Group] = append(groups[v.Group], i)
			last = max(last, v.Group)
		}
	}
	for h, host := range hosts {
		fmt.Fprintf(w, " c%d: - t", h)
		for i, v := range vms {
			fmt.Fprintf(w, "\n + %g %s", v.CPU/host.CPU, name(i, h))
		}
		fmt.Fprint(w, " <= 0\n")
		fmt.Fprintf(w, " m%d:", h)
		for i, v := range vms {
			fmt.Fprintf(w, "\n + %g %s", v.Mem, name(i, h))
		}
		fmt.Fprintf(w, " <= %g\n", host.Mem)
	}
	for g := 1; g <= last; g++ {
		if len(groups[g]) < 2 {
			continue
		}
		for h := range hosts {
			fmt.Fprintf(w, " g%d_%d:", g, h)
			for _, i := range groups[g] {
				fmt.Fprintf(w, "\n + %s", name(i, h))
			}
			fmt.Fprint(w, " <= 1\n")
		}
	}
	fmt.Fprint(w, "Binaries\n")
	for i := range vms {
		for h := range hosts {
			fmt.Fprintf(w, " %s\n", name(i, h))
		}
	}
	fmt.Fprint(w, "End\n")
	return w.Flush()
}
