package learning

import (
	"bytes"
	"encoding/gob"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// lab makes moves whose arithmetic is wrong by a factor and misses a set-up time.
func lab(seed uint64, n int, factor, setup, noise float64) []schemas.Outcome {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([]schemas.Outcome, n)
	for i := range out {
		gib := math.Exp(rng.Float64()*3.5) / 2
		p := schemas.Plain{From: "a", To: "b", Duration: schemas.Seconds(1 + gib), Downtime: schemas.Millis(100 + 50*rng.Float64()), Volume: schemas.Bytes(gib * (1 << 30))}
		if i%3 == 0 {
			p.To = "a"
		}
		wobble := func() float64 { return math.Exp(noise * rng.NormFloat64()) }
		out[i] = schemas.Outcome{Result: schemas.ResultSucceeded, Predicted: schemas.Prediction{Plain: &p},
			Duration: schemas.Seconds((setup + factor*float64(p.Duration)) * wobble()),
			Downtime: schemas.Millis((80 + 2*float64(p.Downtime)) * wobble()), Volume: schemas.Bytes(1.3 * float64(p.Volume) * wobble())}
	}
	return out
}

func errorsOf(c *Costs, outcomes []schemas.Outcome) (duration, downtime float64) {
	var a, b []float64
	for i := range outcomes {
		o := &outcomes[i]
		p := o.Predicted.Plain
		took := c.Correct(p.From, p.To, Took{seconds(float64(p.Duration)), seconds(float64(p.Downtime) / 1000), p.Volume})
		a = append(a, math.Abs(took.Duration.Seconds()/float64(o.Duration)-1))
		b = append(b, math.Abs(ms(took.Downtime)-float64(o.Downtime)))
	}
	slices.Sort(a)
	slices.Sort(b)
	return a[len(a)/2], b[len(b)/2]
}

// After 20 moves the median error of durations is below a fifth and that of downtimes
// below 100 ms, though arithmetic is wrong by 3 either way.
func TestTwentyMovesAreEnough(t *testing.T) {
	for _, factor := range []float64{1. / 3, 1, 3} {
		for seed := range uint64(20) {
			var c Costs
			all := lab(seed, 120, factor, 4, .1)
			before, _ := errorsOf(&c, all[20:])
			for i := range all[:20] {
				c.Learn(&all[i])
			}
			after, down := errorsOf(&c, all[20:])
			if after > .2 || down > 100 {
				t.Errorf("factor %.2f, seed %d: off by %.0f %% (arithmetic alone %.0f %%), downtime by %.0f ms", factor, seed, 100*after, 100*before, down)
			}
		}
	}
}

// What teaches nothing changes nothing.
func TestOnlySuccessTeaches(t *testing.T) {
	var c Costs
	all := lab(1, 3, 3, 0, 0)
	all[0].Result = schemas.ResultFailed
	all[1].Predicted.Plain = nil
	all[2].Duration = 0
	for i := range all {
		c.Learn(&all[i])
	}
	p := Took{seconds(10), seconds(.1), 5 << 30}
	if got := c.Correct("a", "b", p); got != p || len(c.Summary()) != 0 {
		t.Errorf("learnt %v from nothing", got)
	}
}

// However wild the figures, a correction stays within a factor of 20 of arithmetic.
func TestCorrectionsAreBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	var c Costs
	for range 500 {
		o := lab(rng.Uint64(), 1, 1, 0, 0)[0]
		o.Duration = schemas.Seconds(math.Exp(20 * rng.NormFloat64()))
		o.Downtime = schemas.Millis(math.Exp(20 * rng.NormFloat64()))
		c.Learn(&o)
		p := Took{seconds(30), seconds(.2), 8 << 30}
		got := c.Correct("a", "b", p)
		if d := got.Duration.Seconds(); !(d >= 30*least && d <= 30*most+most*unitDuration) {
			t.Fatalf("30 s corrected to %v", d)
		}
	}
}

// The state survives a snapshot, and the same state gives the same bytes.
func TestCostsSnapshot(t *testing.T) {
	var c Costs
	for _, o := range lab(5, 40, 2, 1, .2) {
		c.Learn(&o)
	}
	enc := func(c *Costs) []byte {
		var b bytes.Buffer
		if err := gob.NewEncoder(&b).Encode(c); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	one := enc(&c)
	var d Costs
	if err := gob.NewDecoder(bytes.NewReader(one)).Decode(&d); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, enc(&d)) || !slices.Equal(c.Summary(), d.Summary()) {
		t.Error("not the same after a snapshot")
	}
	o := lab(6, 1, 2, 1, 0)[0]
	c.Learn(&o)
	d.Learn(&o)
	if !bytes.Equal(enc(&c), enc(&d)) {
		t.Error("goes on differently after a snapshot")
	}
}
