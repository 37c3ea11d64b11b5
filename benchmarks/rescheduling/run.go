package rescheduling

import (
	"context"
	"fmt"
	"strconv"

	"github.com/foreshift/foreshift/benchmarks/instance"
	"github.com/foreshift/foreshift/benchmarks/pace"
	"github.com/foreshift/foreshift/placer/search"
)

// Options of a run.
type Options struct {
	Snapshot   string         // file in the data set's layout; .gz is read as it is
	Moves      int            // K: the most VMs that may move
	CPUSeconds float64        // of the process, reading included, as CPU tells them
	CPU        func() float64 // CPU-seconds the process has used
	Repeat     *pace.Log      // an earlier search to repeat, without a clock
	Seed       uint64
	Out        string // file for the moves; none when empty
}

// Report is what a search reached.
type Report struct {
	Objective    int     `json:"objective"` // y: slots once the moves are done
	Initial      int     `json:"initial"`
	Moves        int     `json:"moves"`
	Limit        int     `json:"moves_allowed"`
	FragmentRate float64 `json:"fragment_rate"` // 1 - 16 y / free cores
	UpperBound   int     `json:"upper_bound"`   // free cores / 16: no better y exists
	// Valid says that the moves, carried out one by one on the snapshot, broke no rule
	// and left the slots reported.
	Valid bool   `json:"valid"`
	Seed  uint64 `json:"seed"`
	pace.Took
}

// The cooling: temperatures are in slots. price is what a moved VM counts as in the
// search, so that moves which bring little are left for better ones; what is
// reported is y alone.
var cooling = search.Schedule{Start: .2, End: .02}

const price = .15

const firstLeg = 1 << 18

// legShares: two thirds of the time for one slow cooling, the rest for another.
var legShares = []float64{.65, 1}

// Run reads a snapshot, searches, checks the answer and writes it.
func Run(ctx context.Context, o Options) (Report, error) {
	s, err := Read(o.Snapshot)
	if err != nil {
		return Report{}, err
	}
	moves, rep, err := Search(ctx, s, o)
	if err != nil {
		return rep, err
	}
	y, err := Check(s, moves, o.Moves)
	if err != nil {
		return rep, fmt.Errorf("%s: the search broke a rule: %w", o.Snapshot, err)
	}
	if y != rep.Objective {
		return rep, fmt.Errorf("rescheduling: %s: the search counts %d slots, the check %d", o.Snapshot, rep.Objective, y)
	}
	rep.Valid = true
	return rep, instance.WriteJSON(o.Out, moves)
}

// Search finds moves on a snapshot that is valid; see [Options] for what bounds it.
// Its answer is not yet checked.
func Search(ctx context.Context, s *Snapshot, o Options) ([]Move, Report, error) {
	if o.Moves < 0 || o.Moves > MaxVMs {
		return nil, Report{}, fmt.Errorf("rescheduling: %d moves are not within 0..%d", o.Moves, MaxVMs)
	}
	p := newProblem(s, o.Moves)
	p.price = price
	rep := Report{Initial: p.y, Limit: o.Moves, Seed: o.Seed}
	took, err := pace.Timed(ctx, p, o.Seed, pace.Plan{
		Seconds: o.CPUSeconds, CPU: o.CPU, First: firstLeg, Shares: legShares, Repeat: o.Repeat,
	}, cooling)
	rep.Took = took
	rep.Objective, rep.Moves = p.best.y, len(p.best.moves)
	free := 0
	for n, f := range newProblem(s, 0).free {
		if p.active[n] {
			free += int(f)
		}
	}
	rep.UpperBound = free / SlotCores
	if free > 0 {
		rep.FragmentRate = 1 - float64(SlotCores*rep.Objective)/float64(free)
	}
	return p.named(s, p.best.moves), rep, err
}

// named puts the names of the snapshot to the moves.
func (p *problem) named(s *Snapshot, moves []step) []Move {
	var hosts, vms []string
	for c := range s.Clusters {
		for i := range s.Clusters[c].Hosts {
			hosts = append(hosts, s.Clusters[c].Hosts[i].ID)
		}
		for i := range s.Clusters[c].VMs {
			vms = append(vms, s.Clusters[c].VMs[i].ID)
		}
	}
	at := func(v, n int32) string {
		if p.wide[v] {
			return hosts[n>>1]
		}
		return hosts[n>>1] + "/" + strconv.Itoa(int(n&1))
	}
	out := make([]Move, 0, len(moves))
	for _, m := range moves {
		out = append(out, Move{vms[m.vm], at(m.vm, m.from), at(m.vm, m.to)})
	}
	return out
}
