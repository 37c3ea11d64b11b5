package lstm

import (
	"fmt"
	"math"
)

// Options of a training. The zero value of a field means the value given.
type Options struct {
	Seed     uint64
	Rate     float64 // of Adam: 1e-3
	Clip     float64 // of the gradient's norm: 1
	Updates  int     // over which the rate falls to a tenth, by a cosine: 1000
	Every    int     // updates between two judgements by Train: 100
	Patience int     // judgements without progress after which Train stops: 5
	Judged   int     // held series that are judged by at most: 96
}

// Trainer trains weights. It is a function of weights, series, options and the number
// of calls.
type Trainer struct {
	w     *Weights
	held  []Series
	opt   Options
	half  [2]*half
	m, v  []float32
	steps int
}

// NewTrainer takes weights to begin with (they are copied), the series to train on,
// those to judge by, of other VMs, and the options.
func NewTrainer(from *Weights, train, held []Series, opt Options) (*Trainer, error) {
	keep := train[:0:0]
	for _, s := range train {
		if len(s.Y) >= 2*day {
			keep = append(keep, s)
		}
	}
	if len(keep) == 0 {
		return nil, fmt.Errorf("lstm: none of %d series to train on has two days", len(train))
	}
	def := func(v *float64, d float64) {
		if *v == 0 {
			*v = d
		}
	}
	count := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&opt.Rate, 1e-3)
	def(&opt.Clip, 1)
	count(&opt.Updates, 1000)
	count(&opt.Every, 100)
	count(&opt.Patience, 5)
	count(&opt.Judged, 96)
	t := &Trainer{w: from.Clone(), held: held, opt: opt, m: make([]float32, Size), v: make([]float32, Size)}
	if n := len(held); n > opt.Judged { // evenly over all
		t.held = nil
		for i := range opt.Judged {
			t.held = append(t.held, held[i*n/opt.Judged])
		}
	}
	for i := range t.half {
		t.half[i] = newHalf(t.w, keep, opt.Seed, uint64(i+1))
	}
	return t, nil
}

// Weights are the weights as they are now, a copy.
func (t *Trainer) Weights() *Weights { return t.w.Clone() }

// Update makes one update on one batch (32 series x 96 steps), on two goroutines, and
// gives the batch's mean loss relative to the running loss of each series. Adam:
// Kingma and Ba, arXiv 1412.6980; clipping by the norm: Pascanu et al., arXiv
// 1211.5063.
func (t *Trainer) Update() float64 {
	done := make(chan struct{})
	go func() {
		t.half[1].run()
		close(done)
	}()
	t.half[0].run()
	<-done
	a, b := t.half[0], t.half[1]
	n := a.num + b.num
	if n == 0 {
		return 0
	}
	var norm float64
	for i := range a.grad {
		a.grad[i] = (a.grad[i] + b.grad[i]) / float32(n)
		norm += float64(a.grad[i]) * float64(a.grad[i])
	}
	norm = math.Sqrt(norm)
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return math.NaN() // nothing is learnt from a broken batch
	}
	scale := float32(min(1, t.opt.Clip/max(norm, 1e-12)))
	t.steps++
	part := min(1, float64(t.steps)/float64(t.opt.Updates))
	rate := t.opt.Rate * (.1 + .9*(1+math.Cos(math.Pi*part))/2)
	const b1, b2 = .9, .999
	c1, c2 := 1-math.Pow(b1, float64(t.steps)), 1-math.Pow(b2, float64(t.steps))
	step, root := float32(rate/c1), float32(1/c2)
	for i, g := range a.grad {
		g *= scale
		t.m[i] += (1 - b1) * (g - t.m[i])
		t.v[i] += (1 - b2) * (g*g - t.v[i])
		t.w.p[i] -= step * t.m[i] / (float32(math.Sqrt(float64(t.v[i]*root))) + 1e-8)
	}
	return (a.sum + b.sum) / n
}

// Train makes updates, judges every so many and keeps the best weights; it stops
// early when patience runs out or see, which is told each judgement and may be nil,
// says false.
func (t *Trainer) Train(updates int, see func(update int, score float64) bool) (best *Weights, score float64) {
	best, score = t.w.Clone(), Judge(t.w, t.held)
	if see != nil && !see(0, score) {
		return best, score
	}
	bad := 0
	for u := 1; u <= updates; u++ {
		t.Update()
		if u%t.opt.Every != 0 && u != updates {
			continue
		}
		s := Judge(t.w, t.held)
		if s < score {
			best, score, bad = t.w.Clone(), s, 0
		} else {
			bad++
		}
		if see != nil && !see(u, s) || bad >= t.opt.Patience {
			break
		}
	}
	return best, score
}

// judgeEach is the number of steps from one judged origin to the next.
const judgeEach = 23

// Judge is how weights do on series: the geometric mean over series of the pinball
// loss over all targets, relative to that of the plainest forecast (quantiles of the
// last day, and of its maxima). Below 1 is better; NaN without series.
func Judge(w *Weights, series []Series) float64 {
	k := newWalk()
	var f frame
	v, z, out := make([]float32, columns), make([]float32, gates), make([]float32, outputs)
	plain := make([]float32, outputs)
	for t := range targets {
		for c := range candidates {
			plain[t*perTarget+c] = -15
		}
		plain[t*perTarget+byDay] = 15
	}
	shares(plain)
	var total, n float64
	for i := range series {
		s := &series[i]
		k.start(s, 0, len(s.Y))
		var own, ref, dev, m float64
		for k.at < len(k.y) {
			y := k.y[k.at]
			at := k.see()
			k.c.look(w, at, s.Resource, v, z)
			if y == y {
				dev += math.Abs(float64(y - k.c[atLoc]))
				m++
			}
			if k.at <= day/4 || k.at%judgeEach != 0 {
				continue
			}
			w.ask(k.c[atH:atH+Hidden], out)
			shares(out)
			a, _ := judge(&k, &f, nil, out, nil, 0)
			b, _ := judge(&k, &f, nil, plain, nil, 0)
			own += a
			ref += b
		}
		if m == 0 || ref == 0 {
			continue
		}
		floor := 1e-4 * ref
		total += math.Log((own + floor) / (ref + floor))
		n++
	}
	if n == 0 {
		return math.NaN()
	}
	return math.Exp(total / n)
}

// Tuned is what fine-tuning came to.
type Tuned struct {
	Weights       *Weights
	Before, After float64 // [Judge] on VMs that were held back
	Train, Held   int     // series
	Adopted       bool    // After is better: Weights are the new ones, else the old
}

// Margin is by how much fine-tuned weights must be better to be adopted.
const Margin = .002

// FineTune runs a [Tuner] to its end. More, which may be nil, is asked at each
// judgement whether to go on.
func FineTune(from *Weights, series []Series, seed uint64, updates int, more func() bool) (Tuned, error) {
	t, err := NewTuner(from, series, Options{Seed: seed, Updates: updates})
	if err != nil {
		return Tuned{}, err
	}
	for t.Tune(t.t.opt.Every) {
		if more != nil && !more() {
			break
		}
	}
	return t.Result(), nil
}
