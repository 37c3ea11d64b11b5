package replay

import (
	"fmt"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// predictive is the forecaster on its way through a history: the bank, windows and
// scenarios of the service, with nothing between.
type predictive struct {
	h     *History
	bank  model.Bank
	joint ensemble.Joint
	keys  []model.Key
	win   []*window.Window
	y     []float32
	dist  []schemas.Dist
	paths []float32
	none  schemas.Dist // of memory, which is not forecast here
	next  int          // the first step not seen yet
}

func newPredictive(h *History, name string) (*predictive, error) {
	bank, err := ensemble.Named(name)
	if err != nil {
		return nil, err
	}
	n := len(h.VMs)
	p := &predictive{h: h, bank: bank, keys: make([]model.Key, n), win: make([]*window.Window, n), y: make([]float32, n),
		dist: make([]schemas.Dist, n), paths: make([]float32, K*schemas.Slots*schemas.ScenarioResources), none: schemas.NewDist()}
	p.none.Q[0] = schemas.NaN()
	for v := range h.VMs {
		p.keys[v] = model.Key{VM: id(h.VMs[v].Name), Resource: schemas.CPU}
		if i := bank.Add(p.keys[v]); i != v {
			return nil, fmt.Errorf("backtest: %s has index %d in the bank, want %d", h.VMs[v].Name, i, v)
		}
		p.win[v] = window.New(memory.NewGoAllocator())
		p.dist[v] = schemas.NewDist()
	}
	return p, nil
}

// warmFor is how many steps before the first forecast that is used the ensemble is
// asked for forecasts, to learn from them.
const warmFor = 3 * day

// see lets the bank live through step t.
func (p *predictive) see(t int) error {
	at := epoch + schemas.Step(t)
	var row window.Row
	for c := range row.V {
		row.V[c] = schemas.NaN()
	}
	row.Step, row.Coverage = at, 1
	for v := range p.h.VMs {
		p.y[v] = float32(1000 * p.h.At(v, t))
		row.V[schemas.ColCPU] = p.y[v]
		p.win[v].Put(&row)
	}
	p.bank.Observe(at, p.y, model.Regressors{})
	for v, w := range p.win {
		if view := w.View(); model.Due(p.keys[v], view.First, at) == at {
			if err := p.bank.Refit(v, view, p.keys[v].Hash()); err != nil {
				return fmt.Errorf("backtest: fit %s at step %d: %w", p.h.VMs[v].Name, t, err)
			}
		}
	}
	return nil
}

func (p *predictive) forecast(t int) {
	g := schemas.Grid{Start: epoch + schemas.Step(t) + 1}
	for v := range p.win {
		p.bank.Forecast(v, g, model.Regressors{}, &p.dist[v])
	}
}

// After implements [Source].
func (p *predictive) After(t int, f *Frame) error {
	for ; p.next <= t; p.next++ {
		if err := p.see(p.next); err != nil {
			return err
		}
		if e, ok := p.bank.(*ensemble.Ensemble); ok && p.next < t && t-p.next <= warmFor && e.Captures(epoch+schemas.Step(p.next)) {
			p.forecast(p.next)
		}
	}
	p.forecast(t)
	p.joint.Begin(epoch+schemas.Step(t), t+1)
	for _, w := range p.win {
		view := w.View()
		p.joint.Join(&view)
	}
	for v, w := range p.win {
		view := w.View()
		p.joint.Paths(&view, [schemas.ScenarioResources]schemas.Dist{p.dist[v], p.none}, p.paths)
		row := f.CPU[v*K*schemas.Slots : (v+1)*K*schemas.Slots]
		for j := range row {
			row[j] = whole(p.paths[j*schemas.ScenarioResources])
		}
	}
	copy(f.Msg.Weight, p.joint.Weight)
	f.seal(t)
	return nil
}
