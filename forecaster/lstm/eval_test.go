package lstm

import (
	"compress/gzip"
	"encoding/csv"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// The evaluation runs on data that is not part of the repository. Name it to run it:
//
//	FORESHIFT_PEERS=peer_input.csv.gz [FORESHIFT_LSTM=weights.bin] go test ./forecaster/lstm -run Evaluate -v
//	FORESHIFT_PEERS=... FORESHIFT_TRACE=bitbrains.csv.gz go test ./forecaster/lstm -run FineTuneOnTrace -v
//
// The first has columns series, metric, src, t, y, split (train or test); the second
// one row per VM and bin with columns vm, t and the metrics.

// peer is one series: context, then one day of truth.
type peer struct {
	name, vm       string
	context, truth []float32
	resource       schemas.Resource
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

func number(t testing.TB, s string) float32 {
	if s == "" {
		return schemas.NaN()
	}
	y, err := strconv.ParseFloat(s, 32)
	if err != nil {
		t.Fatal(err)
	}
	return float32(y)
}

func readPeers(t testing.TB, path string) (out []*peer) {
	by := map[string]*peer{}
	readCSV(t, path, func(f map[string]string) {
		s := by[f["series"]]
		if s == nil {
			s = &peer{name: f["series"] + " " + f["metric"], vm: f["src"]}
			by[f["series"]] = s
			out = append(out, s)
			switch m := f["metric"]; m {
			case "cpu_pct", "mem_pct", "azure_cpu":
				s.ceiling = 100
				if m == "mem_pct" {
					s.resource = schemas.Memory
				}
			case "nr", "nt":
				s.resource = schemas.Net
			default:
				s.resource = schemas.Disk
			}
		}
		if f["split"] == "train" {
			s.context = append(s.context, number(t, f["y"]))
		} else {
			s.truth = append(s.truth, number(t, f["y"]))
		}
	})
	return out
}

var column = map[schemas.Resource]schemas.Column{schemas.CPU: schemas.ColCPU, schemas.Memory: schemas.ColMem, schemas.Net: schemas.ColNetRx, schemas.Disk: schemas.ColDiskRd}

func windowOf(x []float32, r schemas.Resource, from schemas.Step) *window.Window {
	w := window.New(memory.NewGoAllocator())
	for k, y := range x {
		row := window.Row{Step: from + schemas.Step(k), Coverage: 1}
		for c := range row.V {
			row.V[c] = schemas.NaN()
		}
		row.V[column[r]] = y
		w.Put(&row)
	}
	return w
}

// tenths are the levels .1 to .9.
var tenths = []float32{.1, .2, .3, .4, .5, .6, .7, .8, .9}
var normal = [9]float64{-1.2815516, -.8416212, -.5244005, -.2533471, 0, .2533471, .5244005, .8416212, 1.2815516}

func (p *peer) score(clip bool, at func(step, level int) float64) (crps, crps1h, mae, covered float64) {
	high := p.ceiling
	if high == 0 {
		high = max(1, 2*float64(slices.Max(p.context)))
	}
	limit := func(q float64) float64 {
		if clip {
			return min(max(q, 0), high)
		}
		return q
	}
	for h, y32 := range p.truth {
		y := float64(y32)
		var l float64
		for n := range 9 {
			tau := float64(n+1) / 10
			d := y - limit(at(h, n))
			l += 2 * max(d*tau, d*(tau-1)) / 9
		}
		crps += l / float64(len(p.truth))
		if h < 12 {
			crps1h += l / 12
		}
		mae += math.Abs(y-limit(at(h, 4))) / float64(len(p.truth))
		if y >= limit(at(h, 0)) && y <= limit(at(h, 8)) {
			covered += 1 / float64(len(p.truth))
		}
	}
	return crps, crps1h, mae, covered
}

// report scores weights on the peers' series and gives rel: CRPS relative to the
// seasonal naive with normal errors, unclipped.
func report(t *testing.T, name string, w *Weights, peers []*peer, verbose bool) float64 {
	var rel, rel1h, clip, mase, cover float64
	var mases []float64
	var cpu, refit time.Duration
	for _, p := range peers {
		c := p.context
		var scale, rms float64
		for k := day; k < len(c); k++ {
			d := float64(c[k] - c[k-day])
			scale += math.Abs(d)
			rms += d * d
		}
		n := float64(len(c) - day)
		scale, rms = scale/n, math.Sqrt(rms/n)
		naive := func(h, l int) float64 { return float64(c[len(c)-day+h]) + normal[l]*rms }
		b := NewBank(w)
		const first = day * 1001
		i := b.Add(model.Key{VM: schemas.VMID{1}, Resource: p.resource})
		win := windowOf(c, p.resource, first)
		begun := time.Now()
		if err := b.Refit(i, win.View(), 0); err != nil {
			t.Fatal(err)
		}
		refit += time.Since(begun)
		q := make([]float32, day*len(tenths))
		begun = time.Now()
		if !b.StepQuantiles(i, schemas.Step(first+len(c)), day, tenths, q) {
			t.Fatalf("%s: nothing", p.name)
		}
		cpu += time.Since(begun)
		own := func(h, l int) float64 { return float64(q[h*len(tenths)+l]) }
		base, base1h, _, _ := p.score(false, naive)
		crps, crps1h, mae, cov := p.score(false, own)
		cbase, _, _, _ := p.score(true, naive)
		ccrps, _, _, _ := p.score(true, own)
		r := math.Log((crps/scale + 1e-4) / (base/scale + 1e-4))
		rel += r
		rel1h += math.Log((crps1h/scale + 1e-3) / (base1h/scale + 1e-3))
		clip += math.Log((ccrps/scale + 1e-4) / (cbase/scale + 1e-4))
		mase += mae / scale
		mases = append(mases, mae/scale)
		cover += cov
		if verbose {
			t.Logf("%-14s rel %.3f  MASE %.3f  cover %.2f", p.name, math.Exp(r), mae/scale, cov)
		}
	}
	n := float64(len(peers))
	slices.Sort(mases)
	t.Logf("%-12s rel %.3f  clip %.3f  rel1h %.3f  MASE %.3f / %.3f  cover %.3f  refit of a new series %v, 288 steps %v", name,
		math.Exp(rel/n), math.Exp(clip/n), math.Exp(rel1h/n), mase/n, mases[len(mases)/2], cover/n, refit/time.Duration(n), cpu/time.Duration(n))
	return math.Exp(rel / n)
}

func weightsToJudge(t *testing.T) *Weights {
	w, err := Default()
	if path := os.Getenv("FORESHIFT_LSTM"); path != "" {
		var b []byte
		if b, err = os.ReadFile(path); err == nil {
			w, err = Decode(b)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestEvaluate(t *testing.T) {
	path := os.Getenv("FORESHIFT_PEERS")
	if path == "" {
		t.Skip("FORESHIFT_PEERS is not set")
	}
	peers := readPeers(t, path)
	report(t, "untrained", NewWeights(1), peers, false)
	report(t, "trained", weightsToJudge(t), peers, testing.Verbose() && os.Getenv("FORESHIFT_EACH") != "")
}

// traces reads a trace as training series: one a VM and resource.
func traces(t *testing.T, path string, skip func(vm string) bool) []Series {
	type vm struct {
		y [schemas.NumResources][]float32
	}
	by := map[string]*vm{}
	var order []string
	readCSV(t, path, func(f map[string]string) {
		v := by[f["vm"]]
		if v == nil && skip(f["vm"]) {
			return
		}
		if v == nil {
			v = &vm{}
			by[f["vm"]] = v
			order = append(order, f["vm"])
		}
		at, err := strconv.Atoi(f["t"])
		if err != nil {
			t.Fatal(err)
		}
		for r, names := range [][]string{{"cpu_pct", "cpu_avg_pct"}, {"mem_mb"}, {"net_rx_kbs"}, {"disk_w_kbs"}} {
			for _, name := range names {
				if s, ok := f[name]; ok {
					for len(v.y[r]) < at {
						v.y[r] = append(v.y[r], schemas.NaN())
					}
					if len(v.y[r]) == at {
						v.y[r] = append(v.y[r], number(t, s))
					}
				}
			}
		}
	})
	var out []Series
	for _, name := range order {
		s := Series{First: day * 1001}
		sum := xxhash.Sum64String(name)
		for k := range 8 {
			s.VM[k] = byte(sum >> (8 * k))
		}
		for r, y := range by[name].y {
			if len(y) > 2*day {
				s.Resource, s.Y = schemas.Resource(r), y
				out = append(out, s)
			}
		}
	}
	return out
}

// isPeer reports whether a VM of the trace is one of the peers': rnd8_vm51_b6190 there
// is m8_051 here.
func isPeer(vm string, peers []*peer) bool {
	number := strings.TrimLeft(strings.TrimPrefix(vm, "m8_"), "0")
	return slices.ContainsFunc(peers, func(p *peer) bool { return strings.HasPrefix(p.vm, "rnd8_vm"+number+"_") })
}

// TestFineTuneOnTrace fine-tunes on a trace's VMs, those of the peers' left out, and
// scores the peers' series before and after.
func TestFineTuneOnTrace(t *testing.T) {
	path, trace := os.Getenv("FORESHIFT_PEERS"), os.Getenv("FORESHIFT_TRACE")
	if path == "" || trace == "" {
		t.Skip("FORESHIFT_PEERS and FORESHIFT_TRACE are not both set")
	}
	updates := 300
	if s := os.Getenv("FORESHIFT_UPDATES"); s != "" {
		var err error
		if updates, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	peers := readPeers(t, path)
	series := traces(t, trace, func(vm string) bool { return isPeer(vm, peers) })
	w := weightsToJudge(t)
	report(t, "before", w, peers, false)
	out, err := FineTune(w, series, 1, updates, nil)
	if err != nil {
		t.Fatal(err)
	}
	if path := os.Getenv("FORESHIFT_OUT"); path != "" {
		if err := os.WriteFile(path, out.Weights.Encode(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d updates on %d series: loss on %d of other VMs %.4f, before %.4f, adopted %v", updates, out.Train, out.Held, out.After, out.Before, out.Adopted)
	report(t, "after", out.Weights, peers, false)
}
