package effect

import (
	"bytes"
	"math"
	"slices"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

const (
	// Span is how many steps before a move are compared with how many after it.
	Span = 12
	// every so many steps of the past the estimate is tried.
	every = 5
	// fewest moments of the past from which an interval is made.
	fewest = 24
	// mostControls bounds the VMs that stand for the rest of the fleet.
	mostControls = 96
	// fewestControls is how many it takes to speak of a fleet.
	fewestControls = 4
	outside        = .05 // of the truth that may lie beyond each bound
	follows        = .2  // of the fleet's surprise, by which one series may differ from it
)

// Move is a move that ended well.
type Move struct {
	Command             schemas.CommandID
	Epoch               uint64
	VM                  schemas.VMID
	Source, Destination schemas.HostID
	From, To            schemas.Step // first and last step that it touched
}

// Due is the step whose close makes the effect of a move known.
func (m *Move) Due() schemas.Step { return m.To + Span }

// Past is what is known of one VM.
type Past struct {
	VM    schemas.VMID
	Host  schemas.HostID // where it is
	Since schemas.Step   // first step that it was seen there; 0 for always
	View  window.View
}

// Judge works out what a move achieved. now is the newest closed step, at least Due;
// busy names the hosts with moves from Span before the move to now, whose VMs stand for
// nobody. ok is false when there is not enough to say anything.
func Judge(m *Move, now schemas.Step, all []Past, busy map[schemas.HostID]bool) (out schemas.Effect, ok bool) {
	out = schemas.Effect{Command: m.Command, Epoch: m.Epoch, VM: m.VM, Steps: Span, Terms: map[string]schemas.Change{}}
	j := judge{m: m, first: max(1, now-window.Rows+1), last: now}
	order := make([]*Past, len(all))
	for i := range all {
		order[i] = &all[i]
	}
	slices.SortFunc(order, func(a, b *Past) int { return bytes.Compare(a.VM[:], b.VM[:]) })
	var mover *Past
	for _, v := range order {
		stayed := v.Since <= m.From-Span
		switch {
		case v.VM == m.VM:
			mover = v
		case !stayed:
		case v.Host == m.Source:
			j.source = append(j.source, v)
		case v.Host == m.Destination:
			j.destination = append(j.destination, v)
		case !busy[v.Host]:
			j.controls = append(j.controls, v)
		}
	}
	if mover == nil || mover.Host != m.Destination {
		return out, false // it has gone on, or is gone: the hour after is another's doing
	}
	j.controls = thin(j.controls, mostControls)
	self := []*Past{mover}
	for i := range quantities {
		q := &quantities[i]
		if !measured(q, order) {
			continue
		}
		fleet := j.fleet(q)
		if c, ok := j.change(q, fleet, q.of(self, j.first, j.last), nil); ok {
			out.Terms["vm."+q.name] = c
		}
		j.host(out.Terms, fleet, "source.", q, j.source, mover, true)
		j.host(out.Terms, fleet, "destination.", q, j.destination, mover, false)
	}
	out.Verdict = verdict(out.Terms)
	return out, len(out.Terms) > 0
}

// thin keeps at most n, spread evenly.
func thin(v []*Past, n int) []*Past {
	if len(v) <= n {
		return v
	}
	out := make([]*Past, n)
	for i := range out {
		out[i] = v[i*len(v)/n]
	}
	return out
}

// measured says whether any VM has the quantity.
func measured(q *quantity, all []*Past) bool {
	for _, v := range all {
		if v.View.Cols[q.a] != nil || v.View.Cols[q.b] != nil {
			return true
		}
	}
	return false
}

// judge is the work on one move.
type judge struct {
	m                             *Move
	first, last                   schemas.Step
	source, destination, controls []*Past
}

// host adds the term of one of the two hosts. Of what a host carries, the VM is in the
// sum before (source) or after (destination); of how the others fare it is in neither.
func (j *judge) host(terms map[string]schemas.Change, fleet *fleet, who string, q *quantity, stayed []*Past, mover *Past, gave bool) {
	if len(stayed) == 0 && !(q.carried() && gave) {
		return
	}
	base := stayed
	var after *series
	if q.carried() {
		with := append(slices.Clip(stayed), mover)
		if gave {
			base, after = with, q.of(stayed, j.first, j.last)
			if len(stayed) == 0 {
				after = nothing(j.first, j.last)
			}
		} else {
			after = q.of(with, j.first, j.last)
		}
	}
	if c, ok := j.change(q, fleet, q.of(base, j.first, j.last), after); ok {
		terms[who+q.name] = c
	}
}

// nothing is what an empty host carries.
func nothing(first, last schemas.Step) *series {
	n := int(last-first) + 1
	s := &series{first: first, sum: make([]float64, n+1), n: make([]int32, n+1)}
	for i := range n {
		s.n[i+1] = int32(i + 1)
	}
	return s
}

// moments calls f with every moment of the past at which the estimate can be tried, the
// hour after it over before the move began.
func (j *judge) moments(f func(k int, from, to schemas.Step)) int {
	length := j.m.To - j.m.From
	k := 0
	for from := j.m.From - length - Span - 1; from-Span >= j.first; from -= every {
		f(k, from, from+length)
		k++
	}
	return k
}

// change is the term of a series; after, where it is another, is what the host carries
// once the move is over.
func (j *judge) change(q *quantity, fl *fleet, s, after *series) (c schemas.Change, ok bool) {
	real, ok := s.at(j.m.From, j.m.To)
	if !ok {
		return c, false
	}
	if after != nil {
		if real.y, ok = after.mean(j.m.To+1, j.m.To+1+Span); !ok {
			return c, false
		}
	}
	var past []sample
	var at []int
	j.moments(func(k int, from, to schemas.Step) {
		if p, ok := s.at(from, to); ok {
			past, at = append(past, p), append(at, k)
		}
	})
	if len(past) < fewest {
		return c, false
	}
	w := fit(past)
	level := 0.0
	for i := range past {
		level += past[i].x
	}
	level /= float64(len(past))
	size := func(f float64) float64 { return (f + level) / 2 } // errors grow with the level, and do not vanish with it
	along := 1.0
	if q.spare() {
		along = fl.along(past, at, w)
	}
	errs := make([]float64, 0, len(past))
	for i := range past {
		f := w.forecast(&past[i])
		f = max(0, f*(1+along*fl.surprise(at[i])))
		if z := size(f); z > 0 {
			errs = append(errs, (past[i].y-f)/z)
		} else {
			errs = append(errs, 0)
		}
	}
	slices.Sort(errs)
	without := w.forecast(&real)
	without = max(0, without*(1+along*fl.now))
	// A few hundred moments an hour apart or less are worth fewer, and the weights were
	// made from them: the interval is a little wider than they say.
	n := float64(len(errs)) * every / (2 * Span)
	wide := fl.doubt * size(without) * math.Sqrt((n+2)/max(1, n))
	// How closely it goes along with a fleet that does what it never did, nothing has shown.
	strange := follows * along * math.Abs(fl.now) * without
	low, high := min(0, quantile(errs, outside)*wide), max(0, quantile(errs, 1-outside)*wide)
	low, high = -math.Hypot(low, strange), math.Hypot(high, strange)
	c = schemas.Change{Before: real.x, After: real.y, Without: without, Low: real.y - without - high, High: real.y - without - low}
	return c, true
}

// fleet is what the VMs on quiet hosts did against their forecasts.
type fleet struct {
	then  []float64 // by moment of the past: share by which they exceeded them, together
	now   float64   // the same for the hour after the move
	doubt float64   // how much more they disagreed now than they used to, at least 1
}

func (f *fleet) surprise(k int) float64 {
	if k < len(f.then) {
		return f.then[k]
	}
	return 0
}

// along is how far a series has gone along with the fleet's surprises, from not at all
// to wholly. It is asked of what is mostly nothing, as waiting for cores: what little of
// it there is elsewhere in the fleet says little of a host that runs short. Load is taken
// to go along wholly, for its past surprises were small and say nothing of a large one.
func (f *fleet) along(past []sample, at []int, w weights) float64 {
	num, den := 0., 1e-12
	for i := range past {
		y := w.forecast(&past[i])
		u := f.surprise(at[i]) * y
		num += u * (past[i].y - y)
		den += u * u
	}
	return min(max(num/den, 0), 1)
}

// fleet looks at the controls. With too few of them nothing is corrected.
func (j *judge) fleet(q *quantity) *fleet {
	out := &fleet{doubt: 1}
	n := j.moments(func(int, schemas.Step, schemas.Step) {})
	came, foreseen := make([]float64, n+1), make([]float64, n+1) // the last one is now
	type member struct{ y, f []float64 }
	var all []member
	for _, v := range j.controls {
		s := q.of([]*Past{v}, j.first, j.last)
		real, ok := s.at(j.m.From, j.m.To)
		if !ok {
			continue
		}
		m := member{make([]float64, n+1), make([]float64, n+1)}
		var past []sample
		var at []int
		j.moments(func(k int, from, to schemas.Step) {
			m.f[k] = math.NaN()
			if p, ok := s.at(from, to); ok {
				past, at = append(past, p), append(at, k)
			}
		})
		if len(past) < fewest {
			continue
		}
		w := fit(past)
		for i, k := range at {
			m.y[k], m.f[k] = past[i].y, w.forecast(&past[i])
			came[k] += m.y[k]
			foreseen[k] += m.f[k]
		}
		m.y[n], m.f[n] = real.y, w.forecast(&real)
		came[n] += m.y[n]
		foreseen[n] += m.f[n]
		all = append(all, m)
	}
	if len(all) < fewestControls {
		return out
	}
	share := func(k int) float64 {
		if foreseen[k] <= 0 {
			return 0
		}
		return min(max(came[k]/foreseen[k]-1, -.9), 4)
	}
	out.then, out.now = make([]float64, n), share(n)
	apart := make([]float64, 0, len(all))
	disagree := func(k int, u float64) float64 {
		apart = apart[:0]
		for i := range all {
			if f := all[i].f[k]; f > 0 {
				apart = append(apart, math.Abs(all[i].y[k]/f-1-u))
			}
		}
		slices.Sort(apart)
		return spread(apart)
	}
	var usual []float64
	for k := range n {
		out.then[k] = share(k)
		if d := disagree(k, out.then[k]); d == d {
			usual = append(usual, d)
		}
	}
	slices.Sort(usual)
	if u, now := quantile(usual, .5), disagree(n, out.now); u > 0 && now > u {
		out.doubt = min(now/u, 20)
	}
	return out
}
