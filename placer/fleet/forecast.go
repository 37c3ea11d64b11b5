package fleet

import (
	"fmt"

	"github.com/foreshift/foreshift/schemas"
)

// forecastRow is the newest forecast of one VM, copied out of its message so that
// the message can go. D is slot-major: D[r][slot*K+k]; so the first slots of every
// scenario are one contiguous run.
type forecastRow struct {
	Issued schemas.Step
	Start  schemas.Step
	Lease  uint64
	Seq    uint64
	At     schemas.Time
	K      int
	Weight []float32 // slot*K+k, shared by the rows of a message
	D      [schemas.ScenarioResources][]float32
	// Mid and Spread are the median and the .9 quantile less the median of net and
	// disk, by slot.
	Mid, Spread [2][schemas.Slots]float32
}

// keepForecasts is how many steps without renewal a forecast is remembered.
const keepForecasts = 36

func (f *Fleet) applyForecasts(in Input, m *schemas.Forecasts) error {
	n := len(m.VM)
	switch {
	case m.Base != f.cfg.Base:
		return fmt.Errorf("forecasts: base step %v, the fleet runs on %v", m.Base, f.cfg.Base)
	case m.K < 1 || m.K > schemas.NumScenarios || len(m.Weight) != m.K*schemas.Slots || len(m.D) != n*m.K*schemas.Slots*schemas.ScenarioResources:
		return fmt.Errorf("forecasts: %d scenarios with %d weights and %d values for %d VMs do not fit together", m.K, len(m.Weight), len(m.D), n)
	}
	for r := range m.Q {
		if len(m.Q[r]) != n*schemas.Slots*schemas.NumLevels {
			return fmt.Errorf("forecasts: %d quantiles of %s for %d VMs", len(m.Q[r]), schemas.Resource(r), n)
		}
	}
	weight := make([]float32, len(m.Weight))
	for k := 0; k < m.K; k++ {
		for s := 0; s < schemas.Slots; s++ {
			weight[s*m.K+k] = m.Weight[k*schemas.Slots+s]
		}
	}
	for i := range m.VM {
		row := f.forecasts[m.VM[i]]
		if row == nil {
			row = &forecastRow{}
			f.forecasts[m.VM[i]] = row
		} else if !row.olderThan(m, in) {
			continue
		}
		row.fill(m, i, weight, in)
	}
	if m.Issued > f.issued {
		f.issued = m.Issued
		for v, row := range f.forecasts {
			if row.Issued < f.issued-keepForecasts {
				delete(f.forecasts, v)
			}
		}
	}
	return nil
}

// olderThan lets the newer issue win, then the newer owner, then the later message.
func (r *forecastRow) olderThan(m *schemas.Forecasts, in Input) bool {
	if m.Issued != r.Issued {
		return m.Issued > r.Issued
	}
	if m.Lease != r.Lease {
		return m.Lease > r.Lease
	}
	return in.Seq > r.Seq
}

func (r *forecastRow) fill(m *schemas.Forecasts, i int, weight []float32, in Input) {
	r.Issued, r.Start, r.Lease, r.Seq, r.At, r.K, r.Weight = m.Issued, m.Grid.Start, m.Lease, in.Seq, in.Time, m.K, weight
	sc := m.Scenarios(i)
	// A VM may want more than its allocation, but its host never gives it more.
	most := float32(0)
	if i < len(m.AllocCPU) {
		most = clean(m.AllocCPU[i])
	}
	for res := range r.D {
		if len(r.D[res]) != m.K*schemas.Slots {
			r.D[res] = make([]float32, m.K*schemas.Slots)
		}
		for k := 0; k < m.K; k++ {
			for s := 0; s < schemas.Slots; s++ {
				x := clean(sc.D[(k*schemas.Slots+s)*schemas.ScenarioResources+res])
				if res == int(schemas.CPU) && most > 0 && x > most {
					x = most
				}
				r.D[res][s*m.K+k] = x
			}
		}
	}
	for j, res := range [2]schemas.Resource{schemas.Net, schemas.Disk} {
		d := m.Dist(i, res)
		for s := 0; s < schemas.Slots; s++ {
			mid := clean(d.Quantile(s, .5))
			r.Mid[j][s] = mid
			r.Spread[j][s] = max(0, clean(d.Quantile(s, .9))-mid)
		}
	}
}

// clean keeps garbage out of the sums: a demand is a finite number, not below 0.
func clean(v float32) float32 {
	if !(v > 0) || v > 1e18 {
		return 0
	}
	return v
}
