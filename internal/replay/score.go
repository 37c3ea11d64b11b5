package replay

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// Interval is a figure with its 90 % interval, by bootstrap over placements and days.
type Interval struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Scored is a policy, summed over placements. Ratios are nil where what they compare
// with did not run, or is 0.
type Scored struct {
	Unmet      float64             `json:"unmet_core_hours"`
	UnmetMem   float64             `json:"unmet_gib_hours"`
	Moves      int                 `json:"moves"`
	GiB        float64             `json:"gib_moved"`
	PingPong   int                 `json:"ping_pong"`
	Stood      float64             `json:"downtime_seconds"`
	Refused    int                 `json:"refused"`
	Decisions  int                 `json:"decisions"`
	Slowed     int                 `json:"vm_steps_slowed,omitempty"` // rich world: VMs that got less than nine tenths, by step
	Failed     int                 `json:"moves_given_up,omitempty"`  // rich world
	PingShare  float64             `json:"ping_pong_per_move"`
	Ratios     map[string]Interval `json:"ratios"` // unmet over that of others; moves_to_balancer; gap_closed
	Worst      *float64            `json:"worst_to_react,omitempty"`
	Hash       []string            `json:"hashes"` // of the moves, by placement
	Placements []float64           `json:"unmet_by_placement"`

	runs []*run
}

// Bar is a bound on a figure of the predictive policy.
type Bar struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Pass    float64 `json:"pass"`
	Stretch float64 `json:"stretch"`
	OK      bool    `json:"ok"`
	AtLeast bool    `json:"at_least"`
}

// Result of a backtest.
type Result struct {
	History    string             `json:"history"`
	VMs        int                `json:"vms"`
	Days       float64            `json:"days_scored"`
	Hosts      int                `json:"hosts"`
	C          float64            `json:"host_cores"`
	M          float64            `json:"host_gib"`
	U          float64            `json:"u"`
	Placements int                `json:"placements"`
	Filled     int                `json:"values_filled"`
	Invented   bool               `json:"sizes_invented"`
	Valid      bool               `json:"valid"`
	Gates      []Gate             `json:"gates"`
	Names      []string           `json:"order"`
	Policies   map[string]*Scored `json:"policies"`
	Pressure   *Warnings          `json:"pressure,omitempty"`
	CPU        float64            `json:"cpu_s"`

	h *History
	f Fleet
}

// Warnings is how good the warnings of hosts' shortages within an hour were, at a
// chance of .25 and more, on placements that stay as they are.
type Warnings struct {
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
	Brier     float64 `json:"brier"`
	Base      float64 `json:"base_rate"`
	Onsets    int     `json:"onsets"`
	Warned    float64 `json:"onsets_warned"` // share
	Lead      float64 `json:"lead_minutes"`  // mean over onsets, at most an hour
}

func summarise(h *History, f Fleet, opt *Options, runs []*run, watches []*watch, feasible bool) *Result {
	r := &Result{History: h.Name, VMs: len(h.VMs), Days: float64(f.End-f.Start) / day, Hosts: f.H, C: f.C, M: f.M, U: f.U,
		Placements: opt.Placements, Filled: h.Filled, Invented: h.Invented, Names: opt.Policies, Policies: map[string]*Scored{}, h: h, f: f}
	n := len(opt.Policies)
	for i, spec := range opt.Policies {
		s := &Scored{Ratios: map[string]Interval{}}
		for k := i; k < len(runs); k += n {
			s.add(runs[k])
		}
		if s.Moves > 0 {
			s.PingShare = float64(s.PingPong) / float64(s.Moves)
		}
		r.Policies[spec] = s
	}
	for _, s := range r.Policies {
		r.compare(s)
	}
	r.gates(feasible)
	if _, ok := r.Policies["predictive"]; ok {
		r.Pressure = warnings(watches)
	}
	return r
}

func (s *Scored) add(r *run) {
	x := r.world.Score()
	s.Unmet += x.Unmet
	s.UnmetMem += x.UnmetMem
	s.Moves += x.Moves
	s.GiB += x.GiB
	s.PingPong += x.PingPong
	s.Stood += x.Stood
	s.Refused += x.Refused
	s.Decisions += x.Decisions
	s.Slowed += x.Slowed
	s.Failed += x.Failed
	s.Hash = append(s.Hash, hex(x.Hash))
	s.Placements = append(s.Placements, x.Unmet)
	s.runs = append(s.runs, r)
}

func hex(x uint64) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := range b {
		b[i] = digits[x>>(60-4*i)&15]
	}
	return string(b[:])
}

// draws of the bootstrap.
const draws = 1000

// compare fills in the ratios of a policy to the others.
func (r *Result) compare(s *Scored) {
	for _, to := range [...]string{"none", "react", "balancer", "persist"} {
		if o := r.Policies[to]; o != nil && o != s && o.Unmet > 0 {
			s.Ratios[to] = r.interval(func(u func(*Scored) float64) float64 { return u(s) / u(o) })
		}
	}
	g, best := r.Policies["balancer"], r.Policies["oracle-6h"]
	if g != nil && best != nil && s != g && g.Unmet > best.Unmet {
		s.Ratios["gap_closed"] = r.interval(func(u func(*Scored) float64) float64 { return (u(g) - u(s)) / (u(g) - u(best)) })
	}
	if g != nil && g != s && g.Moves > 0 {
		x := float64(s.Moves) / float64(g.Moves)
		s.Ratios["moves_to_balancer"] = Interval{x, x, x}
	}
	if o := r.Policies["react"]; o != nil && o != s {
		worst := 0.0
		for i := range s.Placements {
			worst = max(worst, s.Placements[i]/o.Placements[i])
		}
		if worst-worst == 0 {
			s.Worst = &worst
		}
	}
}

