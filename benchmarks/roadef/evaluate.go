package roadef

import "fmt"

// Cost is the objective of an assignment and its terms, weights included.
type Cost struct {
	Load        int64 `json:"load"`
	Balance     int64 `json:"balance"`
	ProcessMove int64 `json:"process_move"`
	ServiceMove int64 `json:"service_move"`
	MachineMove int64 `json:"machine_move"`
}

// Total is the objective.
func (c Cost) Total() int64 {
	return c.Load + c.Balance + c.ProcessMove + c.ServiceMove + c.MachineMove
}

// LowerBound is a cost that no assignment of the model undercuts: that of all machines
// taken as one, whose loads and balances cost least. Costs of moving count as nothing.
func LowerBound(m *Model) int64 {
	var bound int64
	free := make([]int64, len(m.Resources))
	for r, res := range m.Resources {
		var use, safe int64
		for _, p := range m.Processes {
			use += p.Requirement[r]
		}
		for _, k := range m.Machines {
			safe += k.Safety[r]
			free[r] += k.Capacity[r]
		}
		free[r] -= use
		bound += res.Weight * max(0, use-safe)
	}
	for _, b := range m.Balances {
		bound += b.Weight * max(0, b.Target*free[b.Per]-free[b.Of])
	}
	return bound
}

// Evaluate computes from nothing what an assignment costs, given where processes
// were at first. It follows the problem definition line by line and is slow on
// purpose: the search is checked against it. The error names the first rule that
// the assignment breaks.
func Evaluate(m *Model, first, now []int32) (Cost, error) {
	var c Cost
	if len(first) != len(m.Processes) || len(now) != len(m.Processes) {
		return c, fmt.Errorf("%d and %d machines for %d processes", len(first), len(now), len(m.Processes))
	}
	use := make([][]int64, len(m.Machines))  // what runs there
	hold := make([][]int64, len(m.Machines)) // and what left there but holds transient resources
	for k := range use {
		use[k] = make([]int64, len(m.Resources))
		hold[k] = make([]int64, len(m.Resources))
	}
	moved := make([]int64, len(m.Services))
	for i, p := range m.Processes {
		from, to := first[i], now[i]
		if from < 0 || to < 0 || int(from) >= len(use) || int(to) >= len(use) {
			return c, fmt.Errorf("process %d goes from machine %d to %d of %d", i, from, to, len(use))
		}
		for r, q := range p.Requirement {
			use[to][r] += q
			if from != to && m.Resources[r].Transient {
				hold[from][r] += q
			}
		}
		if from != to {
			moved[p.Service]++
			c.ProcessMove += m.ProcessWeight * p.MoveCost
		}
		c.MachineMove += m.MachineWeight * int64(m.Machines[from].MoveCost[to])
	}
	var most int64
	for _, n := range moved {
		most = max(most, n)
	}
	c.ServiceMove = m.ServiceWeight * most
	for k, host := range m.Machines {
		for r, res := range m.Resources {
			if use[k][r]+hold[k][r] > host.Capacity[r] {
				return c, fmt.Errorf("machine %d: resource %d: %d used and %d transient exceed the capacity %d", k, r, use[k][r], hold[k][r], host.Capacity[r])
			}
			c.Load += res.Weight * max(0, use[k][r]-host.Safety[r])
		}
		for _, b := range m.Balances {
			per, of := host.Capacity[b.Per]-use[k][b.Per], host.Capacity[b.Of]-use[k][b.Of]
			c.Balance += b.Weight * max(0, b.Target*per-of)
		}
	}
	return c, rules(m, now)
}

// rules checks what does not depend on quantities.
func rules(m *Model, now []int32) error {
	type pair struct{ a, b int32 }
	onMachine := make(map[pair]bool)
	inPlace := make(map[pair]bool)
	inHood := make(map[pair]bool)
	places := make([]int, len(m.Services))
	for i, p := range m.Processes {
		k := now[i]
		if onMachine[pair{p.Service, k}] {
			return fmt.Errorf("service %d has two processes on machine %d", p.Service, k)
		}
		onMachine[pair{p.Service, k}] = true
		if at := (pair{p.Service, m.Machines[k].Location}); !inPlace[at] {
			inPlace[at] = true
			places[p.Service]++
		}
		inHood[pair{p.Service, m.Machines[k].Neighbourhood}] = true
	}
	for s, v := range m.Services {
		if places[s] < v.Spread {
			return fmt.Errorf("service %d is in %d locations and needs %d", s, places[s], v.Spread)
		}
	}
	for i, p := range m.Processes {
		hood := m.Machines[now[i]].Neighbourhood
		for _, d := range m.Services[p.Service].DependsOn {
			if !inHood[pair{d, hood}] {
				return fmt.Errorf("process %d of service %d in neighbourhood %d misses service %d there", i, p.Service, hood, d)
			}
		}
	}
	return nil
}
