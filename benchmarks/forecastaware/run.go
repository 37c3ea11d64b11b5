package forecastaware

import (
	"context"
	"fmt"
	"math"

	"github.com/foreshift/foreshift/benchmarks/instance"
	"github.com/foreshift/foreshift/benchmarks/pace"
	"github.com/foreshift/foreshift/placer/search"
)

// Options of a run.
type Options struct {
	Instance   string         // file; .gz is read as it is
	CPUSeconds float64        // of the process, reading included, as CPU tells them
	CPU        func() float64 // CPU-seconds the process has used
	Repeat     *pace.Log      // an earlier search to repeat, without a clock
	Seed       uint64
	Out        string // file for the moves; none when empty
}

// Report is what a search reached.
type Report struct {
	Objective   float64 `json:"objective"`
	Initial     float64 `json:"initial"`
	LowerBound  float64 `json:"lower_bound"`    // see [LowerBound]
	Unserved    float64 `json:"over_threshold"` // the objective less the price of the moves, core-slots
	MemoryMoved float64 `json:"memory_moved_gib"`
	Moves       int     `json:"moves"`
	Limit       int     `json:"moves_allowed"`
	// Valid says that the moves, carried out one by one on the instance, broke no rule
	// and led to the objective reported.
	Valid bool   `json:"valid"`
	Seed  uint64 `json:"seed"`
	pace.Took
}

// cooling is in the objective's core-slots. It starts below the price of the smallest
// published VM where the first state is near the bound: the departures that the bound
// asks for are then mostly right, and what is left is to find them places. Far from
// it, where K or links forbid them, it starts higher; and where few VMs make up all of
// the gap, each counts for so much that it starts high enough to try everything.
func cooling(gap float64, vms int) search.Schedule {
	start := max(.15, gap/400, 4*gap/float64(max(vms, 1)))
	return search.Schedule{Start: start, End: max(.03, start/100)}
}

const firstLeg = 1 << 17

// legShares: all of the time for one slow cooling.
var legShares = []float64{1}

// Run reads an instance, searches, checks the answer and writes it.
func Run(ctx context.Context, o Options) (Report, error) {
	in, err := Read(o.Instance)
	if err != nil {
		return Report{}, err
	}
	moves, rep, err := Search(ctx, in, o)
	if err != nil {
		return rep, err
	}
	cost, err := Check(in, moves)
	if err != nil {
		return rep, fmt.Errorf("%s: the search broke a rule: %w", o.Instance, err)
	}
	if math.Abs(cost-rep.Objective) > 1e-6*(1+cost) {
		return rep, fmt.Errorf("forecast-aware: %s: the search counts %g, the check %g", o.Instance, rep.Objective, cost)
	}
	rep.Valid, rep.Objective = true, cost
	return rep, instance.WriteJSON(o.Out, moves)
}

// Search finds moves on an instance that is valid; see [Options] for what bounds it.
// Its answer is not yet checked.
func Search(ctx context.Context, in *Instance, o Options) ([]Move, Report, error) {
	p := newProblem(in)
	rep := Report{Initial: p.objective(), Limit: in.K, Seed: o.Seed}
	bound, leave := p.relax()
	rep.LowerBound = bound
	p.begin(leave)
	took, err := pace.Timed(ctx, p, o.Seed, pace.Plan{
		Seconds: o.CPUSeconds, CPU: o.CPU, First: firstLeg, Shares: legShares, Repeat: o.Repeat,
	}, cooling(p.objective()-bound, in.V))
	rep.Took = took
	p.tidy()
	rep.Objective = p.objective()
	moves := make([]Move, 0, len(p.moved))
	for v, h := range p.at {
		if h != p.home[v] {
			moves = append(moves, Move{v, int(p.home[v]), int(h)})
			rep.MemoryMoved += p.mem[v]
		}
	}
	rep.Moves = len(moves)
	rep.Unserved = rep.Objective - Price*rep.MemoryMoved
	return moves, rep, err
}

// tidy sends home, one after the other, VMs whose move is worth less than its price,
// until there are none.
func (p *problem) tidy() {
	for again := true; again; {
		again = false
		for _, v := range append([]int32(nil), p.moved...) {
			p.steps = append(p.steps[:0], step{v, p.at[v], p.home[v]})
			if change, made := p.make(-1e-9); made {
				again = again || change < 0
			}
		}
	}
}
