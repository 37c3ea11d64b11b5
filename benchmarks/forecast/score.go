package forecast

import (
	"math"
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// nine are the levels .1 to .9 among schemas.Levels: those that are scored.
var nine = [9]int{2, 3, 4, 5, 6, 7, 8, 9, 10}

// normal are the standard normal quantiles of .1 to .9.
var normal = [9]float64{-1.2815516, -.8416212, -.5244005, -.2533471, 0, .2533471, .5244005, .8416212, 1.2815516}

const season = schemas.StepsPerDay

// quantiles of one step.
type quantiles [9]float32

// losses of a forecast, summed over scored steps.
type losses struct {
	pinball     float64 // mean over the levels of 2 x pinball
	pinballClip float64 // with quantiles clipped to what is physical
	first       float64 // pinball within the first hour
	firstClip   float64
	err         float64 // of the median
	n, nFirst   float64
}

func (l *losses) add(h int, y float64, q *quantiles, bound float64) {
	var p, pc float64
	for k := range q {
		v := float64(q[k])
		p += loss(y, v, k)
		pc += loss(y, min(max(v, 0), bound), k)
	}
	l.pinball += p
	l.pinballClip += pc
	if h < 12 {
		l.first += p
		l.firstClip += pc
		l.nFirst++
	}
	l.err += math.Abs(y - float64(q[4]))
	l.n++
}

// loss is 2/9 of the pinball loss at level k of nine: summed over them the CRPS.
func loss(y, q float64, k int) float64 {
	tau := float64(k+1) / 10
	if y >= q {
		return 2. / 9 * tau * (y - q)
	}
	return 2. / 9 * (1 - tau) * (q - y)
}

// share counts how often something holds.
type share struct{ in, of float64 }

func (s *share) count(yes bool) {
	if s.of++; yes {
		s.in++
	}
}

// past is what the scores need of the steps before an origin.
type past struct {
	scale float64         // mean |y(t) - y(t-day)|
	rms   float64         // its root mean square
	bound float64         // physical ceiling
	naive [season]float32 // the last day; 0 before the first value
	ok    bool            // there is a scale: what is neither constant nor younger than a day and a half
}

// pastOf looks at the context y, in which a missing value counts as the last one
// before; bound 0 takes twice the highest value.
func pastOf(y []float32, bound float64) past {
	p := past{bound: bound}
	var ring [season]float32 // the value a day ago
	var n float64
	var top, last float32
	seen := -1 // steps since the first value
	for t, v := range y {
		if v == v {
			last = v
			seen = max(seen, 0)
		}
		top = max(top, last)
		if seen >= season {
			d := float64(last - ring[t%season])
			p.scale += math.Abs(d)
			p.rms += d * d
			n++
		}
		ring[t%season] = last
		if seen >= 0 {
			seen++
		}
	}
	if n > 0 {
		p.scale /= n
		p.rms = math.Sqrt(p.rms / n)
	}
	if bound == 0 {
		p.bound = max(1, 2*float64(top))
	}
	for k := range p.naive {
		p.naive[k] = last
		if t := len(y) - season + k; t >= 0 {
			p.naive[k] = ring[t%season]
		}
	}
	p.ok = n >= season/2 && p.scale > 0
	return p
}

// step is the seasonal naive at step h: yesterday's value, normal errors whose
// variance grows by the day (Hyndman and Athanasopoulos, Forecasting, 5.5).
func (p *past) step(h int, q *quantiles) {
	s := p.rms * math.Sqrt(float64(1+h/season))
	for k := range q {
		q[k] = p.naive[h%season] + float32(normal[k]*s)
	}
}

// Scores of a model.
type Scores struct {
	Series    int     `json:"series"`      // that were scored
	Relative  int     `json:"relative"`    // of them not constant, and so with a MASE and a relative CRPS
	Forecasts int     `json:"forecasts"`   // scored, over all series
	MASE      float64 `json:"mase_mean"`   // season 288, mean over series
	MASEMid   float64 `json:"mase_median"` // median over series
	CRPS      float64 `json:"crps_pooled"` // sum of 2 x pinball over sum of |y|
	Rel       float64 `json:"crps_rel"`    // geometric mean over series of CRPS / seasonal naive's
	RelClip   float64 `json:"crps_rel_clip"`
	Rel1h     float64 `json:"crps_rel_1h"`
	Rel1hClip float64 `json:"crps_rel_1h_clip"`
	Coverage  float64 `json:"coverage_80"`      // share within the .1 to .9 band, mean over series
	Withheld  int     `json:"withheld"`         // forecasts the model had nothing to go by for; the last value stands in
	Failed    int     `json:"failed,omitempty"` // fits a forecaster from outside failed at; the seasonal naive stands in
	// CPU seconds: of one forecast; of keeping one series up to date for one step, refits
	// included; and of both a scored forecast when one is made every step, as in service.
	ForecastCPU float64 `json:"forecast_cpu_s"`
	FitCPU      float64 `json:"fit_cpu_s_per_step"`
	CPU         float64 `json:"cpu_s_per_series_forecast"`
	// WalkCPU is all CPU time of the run over the scored forecasts: it has the whole walk
	// through the context in it.
	WalkCPU float64 `json:"walk_cpu_s_per_scored_forecast"`
	// ColdCPU is that of a first fit on the window and one forecast, where it was measured.
	ColdCPU float64 `json:"cold_cpu_s,omitempty"`
	// Twin is our model of the same kind as this peer, which takes TwinRatio times the CPU
	// from cold.
	Twin      string  `json:"twin,omitempty"`
	TwinRatio float64 `json:"twin_ratio,omitempty"`
}

// tally sums a model's losses over series.
type tally struct {
	logRel, logClip, log1h, log1hClip, cover float64
	mase                                     []float64
	pinball, size                            float64 // over all steps, of constant series too
	n, scored, forecasts, withheld, failed   int
	fit, forecast, calls, steps              float64
}

// Floors in scales keep the ratio of two errors that are next to nothing from
// deciding the geometric mean.
const (
	floor   = 1e-4
	floor1h = 1e-3
)

// pooled takes one step of any series.
func (t *tally) pooled(y float64, q *quantiles) {
	for k, v := range q {
		t.pinball += loss(y, float64(v), k)
	}
	t.size += math.Abs(y)
}

// series takes the losses of one series that has a scale.
func (t *tally) series(l, base *losses, scale float64) {
	t.n++
	rel := func(a, b, n, floor float64) float64 {
		if n == 0 {
			return 0
		}
		return math.Log((a/n/scale + floor) / (b/n/scale + floor))
	}
	t.logRel += rel(l.pinball, base.pinball, l.n, floor)
	t.logClip += rel(l.pinballClip, base.pinballClip, l.n, floor)
	t.log1h += rel(l.first, base.first, l.nFirst, floor1h)
	t.log1hClip += rel(l.firstClip, base.firstClip, l.nFirst, floor1h)
	t.mase = append(t.mase, l.err/l.n/scale)
}

func (t *tally) join(o *tally) {
	t.logRel += o.logRel
	t.logClip += o.logClip
	t.log1h += o.log1h
	t.log1hClip += o.log1hClip
	t.cover += o.cover
	t.mase = append(t.mase, o.mase...)
	t.pinball += o.pinball
	t.size += o.size
	t.n += o.n
	t.scored += o.scored
	t.forecasts += o.forecasts
	t.withheld += o.withheld
	t.failed += o.failed
	t.fit += o.fit
	t.forecast += o.forecast
	t.calls += o.calls
	t.steps += o.steps
}

func (t *tally) scores() Scores {
	s := Scores{Series: t.scored, Relative: t.n, Forecasts: t.forecasts, Withheld: t.withheld, Failed: t.failed}
	s.CRPS = t.pinball / max(t.size, math.SmallestNonzeroFloat64)
	s.Coverage = t.cover / float64(max(1, t.scored))
	s.ForecastCPU = t.forecast / max(1, t.calls)
	s.FitCPU = t.fit / max(1, t.steps)
	s.CPU = s.ForecastCPU + s.FitCPU
	s.WalkCPU = (t.fit + t.forecast) / float64(max(1, t.forecasts))
	if t.n == 0 {
		return s
	}
	n := float64(t.n)
	slices.Sort(t.mase)
	for _, m := range t.mase {
		s.MASE += m / n
	}
	s.MASEMid = (t.mase[(t.n-1)/2] + t.mase[t.n/2]) / 2
	s.Rel, s.RelClip = math.Exp(t.logRel/n), math.Exp(t.logClip/n)
	s.Rel1h, s.Rel1hClip = math.Exp(t.log1h/n), math.Exp(t.log1hClip/n)
	return s
}
