package model

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// simulate draws n values of an ARMA after a while.
func simulate(m *arma, n int, seed uint64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 9))
	w, e := make([]float64, n+500), make([]float64, n+500)
	for t := range w {
		e[t] = rng.NormFloat64()
		w[t] = e[t]
		for i := 0; i < min(m.p, t); i++ {
			w[t] += m.phi[i] * w[t-1-i]
		}
		for j := 0; j < min(m.q, t); j++ {
			w[t] += m.theta[j] * e[t-1-j]
		}
	}
	return w[500:]
}

// drawn is an admissible model of any order.
func drawn(t *rapid.T) arma {
	m := arma{p: rapid.IntRange(0, 3).Draw(t, "p"), q: rapid.IntRange(0, 2).Draw(t, "q")}
	for ok := false; !ok; ok = m.admissible() {
		for i := 0; i < m.p; i++ {
			m.phi[i] = rapid.Float64Range(-.9, .9).Draw(t, "phi") / float64(i+1)
		}
		for j := 0; j < m.q; j++ {
			m.theta[j] = rapid.Float64Range(-.9, .9).Draw(t, "theta") / float64(j+1)
		}
	}
	return m
}

// The filter's likelihood is the density of a multivariate normal whose covariances
// follow from the model, gaps left out.
func TestLikelihoodAgainstTheDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawn(t)
		n := rapid.IntRange(8, 60).Draw(t, "n")
		w := simulate(&m, n, rapid.Uint64().Draw(t, "seed"))
		for k := 0; k < rapid.IntRange(0, 5).Draw(t, "gaps"); k++ {
			w[rapid.IntRange(0, n-1).Draw(t, "gap")] = math.NaN()
		}
		// autocovariances from the psi weights
		psi := make([]float64, 4000)
		for h := range psi {
			if h == 0 {
				psi[h] = 1
			} else if h <= m.q {
				psi[h] = m.theta[h-1]
			}
			for i := 0; i < min(m.p, h); i++ {
				psi[h] += m.phi[i] * psi[h-1-i]
			}
		}
		var at []int
		for k, y := range w {
			if y == y {
				at = append(at, k)
			}
		}
		k := len(at)
		cov, y := make([]float64, k*k), make([]float64, k)
		gamma := make([]float64, n)
		for lag := range gamma {
			for h := 0; h+lag < len(psi); h++ {
				gamma[lag] += psi[h] * psi[h+lag]
			}
		}
		for a := range at {
			y[a] = w[at[a]]
			for b := 0; b <= a; b++ {
				cov[a*k+b] = gamma[at[a]-at[b]]
			}
		}
		x := append([]float64(nil), y...)
		if !cholesky(cov, x, k) {
			t.Skip("nearly singular")
		}
		var ss, logs float64
		for a := range y {
			ss += y[a] * x[a]
			logs += 2 * math.Log(cov[a*k+a])
		}
		want := math.Log(ss/float64(k)) + logs/float64(k)
		if got := m.likelihood(w); math.Abs(got-want) > 1e-5*(1+math.Abs(want)) {
			t.Fatalf("%+v: %v, want %v", m, got, want)
		}
	})
}

func TestStable(t *testing.T) {
	for _, c := range []struct {
		phi  []float64
		want bool
	}{
		{nil, true}, {[]float64{.9}, true}, {[]float64{1}, false}, {[]float64{-1.1}, false},
		{[]float64{.5, .4}, true}, {[]float64{.5, .6}, false}, {[]float64{1.8, -.9}, true}, {[]float64{0, 0, 1.01}, false},
		{[]float64{math.NaN()}, false},
	} {
		if got := stable(c.phi); got != c.want {
			t.Errorf("%v: %v", c.phi, got)
		}
	}
}

