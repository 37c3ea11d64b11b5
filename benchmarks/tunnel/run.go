package tunnel

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Options say how many sets of how many moves.
type Options struct {
	Sets  int
	Moves int
	// Writes is the most that a guest writes, as a share of what moves may have of the
	// link: at .8 a move with all of it would not converge.
	Writes float64
	Seed   uint64
}

// Row is one policy over all sets.
type Row struct {
	Total  float64    `json:"total_completion_seconds"` // mean of a set
	Range  [2]float64 `json:"total_completion_95"`
	Missed float64    `json:"missed_deadlines"` // mean of a set
	MRange [2]float64 `json:"missed_deadlines_95"`
	Never  int        `json:"never_ended"`      // moves of all sets
	Other  float64    `json:"other_guaranteed"` // share of what other traffic wanted, within its guarantee, that it had
}

// Against is ours less another, set by set: below 0 is better.
type Against struct {
	Total    float64    `json:"total_completion_seconds"`
	Range    [2]float64 `json:"total_completion_95"`
	Ratio    float64    `json:"total_completion_ratio"` // of the sums
	RatioR   [2]float64 `json:"total_completion_ratio_95"`
	Missed   float64    `json:"missed_deadlines"`
	MRange   [2]float64 `json:"missed_deadlines_95"`
	Slower   int        `json:"sets_slower"`
	MoreLate int        `json:"sets_with_more_late"`
}

// Result is a run.
type Result struct {
	Sets    int                `json:"sets"`
	Moves   int                `json:"moves"`
	Writes  float64            `json:"writes_most"`
	Seed    uint64             `json:"seed"`
	Policy  map[string]Row     `json:"policies"`
	Against map[string]Against `json:"ours_against"`
	CPU     float64            `json:"cpu_seconds"`
}

// Names of the policies, ours first.
var Names = []string{"ours", "equal", "none"}

// Run plays all sets under every policy.
func Run(ctx context.Context, o Options) (*Result, error) {
	if !(o.Writes > .02 && o.Writes < .8) {
		return nil, fmt.Errorf("writes %g: want a share between .02 and .8", o.Writes)
	}
	if o.Sets < 1 || o.Moves < 1 || o.Moves > 100 {
		return nil, fmt.Errorf("%d sets of %d moves: want at least one set of 1 to 100 moves", o.Sets, o.Moves)
	}
	r := rand.New(rand.NewPCG(o.Seed, 1))
	by := map[string][]score{}
	for range o.Sets {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s := newSet(r, o.Moves, o.Writes)
		for name, p := range map[string]policy{"ours": &ours{}, "equal": equal{}, "none": none{}} {
			by[name] = append(by[name], run(s, p))
		}
	}
	res := &Result{Sets: o.Sets, Moves: o.Moves, Writes: o.Writes, Seed: o.Seed, Policy: map[string]Row{}, Against: map[string]Against{}}
	for _, name := range Names {
		total, missed := column(by[name])
		row := Row{Total: mean(total), Range: interval(o.Seed, o.Sets, func(pick []int) float64 { return meanOf(total, pick) }),
			Missed: mean(missed), MRange: interval(o.Seed, o.Sets, func(pick []int) float64 { return meanOf(missed, pick) })}
		var want, got float64
		for _, s := range by[name] {
			row.Never += s.never
			want, got = want+s.want, got+s.got
		}
		row.Other = got / max(want, 1)
		res.Policy[name] = row
		if name != "ours" {
			res.Against[name] = against(o, by["ours"], by[name])
		}
	}
	return res, nil
}

func against(o Options, a, b []score) Against {
	var out Against
	dt, dm := make([]float64, len(a)), make([]float64, len(a))
	ta, _ := column(a)
	tb, _ := column(b)
	for i := range a {
		dt[i], dm[i] = a[i].total-b[i].total, float64(a[i].missed-b[i].missed)
		if dt[i] > 0 {
			out.Slower++
		}
		if dm[i] > 0 {
			out.MoreLate++
		}
	}
	out.Total, out.Missed, out.Ratio = mean(dt), mean(dm), mean(ta)/mean(tb)
	out.Range = interval(o.Seed, o.Sets, func(pick []int) float64 { return meanOf(dt, pick) })
	out.MRange = interval(o.Seed, o.Sets, func(pick []int) float64 { return meanOf(dm, pick) })
	out.RatioR = interval(o.Seed, o.Sets, func(pick []int) float64 { return meanOf(ta, pick) / meanOf(tb, pick) })
	return out
}

func column(s []score) (total, missed []float64) {
	for i := range s {
		total, missed = append(total, s[i].total), append(missed, float64(s[i].missed))
	}
	return total, missed
}

func mean(v []float64) (m float64) {
	for _, x := range v {
		m += x / float64(len(v))
	}
	return m
}

func meanOf(v []float64, pick []int) (m float64) {
	for _, i := range pick {
		m += v[i]
	}
	return m / float64(len(pick))
}

// interval is the 95 % one of a statistic by bootstrap over sets.
func interval(seed uint64, n int, f func(pick []int) float64) [2]float64 {
	r := rand.New(rand.NewPCG(seed, 2))
	const draws = 2000
	pick, got := make([]int, n), make([]float64, draws)
	for d := range got {
		for i := range pick {
			pick[i] = r.IntN(n)
		}
		got[d] = f(pick)
	}
	slices.Sort(got)
	return [2]float64{got[draws/40], got[draws-1-draws/40]}
}
