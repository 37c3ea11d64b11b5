package lstm

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// dumb is one chunk of a half written down as the equations stand, in float64 and one
// number at a time: what the fast version is held to. It fills in the weight of every
// judged origin when told to, else uses those given.
func dumb(w []float64, h *half, weight *[]float64, fix bool) (loss float64) {
	rec, head := w[:recSize], w[recSize:]
	sig := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	var mem, cells [lanes][Hidden]float64
	for i := range h.lane {
		l := &h.lane[i]
		if l.at+chunk >= len(l.y) {
			h.begin(l)
		}
		for j := range Hidden {
			mem[i][j], cells[i][j] = float64(l.c[atH+j]), float64(l.c[atC+j])
		}
	}
	x := make([]float32, inputs)
	n := 0
	for t := range chunk {
		for i := range h.lane {
			l := &h.lane[i]
			l.c.inputsAt(l.see(), l.s.Resource, x)
			read := make([]float64, 0, columns)
			for _, v := range x {
				read = append(read, float64(v))
			}
			read = append(append(read, mem[i][:]...), 1)
			z := make([]float64, gates)
			for r, v := range read {
				for g := range z {
					z[g] += v * rec[r*gates+g]
				}
			}
			for j := range Hidden {
				cells[i][j] = sig(z[Hidden+j])*cells[i][j] + sig(z[j])*math.Tanh(z[3*Hidden+j])
				mem[i][j] = sig(z[2*Hidden+j]) * math.Tanh(cells[i][j])
			}
		}
		if t%lossEach != 0 {
			continue
		}
		for i := range h.lane {
			l := &h.lane[i]
			out := append([]float64(nil), head[Hidden*outputs:]...)
			for j, v := range mem[i] {
				for o := range out {
					out[o] += v * head[j*outputs+o]
				}
			}
			if fix {
				*weight = append(*weight, l.n/(l.loss+l.n*l.floor))
			}
			sum, num := dumbJudge(&l.walk, h.rng, out)
			if fix && num > 0 {
				l.loss += sum / num
				l.n++
			}
			loss += (*weight)[n] * sum
			n++
		}
	}
	return loss
}

func dumbJudge(k *walk, r *rand.Rand, out []float64) (sum, num float64) {
	var f frame
	f.look(k.c, k.from+schemas.Step(k.at-1))
	for t := range targets {
		var y float32
		var ok bool
		if t < len(horizons) {
			lead := jitter(horizons[t], r)
			y, ok = k.truth(lead), f.lead(lead)
		} else {
			n := maxima[t-len(horizons)]
			y, ok = k.highest(n), f.top(n)
		}
		if !ok || y != y {
			continue
		}
		part := out[t*perTarget : (t+1)*perTarget]
		var total, loss float64
		for c, v := range part[:candidates] {
			if f.ok[c] {
				total += math.Exp(v)
			}
		}
		for l, tau := range schemas.Levels {
			q := part[candidates+l] * float64(f.unit[l])
			for c, v := range part[:candidates] {
				if f.ok[c] {
					q += math.Exp(v) / total * float64(f.is[c][l])
				}
			}
			e := float64(y) - q
			loss += 2 * max(float64(tau)*e, (float64(tau)-1)*e) / levels
		}
		sum += float64(importance(t)) * loss
		num += float64(importance(t))
	}
	return sum, num
}

// The fast forward pass gives the loss of the dumb one, and its gradient the dumb
// one's finite differences: along random directions in each part of the parameters,
// on a chunk that begins with memories and ends some series.
func TestGradientAgainstFiniteDifferences(t *testing.T) {
	pool := Generate(11, 8, 3)
	w := NewWeights(3)
	r := rand.New(rand.NewPCG(9, 9))
	for i := range w.p { // away from the tame start
		w.p[i] += float32(.05 * r.NormFloat64())
	}
	made := func() *half {
		h := newHalf(w, pool, 7, 1)
		h.run()
		return h
	}
	fast := made()
	fast.run()
	exact := make([]float64, Size)
	for i, v := range w.p {
		exact[i] = float64(v)
	}
	var weight []float64
	loss := dumb(exact, made(), &weight, true)
	if math.Abs(loss-fast.sum) > 1e-4*loss {
		t.Fatalf("loss %v, the dumb way %v", fast.sum, loss)
	}
	parts := []struct {
		name string
		in   func(i int) bool
	}{
		{"inputs and biases", func(i int) bool { return i < recSize && (i < inputs*gates || i >= (columns-1)*gates) }},
		{"memory", func(i int) bool { return i >= inputs*gates && i < (columns-1)*gates }},
		{"forget gates", func(i int) bool { return i < recSize && i%gates/Hidden == 1 }},
		{"shares", func(i int) bool { return i >= recSize && (i-recSize)%outputs%perTarget < candidates }},
		{"bends", func(i int) bool { return i >= recSize && (i-recSize)%outputs%perTarget >= candidates }},
	}
	for _, part := range parts {
		dir := make([]float64, Size)
		var norm, along float64
		for i, g := range fast.grad {
			if part.in(i) { // leaning on the gradient, so that the slope is not lost in rounding
				dir[i] = float64(g) * (1 + .5*r.NormFloat64())
				norm += dir[i] * dir[i]
			}
		}
		norm = math.Sqrt(norm)
		if norm == 0 {
			t.Fatalf("%s: no gradient", part.name)
		}
		const eps = 1e-5
		up, down := append([]float64(nil), exact...), append([]float64(nil), exact...)
		for i := range dir {
			dir[i] /= norm
			along += dir[i] * float64(fast.grad[i])
			up[i] += eps * dir[i]
			down[i] -= eps * dir[i]
		}
		slope := (dumb(up, made(), &weight, false) - dumb(down, made(), &weight, false)) / (2 * eps)
		if math.Abs(slope-along) > .01*math.Abs(slope) {
			t.Errorf("%s: slope %.6g, gradient %.6g", part.name, slope, along)
		}
	}
}

func TestExp(t *testing.T) {
	for x := float32(-79.9); x < 80; x += .0137 {
		want := math.Exp(float64(x))
		if got := float64(exp(x)); math.Abs(got-want) > 1e-6*want {
			t.Fatalf("exp(%v) = %v, want %v", x, got, want)
		}
		if got := float64(tanh(x)); math.Abs(got-math.Tanh(float64(x))) > 1e-6 {
			t.Fatalf("tanh(%v) = %v", x, got)
		}
	}
}

func TestSigmoids(t *testing.T) {
	var x []float32
	for v := float32(-200); v < 200; v += .0037 {
		x = append(x, v)
	}
	x = append(x, float32(math.Inf(1)), float32(math.Inf(-1)))
	got := append([]float32(nil), x...)
	sigmoids(got)
	for i, v := range x {
		if want := 1 / (1 + math.Exp(-float64(v))); math.Abs(float64(got[i])-want) > 2e-6 {
			t.Fatalf("of %v: %v, want %v", v, got[i], want)
		}
	}
}
