package forecaster

import (
	"slices"

	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/lstm"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/pressure"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// lane is all that learns about one resource. Lanes share nothing that is written
// while they work, so they may run at once, and what comes out does not depend on
// how many do.
type lane struct {
	r       schemas.Resource
	bank    *ensemble.Ensemble
	net     *lstm.Bank // the network among the bank's experts
	head    *pressure.Head
	known   model.Regressors
	prior   prior        // of VMs that are new
	without schemas.Dist // scratch: a forecast without what is known of the future
	y       []float32    // scratch: demand by index
	x       []float32    // scratch: a series
	shares  []float32    // scratch: by expert
	bad     uint64       // refits refused since the last issue
}

func newLane(r schemas.Resource) *lane {
	l := &lane{r: r, head: pressure.NewHead(), without: schemas.NewDist()}
	banks := ensemble.Banks()
	for _, b := range banks {
		if net, ok := b.(*lstm.Bank); ok {
			l.net = net
		}
	}
	l.bank = ensemble.Of(banks...)
	return l
}

// add makes room for a VM's series and gives its index.
func (l *lane) add(id schemas.VMID) int {
	i := l.bank.Add(model.Key{VM: id, Resource: l.r})
	l.room(i)
	return i
}

// room makes the scratch reach index i.
func (l *lane) room(i int) {
	for len(l.y) <= i {
		l.y = append(l.y, schemas.NaN())
	}
}

// observe tells the bank the demand at a step.
func (l *lane) observe(d *Decider, s schemas.Step) {
	for i := range l.y {
		l.y[i] = schemas.NaN()
	}
	for _, v := range d.list {
		w := v.W.View()
		l.y[d.vms[v.Slot].index] = w.At(l.r, int(s-w.First))
	}
	l.bank.Observe(s, l.y, l.known)
}

// refit refits the series that are due or whose past has changed and whose turn it is;
// one of which nothing is known, as of a resource that nobody reports, has nothing to be
// refitted to.
func (l *lane) refit(d *Decider, now schemas.Step) {
	for _, v := range d.list {
		st := &d.vms[v.Slot]
		w := v.W.View()
		key := model.Key{VM: v.ID, Resource: l.r}
		if d.share[v.Partition] < filled || st.dirty && !st.turn || !st.dirty && model.Due(key, w.First, now) != now {
			continue
		}
		l.x = w.Series(l.r, l.x)
		if !slices.ContainsFunc(l.x, func(y float32) bool { return y == y }) {
			continue
		}
		if err := l.bank.Refit(st.index, w, key.Hash()); err != nil {
			l.bad++ // an index the bank does not know: never happens, but is seen
		}
	}
}

// overAlloc is how far above its allocation a VM may be measured, by errors of speed.
const overAlloc = 1.05

// alloc is what is allocated to a VM, 0 when nobody says: nothing but CPU and memory is.
func (l *lane) alloc(v *window.VM) float32 {
	alloc := schemas.NaN()
	switch l.r {
	case schemas.CPU:
		alloc = v.AllocCPU
	case schemas.Memory:
		alloc = v.AllocMem
	}
	if !(alloc > 0 && alloc < mostDemand) {
		return 0
	}
	return alloc
}

// most is what a VM can demand at most: no more than its allocation, as long as it did
// not lately. Without one it is what a message may carry.
func (l *lane) most(w *window.View, v *window.VM) float32 {
	most := overAlloc * l.alloc(v)
	if most == 0 {
		return 2 * mostDemand
	}
	for i := max(0, w.N-12); i < w.N; i++ {
		if y := w.At(l.r, i); y > most {
			most = y
		}
	}
	return most
}

// limit is the demand of a VM above which it goes unserved, 0 when its allocation
// names none.
func (l *lane) limit(d *Decider, v *window.VM) float32 {
	return l.alloc(v) * float32(d.cfg.LimitRatio)
}

// school is how many lessons the window that a VM comes with is worth: a week's.
const school = 7 * schemas.StepsPerDay / pressure.LearnEvery

// learn shows the head the lessons that are due: one a VM and hour, spread over the
// hour, and the whole window when the VM came with one and it is its turn.
func (l *lane) learn(d *Decider, now schemas.Step) {
	for _, v := range d.list {
		st := &d.vms[v.Slot]
		in := pressure.Input{Limit: l.limit(d, v), Resource: l.r, Long: &st.long[l.r]}
		due := (now+schemas.Step(st.id[0]))%pressure.LearnEvery == 0
		came := st.turn && !st.taught && v.W.Len() >= schemas.StepsPerDay
		if in.Limit == 0 || !came && !due || d.share[v.Partition] < filled {
			continue
		}
		w := v.W.View()
		l.x = w.Series(l.r, l.x)
		in.Y, in.Step = l.x, w.Last()
		if came {
			for n := min(school, len(in.Y)/pressure.LearnEvery); n > 0; n-- {
				l.head.Learn(&in, n*pressure.LearnEvery)
			}
		}
		l.head.Learn(&in, 0)
	}
	l.head.Fit(now)
}

// forecast writes the distributions of all rows. What is known of the future is left
// out first where it matters, to tell its part; the bank learns from the last forecast
// of a step.
func (l *lane) forecast(d *Decider, batches []*batch) {
	l.prior.reset()
	for _, b := range batches {
		for i, v := range b.vms {
			index, w, q := d.vms[v.Slot].index, v.W.View(), b.m.Dist(i, l.r)
			if l.concerned(index, d.issued) {
				l.bank.Forecast(index, b.m.Grid, model.Regressors{}, &l.without)
				l.bank.Forecast(index, b.m.Grid, l.known, &q)
				b.chances[i].known[l.r] = change(l.without, q)
			} else {
				l.bank.Forecast(index, b.m.Grid, l.known, &q)
			}
			complete(q)
			l.prior.add(q, levelNow(&w, l.r))
		}
	}
	for _, b := range batches {
		for i, v := range b.vms {
			q := b.m.Dist(i, l.r)
			by := 1 + float32(max(0, warmFrom-v.Steps))/warmFrom
			if (v.Steps < coldBelow || d.vms[v.Slot].dirty) && schemas.IsNaN(q.Q[0]) {
				w := v.W.View()
				l.prior.apply(levelNow(&w, l.r), q)
				b.chances[i].cold[l.r], by = true, 2
			}
			if by > 1 {
				b.chances[i].wide[l.r] = true
				widen(q, by)
			}
			w := v.W.View()
			bound(q, l.most(&w, v))
		}
	}
}

// estimate gives the chances that the rows of a message exceed their limits; those of
// a VM without one stay empty.
func (l *lane) estimate(d *Decider, f *schemas.Forecasts, vms []*window.VM, dst []chances) {
	for i, v := range vms {
		in := pressure.Input{Limit: l.limit(d, v), Resource: l.r, Long: &d.vms[v.Slot].long[l.r]}
		if in.Limit == 0 {
			continue
		}
		w := v.W.View()
		l.x = w.Series(l.r, l.x)
		in.Y, in.Step, in.Dist, in.Scenarios = l.x, w.Last(), f.Dist(i, l.r), f.Scenarios(i)
		dst[i].limit[l.r] = float64(in.Limit)
		dst[i].of[l.r] = l.head.Estimate(&in)
	}
}

// chances are the estimates for a VM by resource; limit is 0 where there is none.
type chances struct {
	of    [schemas.NumResources]pressure.Estimate
	limit schemas.Vec
	cold  [schemas.NumResources]bool    // forecast as the fleet is
	wide  [schemas.NumResources]bool    // forecast with widened quantiles
	known [schemas.NumResources]float32 // most that what is known of the future changes the median by
}

// together runs f(0) .. f(n-1) on up to workers goroutines and waits. Each call must
// touch only what is its own: then the result is that of a loop.
func together(workers, n int, f func(i int)) {
	if workers = min(workers, n); workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	next, done := make(chan int, n), make(chan bool, workers)
	for i := range n {
		next <- i
	}
	close(next)
	for range workers {
		go func() {
			for i := range next {
				f(i)
			}
			done <- true
		}()
	}
	for range workers {
		<-done
	}
}
