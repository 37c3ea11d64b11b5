package ensemble

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// fitCase is what the experts said of one series at one origin, and what came.
type fitCase struct {
	daily float64
	scale float64
	q     [schemas.Slots][NumExperts][9]float32
	ok    [schemas.Slots][NumExperts]bool
	truth []float32
}

// TestFitPrior finds prior weights on a trace by exponentiated gradient on the mean
// log of the pinball loss, and prints them.
func TestFitPrior(t *testing.T) {
	path := os.Getenv("FORESHIFT_TRACE")
	if path == "" {
		t.Skip("FORESHIFT_TRACE is not set")
	}
	var cases []*fitCase
	for _, p := range strings.Split(path, ",") {
		for _, metric := range []string{"cpu_pct", "mem_mb", "disk_w_kbs", "net_rx_kbs", "cpu_avg_pct"} {
			cases = append(cases, casesOf(t, p, metric)...)
		}
	}
	t.Logf("%d cases", len(cases))
	w := Prior
	t.Logf("prior: %v", loss(cases, &w))
	for b := range NumBuckets {
		descend(cases, &w, b)
	}
	t.Logf("fitted: %v", loss(cases, &w))
	for k := range w {
		for b := range w[k] {
			row := ""
			for _, v := range w[k][b] {
				row += fmt.Sprintf("%.2f, ", v)
			}
			t.Logf("{%s},", row)
		}
	}
}

func casesOf(t *testing.T, path, metric string) (out []*fitCase) {
	series := map[string][]float32{}
	var order []string
	readCSV(t, path, func(f map[string]string) {
		if _, ok := f[metric]; !ok {
			return
		}
		y, err := strconv.ParseFloat(f[metric], 32)
		if err != nil {
			return
		}
		n, err := strconv.Atoi(f["t"])
		if err != nil || n < 0 || n > 10000 {
			return
		}
		s := series[f["vm"]]
		if s == nil {
			order = append(order, f["vm"])
		}
		for len(s) <= n {
			s = append(s, schemas.NaN())
		}
		s[n] = float32(y)
		series[f["vm"]] = s
	})
	for v, id := range order {
		y := series[id]
		for origin := 8*day + (v*97)%day; origin+day < len(y); origin += 5*day + 61 {
			if c := caseAt(t, y[origin-8*day:origin], y[origin:origin+day]); c != nil {
				out = append(out, c)
			}
		}
	}
	return out
}

func caseAt(t *testing.T, context, truth []float32) *fitCase {
	c := &fitCase{truth: truth}
	var n float64
	for k := day; k < len(context); k++ {
		if d := float64(context[k] - context[k-day]); d == d {
			c.scale += math.Abs(d)
			n++
		}
	}
	if n < 4*day || c.scale == 0 || context[len(context)-1] != context[len(context)-1] {
		return nil
	}
	c.scale /= n
	e, g := fit(t, context)
	d := schemas.NewDist()
	e.Forecast(0, g, model.Regressors{}, &d)
	c.daily = float64(min(1, e.emp.Strength(0)/FullyDaily))
	for s := range schemas.Slots {
		for k := range e.q {
			p := e.q[k].At(s)
			c.ok[s][k] = e.ok[k] && p[0] == p[0]
			for l, i := range nine {
				c.q[s][k][l] = p[i]
			}
		}
	}
	return c
}

// eval gives the loss of a case in a bucket, in scales, and its gradient by weight.
func (c *fitCase) eval(w *[NumExperts]float64, bucket int, grad *[NumExperts]float64) (float64, bool) {
	var sum, n float64
	*grad = [NumExperts]float64{}
	for s := range schemas.Slots {
		if BucketOf(s) != bucket {
			continue
		}
		var total float64
		for k := range w {
			if c.ok[s][k] {
				total += w[k]
			}
		}
		if total <= 0 {
			continue
		}
		for l := range 9 {
			tau := float64(l+1) / 10
			var q float64
			for k := range w {
				if c.ok[s][k] {
					q += w[k] / total * float64(c.q[s][k][l])
				}
			}
			for i := schemas.SlotOffset(s); i < schemas.SlotOffset(s)+schemas.SlotLen(s); i++ {
				y := float64(c.truth[i])
				if y != y {
					continue
				}
				d := y - q
				sum += 2 * max(d*tau, d*(tau-1)) / 9
				n += 1. / 9
				slope := -tau
				if d < 0 {
					slope = 1 - tau
				}
				for k := range w {
					if c.ok[s][k] {
						grad[k] += 2 * slope / 9 * (float64(c.q[s][k][l]) - q) / total
					}
				}
			}
		}
	}
	if n == 0 {
		return 0, false
	}
	for k := range grad {
		grad[k] /= n * c.scale
	}
	return sum / n / c.scale, true
}

const fitFloor = .1 // losses in scales below this are good enough

func weightsAt(w *Weights, bucket int, daily float64) (x [NumExperts]float64) {
	for k := range x {
		x[k] = (1-daily)*float64(w[0][bucket][k]) + daily*float64(w[1][bucket][k])
	}
	return x
}

// loss is the geometric mean of the losses by bucket.
func loss(cases []*fitCase, w *Weights) (out [NumBuckets]float64) {
	var grad [NumExperts]float64
	for b := range out {
		var sum, n float64
		for _, c := range cases {
			x := weightsAt(w, b, c.daily)
			if l, ok := c.eval(&x, b, &grad); ok {
				sum += math.Log(l + fitFloor)
				n++
			}
		}
		out[b] = math.Exp(sum / n)
	}
	return out
}

func descend(cases []*fitCase, w *Weights, bucket int) {
	var grad [NumExperts]float64
	for step := range 60 {
		var g [2][NumExperts]float64
		var n float64
		for _, c := range cases {
			x := weightsAt(w, bucket, c.daily)
			l, ok := c.eval(&x, bucket, &grad)
			if !ok {
				continue
			}
			n++
			for k := range grad {
				g[0][k] += (1 - c.daily) * grad[k] / (l + fitFloor)
				g[1][k] += c.daily * grad[k] / (l + fitFloor)
			}
		}
		rate := 4 / (1 + float64(step)/15)
		for d := range g {
			var total float64
			var x [NumExperts]float64
			for k := range x {
				x[k] = max(float64(w[d][bucket][k]), 1e-3) * math.Exp(-rate*g[d][k]/n*2)
				total += x[k]
			}
			for k := range x {
				w[d][bucket][k] = float32(x[k] / total)
			}
		}
	}
}
