package roadef

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"

	"github.com/foreshift/foreshift/benchmarks/instance"
	"github.com/foreshift/foreshift/placer/search"
)

// Options say what to search and for how long.
type Options struct {
	Model, Assignment string // files of the challenge; .gz is read as it is
	// CPUSeconds of the process, reading included, as CPU tells them.
	CPUSeconds float64
	CPU        func() float64
	// Legs repeats an earlier search by its counts of evaluations, without a clock.
	Legs []int
	Seed uint64
	Out  string // file for the assignment; none when empty
	// Progress, if not nil, is told the cost at the end of each leg.
	Progress func(leg int, total int64)
}

// Report is what a search reached.
type Report struct {
	Objective               int64   `json:"objective"`
	Initial                 int64   `json:"initial"`
	LowerBound              int64   `json:"lower_bound"` // see [LowerBound]
	Moves                   int     `json:"moves"`       // processes that are not at home
	Evaluations             int     `json:"evaluations"`
	EvaluationsPerCPUSecond float64 `json:"evaluations_per_cpu_second"`
	CPUSeconds              float64 `json:"cpu_seconds"`
	// Valid says that an independent evaluation found every rule obeyed.
	Valid bool   `json:"valid"`
	Cost  Cost   `json:"cost"`
	Seed  uint64 `json:"seed"`
	Legs  []int  `json:"legs"` // evaluations of each leg: repeats the search exactly
}

// Run reads an instance, searches, checks the answer and writes it.
func Run(ctx context.Context, o Options) (Report, error) {
	m, first, err := Load(o.Model, o.Assignment)
	if err != nil {
		return Report{}, err
	}
	p, err := New(m, first)
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w", o.Assignment, err)
	}
	rep := Report{Initial: p.Total(), LowerBound: LowerBound(m), Seed: o.Seed}
	cpu := o.CPU
	if cpu == nil {
		cpu = func() float64 { return 0 }
	}
	started := cpu()
	rep.Legs = Search(p, o, func() bool { return ctx.Err() != nil })
	for _, n := range rep.Legs {
		rep.Evaluations += n
	}
	if spent := cpu() - started; spent > 0 {
		rep.EvaluationsPerCPUSecond = float64(rep.Evaluations) / spent
	}
	now := p.Assignment()
	c, err := Evaluate(m, first, now)
	if err != nil {
		return rep, fmt.Errorf("%s: the search broke a rule: %w", o.Model, err)
	}
	if c.Total() != p.Total() {
		return rep, fmt.Errorf("%s: the search counts %d, the evaluator %d", o.Model, p.Total(), c.Total())
	}
	rep.Valid, rep.Cost, rep.Objective = true, c, c.Total()
	for i, k := range now {
		if k != first[i] {
			rep.Moves++
		}
	}
	rep.CPUSeconds = cpu()
	if o.Out != "" {
		if err := os.WriteFile(o.Out, FormatAssignment(now), 0o644); err != nil {
			return rep, fmt.Errorf("write the assignment: %w", err)
		}
	}
	return rep, nil
}

// Load reads a model and its first assignment.
func Load(model, assignment string) (*Model, []int32, error) {
	text, err := instance.Read(model)
	if err != nil {
		return nil, nil, err
	}
	m, err := ParseModel(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", model, err)
	}
	if text, err = instance.Read(assignment); err != nil {
		return nil, nil, err
	}
	first, err := ParseAssignment(text, m)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", assignment, err)
	}
	return m, first, nil
}

// FormatAssignment is one line of machine indices.
func FormatAssignment(at []int32) []byte {
	var b []byte
	for i, k := range at {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendInt(b, int64(k), 10)
	}
	return append(b, '\n')
}

// newRand is the search's own stream of chance.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x726f61646566)) }

// legs is how many steps the cooling has. Each is at one temperature, and as long as
// the time that is left allows by the speed of the one before; so the counts alone
// repeat a search, even one that the clock cut short. The problem says which
// temperature each leg has.
const legs = 128

// spare is the share of the time that is left for the check and the writing.
const spare = .01

// Search improves the problem within the options' time or counts, and gives the
// evaluations that each leg used.
func Search(p *Problem, o Options, stop func() bool) []int {
	rng := newRand(o.Seed)
	s := p.Schedule()
	a := search.Begin(p)
	defer a.End()
	var used []int
	seconds := o.CPUSeconds * (1 - spare)
	end := func() bool { return stop() || o.CPUSeconds > 0 && o.CPU != nil && o.CPU() >= seconds }
	rate := 1e6 // evaluations per CPU-second, before any is known
	n := legs
	switch {
	case len(o.Legs) > 0:
		n = min(n, len(o.Legs))
	case o.CPU == nil:
		return nil
	}
	for k := range n {
		b := search.Budget{Stop: end}
		var before float64
		if len(o.Legs) > 0 {
			b = search.Budget{Evaluations: o.Legs[k], Stop: stop}
		} else {
			before = o.CPU()
			b.Evaluations = int(rate * (seconds - before) / float64(legs-k))
		}
		t := s.At(p.cooled(k))
		r := a.Cool(rng, b, search.Schedule{Start: t, End: t})
		if r.Evaluations == 0 {
			break
		}
		used = append(used, r.Evaluations)
		if len(o.Legs) == 0 {
			if spent := o.CPU() - before; spent > 1e-3 {
				rate = float64(r.Evaluations) / spent
			}
		}
		if o.Progress != nil {
			o.Progress(k, p.Total())
		}
	}
	return used
}