func TestParametersAreRecovered(t *testing.T) {
	for _, truth := range []arma{
		{p: 1, phi: [maxOrder]float64{.8}},
		{q: 1, theta: [maxOrder]float64{-.6}},
		{p: 1, q: 1, phi: [maxOrder]float64{.9}, theta: [maxOrder]float64{-.5}},
		{p: 2, phi: [maxOrder]float64{1.2, -.5}},
	} {
		w := simulate(&truth, 2000, 5)
		w[700], w[701], w[900] = math.NaN(), math.NaN(), math.NaN()
		s := newArmaWork(len(w))
		m := newStarter(w, s).guess(truth.p, truth.q)
		before, _ := m.css(w, s.filled, s.e)
		after, n := m.improve(w, s, 10)
		if after > before || n != len(w)-3 {
			t.Errorf("%+v: sum of squares from %v to %v over %d", truth, before, after, n)
		}
		conditional := m.likelihood(w)
		if exact := m.finish(w, 200); exact > conditional {
			t.Errorf("%+v: exact likelihood got worse: %v, %v", truth, conditional, exact)
		}
		for k := range truth.phi {
			if math.Abs(m.phi[k]-truth.phi[k]) > .08 || math.Abs(m.theta[k]-truth.theta[k]) > .08 {
				t.Errorf("%+v estimated as %+v", truth, m)
			}
		}
	}
}

func TestKPSS(t *testing.T) {
	white, walk := make([]float64, 1500), make([]float64, 1500)
	rng := rand.New(rand.NewPCG(2, 2))
	for k := range white {
		white[k] = rng.NormFloat64()
		if k > 0 {
			walk[k] = walk[k-1] + white[k]
		}
	}
	if v := kpss(white); v > kpssLimit {
		t.Errorf("noise: %v", v)
	}
	if v := kpss(walk); v < kpssLimit {
		t.Errorf("random walk: %v", v)
	}
	if v := kpss(make([]float64, 100)); v != 0 {
		t.Errorf("constant: %v", v)
	}
}

func TestSearchFindsTheForm(t *testing.T) {
	s := newArmaWork(2000)
	m := searchARMA(simulate(&arma{p: 1, phi: [maxOrder]float64{.7}}, 2000, 8), s)
	if m.d != 0 || m.p < 1 || m.p+m.q > 3 {
		t.Errorf("AR(1): (%d,%d,%d)", m.p, m.d, m.q)
	}
	w := simulate(&arma{q: 1, theta: [maxOrder]float64{-.4}}, 2000, 8)
	for k := 1; k < len(w); k++ {
		w[k] += w[k-1]
	}
	if m = searchARMA(w, s); m.d != 1 || m.q < 1 && m.p < 1 {
		t.Errorf("integrated MA(1): (%d,%d,%d)", m.p, m.d, m.q)
	}
	w = simulate(&arma{}, 2000, 8)
	if m = searchARMA(w, s); m.d != 0 || m.p+m.q > 2 {
		t.Errorf("noise: (%d,%d,%d)", m.p, m.d, m.q)
	}
}

// What lead weights say is what the recursion does.
func TestLeadWeights(t *testing.T) {
	a := NewARIMA()
	i := a.Add(Key{})
	m := armaFound{arma: arma{p: 2, q: 2, phi: [maxOrder]float64{.5, .2}, theta: [maxOrder]float64{.3, -.4}}, d: 1}
	a.adopt(i, &m)
	ar, ma := row(a.ar, i, maxLags), row(a.ma, i, maxOrder)
	past, shocks := []float32{3, 1, 4, 1, 5, 9, 2}, []float32{.6, .5, 3, 5, 8}
	var weights [numLeads][maxLags + maxOrder]float64
	var sd [numLeads]float64
	leadWeights(ar, ma, &weights, &sd)
	var want [numLeads]float64
	for l := range want {
		for k, v := range past {
			want[l] += weights[l][k] * float64(v)
		}
		for k, v := range shocks {
			want[l] += weights[l][maxLags+k] * float64(v)
		}
	}
	l := 0
	for h := 1; h <= day; h++ {
		follow(ar, ma, past, shocks, math.NaN())
		if h == errorLeads[l] {
			if math.Abs(float64(past[0])-want[l]) > 1e-3*math.Abs(want[l]) {
				t.Errorf("lead %d: %v, want %v", h, want[l], past[0])
			}
			l++
		}
	}
	if sd[0] != 1 || sd[1] <= 1 || sd[numLeads-1] <= sd[5] {
		t.Errorf("standard deviations %v", sd)
	}
	// a pure random walk's grows with the root of the lead
	a.adopt(i, &armaFound{d: 1})
	leadWeights(ar, ma, &weights, &sd)
	for l, h := range errorLeads {
		if math.Abs(sd[l]-math.Sqrt(float64(h))) > 1e-6 {
			t.Errorf("random walk, lead %d: %v", h, sd[l])
		}
	}
}
