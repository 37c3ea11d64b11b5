package replay

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// SpeedResult is how fast a backtest from kept forecasts runs.
type SpeedResult struct {
	VMs      int     `json:"vms"`
	Hosts    int     `json:"hosts"`
	Days     int     `json:"days_scored"`
	Workers  int     `json:"workers"`
	Wall     float64 `json:"wall_seconds"`
	CPU      float64 `json:"cpu_seconds"`
	Times    float64 `json:"times_real_time"`     // of the wall clock
	PerCPU   float64 `json:"times_real_time_cpu"` // of a CPU-second
	Moves    int     `json:"moves"`
	Decided  int     `json:"decisions"`
	Hash     string  `json:"hash"`
	Resident int64   `json:"peak_resident_mib"`
	Kept     int64   `json:"kept_forecasts_mib"`
}

// Synthetic is a fleet with a day's rhythm, noise and bursts, the same for the same seed.
func Synthetic(vms, days int, seed uint64) *History {
	h := &History{Name: fmt.Sprintf("synthetic-%d", vms), Steps: days * day, Invented: true, D: make([]float32, 0, vms*days*day)}
	for v := range vms {
		rng := rand.New(rand.NewPCG(seed, uint64(v)))
		cores := []float64{2, 4, 8}[rng.IntN(3)]
		h.VMs = append(h.VMs, VM{fmt.Sprintf("vm%05d", v), cores, 4 * cores})
		level, swing, phase := cores*(.1+.2*rng.Float64()), cores*.1*rng.Float64(), 2*math.Pi*rng.Float64()
		burst, until := 0.0, 0
		for t := range h.Steps {
			if t >= until {
				burst = 0
				if rng.IntN(2*day) == 0 {
					burst, until = cores*.5*rng.Float64(), t+6+rng.IntN(30)
				}
			}
			x := level + swing*math.Sin(2*math.Pi*float64(t)/day+phase) + burst + .03*cores*rng.NormFloat64()
			h.D = append(h.D, float32(min(max(x, 0), cores)))
		}
	}
	return h
}

// guess foresees the truth, blurred: forecasts that cost nothing to make, of the size and
// kind that are kept.
type guess struct {
	oracle
	seed uint64
}

// After implements [Source].
func (g guess) After(t int, f *Frame) error {
	if err := g.oracle.After(t, f); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(g.seed, uint64(t)))
	for j := range f.CPU {
		f.CPU[j] = whole(f.CPU[j] * float32(.7+.6*rng.Float64()))
	}
	f.seal(t)
	return nil
}

// Speed keeps forecasts of a synthetic fleet in dir and times the predictive policy from
// them, one placement; the making of the forecasts is not counted. used gives the CPU
// seconds of the process and the most memory it held, in MiB.
func Speed(ctx context.Context, vms, days, workers int, dir string, used func() (cpu float64, mib int64)) (*SpeedResult, error) {
	h := Synthetic(vms, days, 1)
	path := filepath.Join(dir, "forecasts")
	src := guess{oracle{h}, 1}
	w, err := newWriter(src, h, "empirical", warmDays*day, path)
	if err != nil {
		return nil, err
	}
	fr := newFrame(h)
	for t := warmDays * day; t < h.Steps; t++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := w.After(t, fr); err != nil {
			return nil, err
		}
	}
	if err := w.close(); err != nil {
		return nil, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	opt := Options{U: .92, Placements: 1, Policies: []string{"predictive"}, Model: "empirical", Forecasts: path, Workers: workers}
	before, _ := used()
	begun := time.Now()
	res, err := Run(ctx, h, opt)
	if err != nil {
		return nil, err
	}
	wall := time.Since(begun).Seconds()
	cpu, mib := used()
	p := res.Policies["predictive"]
	out := &SpeedResult{VMs: vms, Hosts: res.Hosts, Days: days - warmDays, Workers: workers, Wall: wall, CPU: cpu - before, Moves: p.Moves, Decided: p.Decisions, Hash: p.Hash[0], Resident: mib, Kept: st.Size() >> 20}
	real := float64(out.Days*day) * schemas.DefaultBase.Seconds()
	out.Times, out.PerCPU = real/wall, real/out.CPU
	return out, nil
}
