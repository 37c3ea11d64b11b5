package learning

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

func bounded() policy.Policy {
	p := policy.Default()
	p.MinBenefit, p.Trigger, p.HoldSteps = 1000, .4, 2
	p.Learning = &schemas.Learning{Settings: true, Bounds: DefaultBounds()}
	return p
}

// valley makes days of a grid on which the loss is least at one point and grows with the
// square of the distance, by steep at a factor of e or three steps; days are good and bad, alike for all points
// but for noise.
func valley(g *Grid, n int, best Point, steep, noise float64) []Day {
	rng := rand.New(rand.NewPCG(9, uint64(n)))
	days := make([]Day, n)
	for d := range days {
		load := 2000 * math.Exp(rng.NormFloat64())
		days[d].At = d
		for i := range g.Len() {
			days[d].Lost = append(days[d].Lost, load*max(0, loss(best, g.At(i), steep)+noise*rng.NormFloat64()))
		}
	}
	return days
}

// loss is what valley makes of a point on a day of one core-second.
func loss(best, x Point, steep float64) float64 {
	far := 0.0
	for a := range x {
		d := along(a, best[a], x[a])
		if settings[a] == Hold {
			d /= 3
		}
		far += d * d
	}
	return 1 + steep*far
}

func TestDecide(t *testing.T) {
	only := func(setting string, low, high float64) func(*policy.Policy) {
		return func(p *policy.Policy) {
			p.Learning.Bounds = map[string]schemas.Range{setting: {Low: low, High: high}}
		}
	}
	benefit := only(MinBenefit, 100, 10000)
	for name, c := range map[string]struct {
		best         float64
		steep, noise float64
		n            int
		missing      float64
		resting      []string
		change       func(*policy.Policy)
		to           float64 // of the one with bounds
		says         string
	}{
		"certainly better below": {best: 100, steep: .8, noise: .1, n: 14, change: benefit, to: 625},
		"certainly better above": {best: 10000, steep: .8, noise: .1, n: 14, change: benefit, to: 1600},
		"probably better":        {best: 10000, steep: .05, noise: .1, n: 6, change: benefit, to: 1600},
		"no difference":          {best: 100, steep: .001, noise: .001, n: 14, change: benefit, says: "not_certain"},
		"luck alone":             {best: 1000, steep: 0, noise: .1, n: 14, change: benefit, says: "not_certain"},
		"at the best":            {best: 1000, steep: .5, noise: .1, n: 14, change: benefit, says: "not_certain"},
		"too few days":           {best: 100, steep: .5, n: 4, change: benefit, says: "poor_data"},
		"holes in the telemetry": {best: 100, steep: .5, n: 14, missing: .3, change: benefit, says: "poor_data"},
		"at the bound":           {best: 100, steep: .5, n: 14, change: only(MinBenefit, 1000, 10000), says: "not_certain"},
		"stops at the bound":     {best: 10000, steep: .8, n: 40, change: only(MinBenefit, 100, 1500), to: 1500},
		"outside the bounds":     {change: only(MinBenefit, 100, 500), says: "operator"},
		"no bounds":              {change: func(p *policy.Policy) { p.Learning = nil }, says: "no bounds"},
		"bounds that leave none": {change: only(MinBenefit, 1000, 1000), says: "nothing to be tried"},
		"what rests stays":       {best: 100, steep: .5, n: 14, change: benefit, resting: []string{MinBenefit}, says: "not_certain"},
	} {
		p := bounded()
		c.change(&p)
		g, why := GridOf(&p)
		got := Change{Policy: p, Reason: why}
		if why.OK() {
			best := PointOf(&p)
			best[0] = c.best
			days := valley(&g, c.n, best, c.steep, c.noise)
			for i := range days {
				days[i].Missing = c.missing
			}
			got = Decide(p, g, days, c.resting)
		}
		e := got.Evidence
		switch {
		case c.says != "":
			if got.Reason.OK() || !strings.Contains(got.Reason.String(), c.says) || PointOf(&got.Policy) != PointOf(&p) {
				t.Errorf("%s: %v", name, got.Reason)
			}
		case !got.Reason.OK() || math.Abs(got.Policy.MinBenefit-c.to) > 1e-9 || e.To != got.Policy.MinBenefit || e.Saved <= 0 || e.Samples != c.n || len(e.With) > 0:
			t.Errorf("%s: %v %+v", name, got.Reason, e)
		}
		if err := policy.Validate(got.Policy); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// From anywhere the settings come back, together, to where little more is lost than at the
// best; each look changes none by more than a factor of 1.6 or a step, and stays inside
// the bounds; what rests stays.
func TestBackFromAnywhere(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for i := range 60 {
		p := bounded()
		p.MinBenefit, p.Trigger, p.HoldSteps = 50*math.Pow(60, rng.Float64()), schemas.Ratio(.05*math.Pow(16, rng.Float64())), rng.IntN(7)
		best := Point{50 * math.Pow(60, rng.Float64()), .05 * math.Pow(16, rng.Float64()), float64(rng.IntN(7))}
		steep := .2 + .4*rng.Float64()
		var resting []string
		if i%4 == 0 {
			resting = []string{Hold}
			best[2] = float64(p.HoldSteps)
		}
		g, why := GridOf(&p)
		if !why.OK() {
			t.Fatal(why)
		}
		first := p
		for look := range 16 {
			got := Decide(p, g, valley(&g, 5+7*look, best, steep, .3), resting)
			from, to := PointOf(&p), PointOf(&got.Policy)
			for a, s := range settings {
				r := p.Learning.Bounds[s]
				if a < 2 && math.Abs(along(a, from[a], to[a])) > math.Log(1.6)+1e-9 || a == 2 && math.Abs(to[a]-from[a]) > 1 || to[a] < r.Low || to[a] > r.High {
					t.Fatalf("%s went from %g to %g", s, from[a], to[a])
				}
			}
			if len(resting) > 0 && to[2] != from[2] {
				t.Fatal("what rests was changed")
			}
			p = got.Policy
		}
		was, is := loss(best, PointOf(&first), steep), loss(best, PointOf(&p), steep)
		if is > 1.1+.6*steep { // half way between two points of the grid in each setting
			t.Errorf("from %v with the best at %v, steep %.2f: to %v, %.2f lost after %.2f", PointOf(&first), best, steep, PointOf(&p), is, was)
		}
	}
}

// What is read between points of a grid lies between what the points say, and a plane
// comes out as it is.
func TestGrid(t *testing.T) {
	p := bounded()
	g, why := GridOf(&p)
	if !why.OK() || g.Len() < 8 || g.Len() > 150 {
		t.Fatal(why, g.Len())
	}
	plane := func(x Point) float64 { return 7 + math.Log(x[0]) - 2*math.Log(x[1]) + .5*x[2] }
	lost := make([]float64, g.Len())
	for i := range lost {
		lost[i] = plane(g.At(i))
	}
	rng := rand.New(rand.NewPCG(2, 2))
	for i := range 200 {
		x := Point{50 * math.Pow(60, rng.Float64()), .05 * math.Pow(16, rng.Float64()), 6 * rng.Float64()}
		if i < g.Len() {
			x = g.At(i)
		}
		if got := g.read([][]float64{lost}, x)[0]; math.Abs(got-plane(x)) > 1e-9 {
			t.Errorf("at %v %g, want %g", x, got, plane(x))
		}
	}
	if got := g.read([][]float64{lost}, Point{1, 5, 99})[0]; math.Abs(got-plane(Point{50, .8, 6})) > 1e-9 {
		t.Errorf("beyond the grid %g", got)
	}
}

// A ledger keeps a day once, those of one key, and no more than it may.
func TestLedger(t *testing.T) {
	var l Ledger
	for _, at := range []int{3, 1, 2, 3} {
		l.Add("a", []Day{{At: at, Missing: float64(len(l.Days))}})
	}
	if len(l.Days) != 3 || l.Days[0].At != 1 || l.Days[2].Missing != 3 {
		t.Errorf("%+v", l.Days)
	}
	for at := range 2 * mostDays {
		l.Add("a", []Day{{At: at}})
	}
	if len(l.Days) != mostDays || l.Days[0].At != mostDays {
		t.Errorf("%d days from %d on", len(l.Days), l.Days[0].At)
	}
	if l.Add("b", []Day{{At: 9}}); len(l.Days) != 1 {
		t.Error("days of another key stayed")
	}
}
