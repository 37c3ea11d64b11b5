package ensemble

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// The evaluation runs on data that is not part of the repository. Name it to run it:
//
//	FORESHIFT_PEERS=peer_input.csv.gz go test ./forecaster/ensemble -run Evaluate -v
//
// It has columns series, metric, t, y, split (train or test).

// scored is one series: context, then one day of truth.
type scored struct {
	name           string
	context, truth []float32
	ceiling        float64 // physical bound; 0 = twice the context's maximum
}

func readCSV(t testing.TB, path string, row func(field map[string]string)) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(z)
	r.ReuseRecord = true
	head, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	head = slices.Clone(head)
	field := map[string]string{}
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range rec {
			field[head[i]] = v
		}
		row(field)
	}
}

func readPeers(t testing.TB, path string) (out []*scored) {
	by := map[string]*scored{}
	readCSV(t, path, func(f map[string]string) {
		s := by[f["series"]]
		if s == nil {
			s = &scored{name: f["series"] + "/" + f["metric"]}
			by[f["series"]] = s
			out = append(out, s)
		}
		if m := f["metric"]; m == "cpu_pct" || m == "mem_pct" || m == "azure_cpu" {
			s.ceiling = 100
		}
		y, err := strconv.ParseFloat(f["y"], 32)
		if err != nil {
			t.Fatal(err)
		}
		if f["split"] == "train" {
			s.context = append(s.context, float32(y))
		} else {
			s.truth = append(s.truth, float32(y))
		}
	})
	return out
}

// fit gives an ensemble that has walked through the context as one VM's CPU.
func fit(t testing.TB, context []float32) (*Ensemble, schemas.Grid) {
	t.Helper()
	e := New()
	return e, walk(t, e, context)
}

// walk lets an ensemble of no series live through the context.
func walk(t testing.TB, e *Ensemble, context []float32) schemas.Grid {
	t.Helper()
	const first = 288 * 1000
	key := model.Key{VM: schemas.VMID{1}, Resource: schemas.CPU}
	i := e.Add(key)
	w := window.New(memory.NewGoAllocator())
	d := schemas.NewDist()
	for k, y := range context {
		r := window.Row{Step: schemas.Step(first + k), Coverage: 1}
		for c := range r.V {
			r.V[c] = schemas.NaN()
		}
		r.V[schemas.ColCPU] = y
		w.Put(&r)
		e.Observe(r.Step, []float32{y}, model.Regressors{})
		if v := w.View(); model.Due(key, v.First, r.Step) == r.Step || k == len(context)-1 {
			if err := e.Refit(i, v, 0); err != nil {
				t.Fatal(err)
			}
		}
		if e.Captures(r.Step) {
			e.Forecast(i, schemas.Grid{Start: r.Step + 1}, model.Regressors{}, &d)
		}
	}
	return schemas.Grid{Start: schemas.Step(first + len(context))}
}

var nine = [9]int{2, 3, 4, 5, 6, 7, 8, 9, 10} // the levels .1 to .9 of schemas.Levels

// score is the mean over the truth of 2 x pinball over .1 to .9, all and the first
// hour, and the error of the median.
func (s *scored) score(at func(step, level int) float64) (crps, crps1h, mae, covered float64) {
	high := s.ceiling
	if high == 0 {
		high = max(1, 2*float64(slices.Max(s.context)))
	}
	for h, y32 := range s.truth {
		y := float64(y32)
		var p float64
		for n := range nine {
			q := min(max(at(h, n), 0), high)
			tau := float64(n+1) / 10
			d := y - q
			p += 2 * max(d*tau, d*(tau-1)) / 9
		}
		crps += p / float64(len(s.truth))
		if h < 12 {
			crps1h += p / 12
		}
		mae += math.Abs(y-min(max(at(h, 4), 0), high)) / float64(len(s.truth))
		if y >= min(max(at(h, 0), 0), high) && y <= min(max(at(h, 8), 0), high) {
			covered += 1 / float64(len(s.truth))
		}
	}
	return crps, crps1h, mae, covered
}

// scale is the mean error of yesterday's value, and rms its root mean square.
func (s *scored) scale() (mean, rms float64) {
	c := s.context
	for t := day; t < len(c); t++ {
		d := float64(c[t] - c[t-day])
		mean += math.Abs(d)
		rms += d * d
	}
	n := float64(len(c) - day)
	return mean / n, math.Sqrt(rms / n)
}

var normal = [9]float64{-1.2815516, -.8416212, -.5244005, -.2533471, 0, .2533471, .5244005, .8416212, 1.2815516}

// TestEvaluate prints how the ensemble and each expert fare on the peers' series:
// CRPS relative to the seasonal naive with normal errors, clipped to the physical
// range, over a day and the first hour; MASE; coverage of the 80 % band.
func TestEvaluate(t *testing.T) {
	path := os.Getenv("FORESHIFT_PEERS")
	if path == "" {
		t.Skip("FORESHIFT_PEERS is not set")
	}
	series := readPeers(t, path)
	type total struct {
		rel, rel1h, mase, cover float64
		mases                   []float64
		n                       int
	}
	names := append([]string{"ensemble"}, New().Names()...)
	sums := make([]total, len(names))
	var cpu time.Duration
	for _, s := range series {
		scale, rms := s.scale()
		base, base1h, _, _ := s.score(func(h, n int) float64 {
			return float64(s.context[len(s.context)-day+h]) + normal[n]*rms
		})
		e, g := fit(t, s.context)
		d := schemas.NewDist()
		begun := time.Now()
		e.Forecast(0, g, model.Regressors{}, &d)
		cpu += time.Since(begun)
		for k := range names {
			dist := d
			if k > 0 {
				dist = e.q[k-1]
			}
			if !(k == 0 || e.ok[k-1]) || dist.Q[0] != dist.Q[0] || dist.At(schemas.Slots - 1)[0] != dist.At(schemas.Slots - 1)[0] {
				continue
			}
			c, c1, mae, cov := s.score(func(h, n int) float64 {
				return float64(dist.At(g.SlotOf(g.Start + schemas.Step(h)))[nine[n]])
			})
			if os.Getenv("FORESHIFT_DETAIL") != "" {
				t.Logf("detail %s %s %.4f %.4f %.4f %.4f", s.name, names[k], (c/scale+1e-4)/(base/scale+1e-4), (c1/scale+1e-3)/(base1h/scale+1e-3), mae/scale, cov)
			}
			x := &sums[k]
			x.n++
			x.rel += math.Log((c/scale + 1e-4) / (base/scale + 1e-4))
			x.rel1h += math.Log((c1/scale + 1e-3) / (base1h/scale + 1e-3))
			x.mase += mae / scale
			x.mases = append(x.mases, mae/scale)
			x.cover += cov
		}
	}
	for k, x := range sums {
		if x.n == 0 {
			continue
		}
		n := float64(x.n)
		slices.Sort(x.mases)
		t.Logf("%-16s n %d  clip %.3f  rel1h %.3f  MASE %.3f / %.3f  cover %.3f", names[k], x.n, math.Exp(x.rel/n), math.Exp(x.rel1h/n), x.mase/n, x.mases[x.n/2], x.cover/n)
	}
	t.Logf("%v a series and forecast", cpu/time.Duration(len(series)))
}