// interval is a figure of unmet demands, and between which values it lies in nine of
// ten draws of as many placements and days, with replacement, the same for all
// policies of a draw.
func (r *Result) interval(f func(unmet func(*Scored) float64) float64) Interval {
	out := Interval{Value: f(func(s *Scored) float64 { return s.Unmet })}
	rng := rand.New(rand.NewPCG(1, 0xb007))
	days := int(r.Days)
	all := make([]float64, 0, draws)
	at, weight := make([]int, r.Placements), make([]int, days)
	for range draws {
		for i := range at {
			at[i] = rng.IntN(r.Placements)
		}
		clear(weight)
		for range days {
			weight[rng.IntN(days)]++
		}
		x := f(func(s *Scored) float64 {
			sum := 0.0
			for _, i := range at {
				for d, n := range weight {
					sum += float64(n) * s.runs[i].world.score.daily(d)
				}
			}
			return sum
		})
		if x-x == 0 {
			all = append(all, x)
		}
	}
	out.Low, out.High = between(all, .05), between(all, .95)
	return out
}

func (s *Score) daily(d int) float64 {
	if d < len(s.Daily) {
		return s.Daily[d]
	}
	return 0
}

// gates are the conditions on the comparison.
func (r *Result) gates(feasible bool) {
	h, f := r.h, r.f
	floor, demand := 0.0, 0.0
	for t := f.Start; t < f.End; t++ {
		sum := 0.0
		for v := range h.VMs {
			sum += h.At(v, t)
		}
		demand += sum / perHour
		floor += max(0, sum-float64(f.H)*f.C) / perHour
	}
	n := float64(r.Placements)
	unmet := func(name string) float64 {
		if s := r.Policies[name]; s != nil {
			return s.Unmet / n
		}
		return math.NaN()
	}
	add := func(g Gate) {
		if g.Value == g.Value { // one whose policies did not run is not asked
			r.Gates = append(r.Gates, g)
		}
	}
	add(gate("floor", floor/unmet("none"), .01, true, "what all hosts together cannot serve, of what goes unserved when nothing moves"))
	add(gate("oracle", unmet("oracle-6h")/unmet("react"), .05, true, "what even the oracle leaves, of what the threshold rule leaves"))
	add(gate("demand", unmet("react")/demand, .0003, false, "what the threshold rule leaves, of all demand"))
	add(gate("host_size", f.C/f.Peak, roomy, false, "a host's cores over the largest VM's peak"))
	fits := 0.0
	if feasible {
		fits = 1
	}
	add(gate("memory", fits, 1, false, "every VM has a place at the start"))
	r.Valid = len(r.Gates) == 5
	for _, g := range r.Gates {
		r.Valid = r.Valid && g.OK
	}
}

func warnings(watches []*watch) *Warnings {
	var p Pressure
	for _, w := range watches {
		p.Right += w.Right
		p.False += w.False
		p.Missed += w.Missed
		p.Onsets += w.Onsets
		p.Warned += w.Warned
		p.Lead += w.Lead
		p.Brier += w.Brier
		p.N += w.N
	}
	share := func(a, b int) float64 { return float64(a) / float64(max(1, b)) }
	return &Warnings{Precision: share(p.Right, p.Right+p.False), Recall: share(p.Right, p.Right+p.Missed), Brier: p.Brier / float64(max(1, p.N)),
		Base: share(p.Right+p.Missed, p.N), Onsets: p.Onsets, Warned: share(p.Warned, p.Onsets), Lead: 5 * p.Lead / float64(max(1, p.Onsets))}
}

// Bars are the bounds that the project holds its predictive policy to, for histories
// they are fixed for; nil for others.
func (r *Result) Bars() []Bar {
	s := r.Policies["predictive"]
	if s == nil || r.History == streamName {
		return nil
	}
	limits := [6][2]float64{{.75, .55}, {.75, .55}, {.30, .50}, {1, .7}, {.10, .05}, {.30, .20}}
	if strings.HasPrefix(r.History, "azure") {
		limits = [6][2]float64{{.85, .65}, {.90, .70}, {.15, .40}, {1.1, .8}, {.25, .12}, {.95, .80}}
	}
	worst := math.NaN()
	if s.Worst != nil {
		worst = *s.Worst
	}
	value := func(name string) float64 {
		if x, ok := s.Ratios[name]; ok {
			return x.Value
		}
		return math.NaN()
	}
	var out []Bar
	for i, b := range [...]Bar{{Name: "unmet / balancer", Value: value("balancer")}, {Name: "unmet / persist", Value: value("persist")},
		{Name: "gap closed", Value: value("gap_closed"), AtLeast: true}, {Name: "moves / balancer", Value: value("moves_to_balancer")},
		{Name: "ping-pong a move", Value: s.PingShare}, {Name: "worst placement / react", Value: worst}} {
		b.Pass, b.Stretch = limits[i][0], limits[i][1]
		b.OK = b.Value <= b.Pass
		if b.AtLeast {
			b.OK = b.Value >= b.Pass
		}
		if b.Value == b.Value {
			out = append(out, b)
		}
	}
	return out
}

// between is the p-quantile of values, which it sorts; NaN without any.
func between(x []float64, p float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	slices.Sort(x)
	return x[int(p*float64(len(x)-1)+.5)]
}
