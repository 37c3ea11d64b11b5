package model

import (
	"compress/gzip"
	"encoding/csv"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// The evaluation runs on data that is not part of the repository. Name it to run it:
//
//	FORESHIFT_PEERS=peer_input.csv.gz FORESHIFT_TRACE=bitbrains.csv.gz \
//	go test ./forecaster/model -run ClassicPeers -v
//
// The first has columns series, metric, t, y, split (train or test); the second one
// row per VM and bin with columns vm, t and the metrics. Either may be left out.

// peer is one series: a week of context, then a day of truth.
type peer struct {
	name    string
	c, y    []float32
	ceiling float64
}

func readTable(t testing.TB, path string, row func(map[string]string)) {
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
	all, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, rec := range all[1:] {
		for i, v := range rec {
			m[all[0][i]] = v
		}
		row(m)
	}
}

func peers(t testing.TB, path string) (out []*peer) {
	by := map[string]*peer{}
	readTable(t, path, func(f map[string]string) {
		s := by[f["series"]]
		if s == nil {
			s = &peer{name: f["series"]}
			by[s.name] = s
			out = append(out, s)
			if m := f["metric"]; m == "cpu_pct" || m == "mem_pct" || m == "azure_cpu" {
				s.ceiling = 100
			}
		}
		v, err := strconv.ParseFloat(f["y"], 32)
		if err != nil {
			t.Fatal(err)
		}
		if f["split"] == "train" {
			s.c = append(s.c, float32(v))
		} else {
			s.y = append(s.y, float32(v))
		}
	})
	for _, s := range out {
		if s.ceiling == 0 {
			s.ceiling = math.Max(1, 2*float64(slices.Max(s.c)))
		}
	}
	return out
}

// traced draws n series from a trace of VMs: random VM, metric and origin, but the
// same every time.
func traced(t testing.TB, path string, n int) (out []*peer) {
	t.Helper()
	cols := []string{"cpu_pct", "cpu_pct", "cpu_pct", "mem_mb", "net_rx_kbs", "net_tx_kbs", "disk_w_kbs", "disk_r_kbs"}
	by := map[string]map[string][]float32{}
	var names []string
	readTable(t, path, func(f map[string]string) {
		v := by[f["vm"]]
		if v == nil {
			v = map[string][]float32{}
			by[f["vm"]] = v
			names = append(names, f["vm"])
		}
		at, err := strconv.Atoi(f["t"])
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cols[2:] {
			for len(v[c]) < at {
				v[c] = append(v[c], float32(math.NaN()))
			}
			x, err := strconv.ParseFloat(f[c], 32)
			if err != nil {
				x = math.NaN()
			}
			v[c] = append(v[c], float32(x))
		}
	})
	rng := rand.New(rand.NewPCG(1, 2))
	for len(out) < n {
		vm := names[rng.IntN(len(names))]
		m := cols[rng.IntN(len(cols))]
		x := by[vm][m]
		if len(x) < 2304 {
			continue
		}
		o := rng.IntN(len(x) - 2304 + 1)
		s := &peer{name: vm + m, c: slices.Clone(x[o : o+2016]), y: slices.Clone(x[o+2016 : o+2304])}
		bad := false
		for k, v := range s.c {
			if v != v && k > 0 {
				s.c[k] = s.c[k-1]
			}
			bad = bad || s.c[k] != s.c[k]
		}
		for _, v := range s.y {
			bad = bad || v != v
		}
		sc, _ := s.scale()
		if bad || sc < 1e-3 {
			continue
		}
		s.ceiling = math.Max(1, 2*float64(slices.Max(s.c)))
		if m == "cpu_pct" {
			s.ceiling = 100
		}
		out = append(out, s)
	}
	return out
}

func (s *peer) scale() (mean, rms float64) {
	for t := day; t < len(s.c); t++ {
		d := float64(s.c[t] - s.c[t-day])
		mean += math.Abs(d)
		rms += d * d
	}
	n := float64(len(s.c) - day)
	return mean / n, math.Sqrt(rms / n)
}

func (s *peer) score(high, low float64, at func(h, n int) float64) (crps, crps1h, mae, cover float64) {
	cl := func(v float64) float64 { return math.Min(math.Max(v, low), high) }
	for h, y32 := range s.y {
		y := float64(y32)
		var p float64
		for n := range 9 {
			tau := float64(n+1) / 10
			d := y - cl(at(h, n))
			p += 2 * math.Max(d*tau, d*(tau-1)) / 9
		}
		crps += p / float64(len(s.y))
		if h < 12 {
			crps1h += p / 12
		}
		mae += math.Abs(y-cl(at(h, 4))) / float64(len(s.y))
		if y >= cl(at(h, 0)) && y <= cl(at(h, 8)) {
			cover += 1 / float64(len(s.y))
		}
	}
	return
}

var nineZ = [9]float64{-1.2815516, -.8416212, -.5244005, -.2533471, 0, .2533471, .5244005, .8416212, 1.2815516}

type tally struct {
	rel, clip, rel1h, mase, cover float64
	n                             int
}

func (x *tally) add(s *peer, q func(h, n int) float64) {
	scale, rms := s.scale()
	naive := func(h, n int) float64 { return float64(s.c[len(s.c)-day+h]) + nineZ[n]*rms }
	inf := math.Inf(1)
	b, b1, _, _ := s.score(inf, -inf, naive)
	c, c1, _, _ := s.score(inf, -inf, q)
	bc, _, _, _ := s.score(s.ceiling, 0, naive)
	cc, _, mae, cov := s.score(s.ceiling, 0, q)
	x.rel += math.Log((c/scale + 1e-4) / (b/scale + 1e-4))
	x.rel1h += math.Log((c1/scale + 1e-3) / (b1/scale + 1e-3))
	x.clip += math.Log((cc/scale + 1e-4) / (bc/scale + 1e-4))
	x.mase += mae / scale
	x.cover += cov
	x.n++
}

func (x *tally) log(t *testing.T, name string) {
	n := float64(x.n)
	t.Logf("%-24s n %d rel %.3f clip %.3f rel1h %.3f MASE %.3f cover %.3f", name, x.n, math.Exp(x.rel/n), math.Exp(x.clip/n), math.Exp(x.rel1h/n), x.mase/n, x.cover/n)
}

// TestClassicPeers prints how each bank fares: CRPS relative to the seasonal naive
// with normal errors (rel), the same with quantiles clipped to the physical range
// (clip), in the first hour (rel1h), MASE, coverage of the 80 % band; for forecasts
// by step and by slot; and CPU time a series.
func TestClassicPeers(t *testing.T) {
	sets := map[string][]*peer{}
	if path := os.Getenv("FORESHIFT_PEERS"); path != "" {
		sets["peers"] = peers(t, path)
	}
	if path := os.Getenv("FORESHIFT_TRACE"); path != "" {
		sets["trace"] = traced(t, path, 200)
	}
	if len(sets) == 0 {
		t.Skip("neither FORESHIFT_PEERS nor FORESHIFT_TRACE is set")
	}
	nine := []float32{.1, .2, .3, .4, .5, .6, .7, .8, .9}
	for _, set := range slices.Sorted(maps.Keys(sets)) {
		for _, c := range classics {
			name := c.name
			var x, g tally
			var fit, refit, fore time.Duration
			for _, s := range sets[set] {
				b := c.make()
				key := Key{VM: schemas.VMID{1}}
				i := b.Add(key)
				w := windowOf(s.c, first)
				last := first + 2015
				begun := cpuNow()
				if err := b.Refit(i, w.View(), 0); err != nil {
					t.Fatal(err)
				}
				fit += (cpuNow() - begun)
				begun = cpuNow()
				if err := b.Refit(i, w.View(), 0); err != nil {
					t.Fatal(err)
				}
				refit += (cpuNow() - begun)
				q := make([]float32, day*9)
				d := schemas.NewDist()
				begun = cpuNow()
				b.Forecast(i, schemas.Grid{Start: last + 1}, Regressors{}, &d)
				fore += (cpuNow() - begun)
				if !b.StepQuantiles(i, last+1, day, nine, q) {
					t.Fatal(s.name)
				}
				x.add(s, func(h, n int) float64 { return float64(q[h*9+n]) })
				gr := schemas.Grid{}
				g.add(s, func(h, n int) float64 { return float64(d.At(gr.SlotOf(schemas.Step(h)))[n+2]) })
			}
			x.log(t, set+" "+name)
			g.log(t, set+" "+name+" slots")
			n := time.Duration(len(sets[set]))
			t.Logf("cold %v refit %v forecast %v", fit/n, refit/n, fore/n)
		}
	}
}

// cpuNow is the process's CPU time.
func cpuNow() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
