package forecastaware

import (
	"errors"
	"fmt"
	"math"

	"github.com/foreshift/foreshift/benchmarks/instance"
)

// Price is what a GiB of memory moved counts as, in the objective's core-slots.
const Price = .05

// Bounds on an instance; what is larger is refused.
const (
	MaxHosts = 100_000
	MaxCells = 100_000_000 // VMs x slots, and hosts x slots
)

// Instance is a fleet with its forecast.
type Instance struct {
	H     int       `json:"H"`    // hosts
	V     int       `json:"V"`    // VMs
	T     int       `json:"T"`    // slots
	Cores []float64 `json:"capC"` // by host
	Mem   []float64 `json:"capM"` // by host, GiB
	Thr   float64   `json:"thr"`  // share of the cores above which demand counts
	VMs   []VM      `json:"vms"`
	Cur   []int     `json:"cur"` // by VM: its host
	K     int       `json:"K"`   // most VMs that may move

	// Site of each host and the memory that may cross from one site to another, GiB;
	// both absent in the published instances. A link to the own site is not bounded.
	Site []int       `json:"site,omitempty"`
	Link [][]float64 `json:"link,omitempty"`
}

// VM is what a machine needs.
type VM struct {
	Cores  float64   `json:"c"`
	Mem    float64   `json:"m"` // GiB
	Demand []float64 `json:"d"` // cores, by slot
}

// Read reads an instance from a file, plain or gzipped, and checks it.
func Read(path string) (*Instance, error) {
	var in Instance
	if err := instance.ReadJSON(path, &in); err != nil {
		return nil, fmt.Errorf("forecast-aware: %w", err)
	}
	if err := in.Validate(); err != nil {
		return nil, fmt.Errorf("forecast-aware: %s: %w", path, err)
	}
	return &in, nil
}

// Validate refuses an instance whose parts do not fit together.
func (in *Instance) Validate() error {
	switch {
	case in.H < 1 || in.H > MaxHosts || in.V < 0 || in.T < 1 || in.T > MaxCells:
		return fmt.Errorf("sizes H %d, V %d, T %d: needs 1..%d hosts and a slot at least", in.H, in.V, in.T, MaxHosts)
	case in.V > MaxCells/in.T || in.H > MaxCells/in.T:
		return fmt.Errorf("sizes H %d, V %d, T %d: more than %d numbers", in.H, in.V, in.T, MaxCells)
	case len(in.Cores) != in.H || len(in.Mem) != in.H:
		return fmt.Errorf("capC and capM need %d numbers, one a host", in.H)
	case len(in.VMs) != in.V || len(in.Cur) != in.V:
		return fmt.Errorf("vms and cur need %d entries, one a VM", in.V)
	case in.K < 0 || !amount(in.Thr):
		return fmt.Errorf("limits K %d and thr %g must not be negative", in.K, in.Thr)
	}
	for h := range in.Cores {
		if !amount(in.Cores[h]) || !amount(in.Mem[h]) {
			return fmt.Errorf("host %d: capacity must be finite and not negative", h)
		}
	}
	for v, m := range in.VMs {
		if at := in.Cur[v]; at < 0 || at >= in.H || !amount(m.Mem) || len(m.Demand) != in.T {
			return fmt.Errorf("VM %d: needs a host within 0..%d, memory, and %d slots of demand", v, in.H-1, in.T)
		}
		for t, d := range m.Demand {
			if !amount(d) {
				return fmt.Errorf("VM %d, slot %d: demand must be finite and not negative", v, t)
			}
		}
	}
	return in.validateLinks()
}

func (in *Instance) validateLinks() error {
	if in.Site == nil && in.Link == nil {
		return nil
	}
	if len(in.Site) != in.H {
		return fmt.Errorf("site needs %d numbers, one a host", in.H)
	}
	for _, row := range in.Link {
		if len(row) != len(in.Link) {
			return errors.New("link must be square, a row and a column per site")
		}
		for _, x := range row {
			if !amount(x) {
				return errors.New("link: memory must be finite and not negative")
			}
		}
	}
	for h, s := range in.Site {
		if s < 0 || s >= len(in.Link) {
			return fmt.Errorf("host %d: site %d has no links", h, s)
		}
	}
	return nil
}

func amount(x float64) bool { return x >= 0 && x <= math.MaxFloat32 }

// Move is one line of the answer: VM and hosts by their index.
type Move struct {
	VM   int `json:"vm"`
	From int `json:"from"`
	To   int `json:"to"`
}

// Check carries the moves out one after the other and returns the objective. It
// shares no code with the search, and names the first move that breaks a rule.
func Check(in *Instance, moves []Move) (float64, error) {
	if len(moves) > in.K {
		return 0, fmt.Errorf("forecast-aware: %d moves, and only %d allowed", len(moves), in.K)
	}
	held := make([]float64, in.H) // memory in use while moves are under way
	for v, m := range in.VMs {
		held[in.Cur[v]] += m.Mem
	}
	at := append([]int(nil), in.Cur...)
	var crossed [][]float64
	for range in.Link {
		crossed = append(crossed, make([]float64, len(in.Link)))
	}
	cost := 0.0
	for i, m := range moves {
		if m.VM < 0 || m.VM >= in.V || m.To < 0 || m.To >= in.H || m.To == m.From || at[m.VM] != m.From || in.Cur[m.VM] != m.From {
			return 0, fmt.Errorf("forecast-aware: move %d: VM %d cannot go from %d to %d", i, m.VM, m.From, m.To)
		}
		mem := in.VMs[m.VM].Mem
		if held[m.To]+mem > in.Mem[m.To]+1e-6 {
			return 0, fmt.Errorf("forecast-aware: move %d: host %d holds %g of %g GiB, VM %d needs %g", i, m.To, held[m.To], in.Mem[m.To], m.VM, mem)
		}
		if in.Site != nil {
			a, b := in.Site[m.From], in.Site[m.To]
			crossed[a][b] += mem
			if a != b && crossed[a][b] > in.Link[a][b]+1e-6 {
				return 0, fmt.Errorf("forecast-aware: move %d: %g GiB cross from site %d to %d, and only %g may", i, crossed[a][b], a, b, in.Link[a][b])
			}
		}
		held[m.To] += mem
		at[m.VM] = m.To
		cost += Price * mem
	}
	for t := range in.T {
		load := make([]float64, in.H)
		for v := range in.VMs {
			load[at[v]] += in.VMs[v].Demand[t]
		}
		for h, x := range load {
			cost += math.Max(0, x-in.Thr*in.Cores[h])
		}
	}
	return cost, nil
}
