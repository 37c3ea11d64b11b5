package model

import (
	"fmt"

	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// SeasonalNaive forecasts yesterday's value at the same time, with the quantiles of
// the errors that this made in the window round it. It is the yardstick of the
// others as much as an expert.
type SeasonalNaive struct {
	ring
	err    []float32 // n x levels: quantiles of y(t) - y(t-day)
	x      []float32
	pool   []float32
	sorter sorter
}

// NewSeasonalNaive makes an empty bank.
func NewSeasonalNaive() *SeasonalNaive {
	return &SeasonalNaive{x: make([]float32, 0, window.Rows), pool: make([]float32, 0, window.Rows)}
}

// Names implements [Experts].
func (n *SeasonalNaive) Names() []string { return naiveNames }

var naiveNames = []string{"seasonal-naive"}

// Add implements [Bank].
func (n *SeasonalNaive) Add(k Key) int {
	i := n.add(k)
	n.err = Grown(n.err, i, levels)
	fill(row(n.err, i, levels))
	return i
}

// Observe implements [Bank].
func (n *SeasonalNaive) Observe(s schemas.Step, y []float32, _ Regressors) { n.observe(s, y) }

// Refit implements [Bank].
func (n *SeasonalNaive) Refit(i int, w window.View, _ uint64) error {
	if !n.has(i) {
		return fmt.Errorf("model seasonal-naive: refit of unknown series %d", i)
	}
	x := n.history(i, &w, n.x)
	n.refill(i, x, w.Last())
	x, _ = learnable(n.keys[i], &w, x)
	pool := n.pool[:0]
	for t := day; t < len(x); t++ {
		if d := x[t] - x[t-day]; d == d {
			pool = append(pool, d)
		}
	}
	dst := n.err[i*levels : (i+1)*levels]
	if len(pool) < minPool {
		fill(dst)
		return nil
	}
	n.sorter.quantiles(pool, dst)
	return nil
}

// Forecast implements [Bank].
func (n *SeasonalNaive) Forecast(i int, g schemas.Grid, known Regressors, dst *schemas.Dist) {
	n.Expert(i, 0, g, known, dst)
}

// Expert implements [Experts].
func (n *SeasonalNaive) Expert(i, _ int, g schemas.Grid, _ Regressors, dst *schemas.Dist) bool {
	fill(dst.Q)
	err := n.err[i*levels : (i+1)*levels]
	if err[0] != err[0] {
		return false
	}
	any := false
	for s := 0; s < schemas.Slots; s++ {
		start, length := g.Slot(s)
		var sum float32
		k := 0
		for t := start; t < start+schemas.Step(length); t++ {
			if v := n.at(i, t-day); v == v {
				sum += v
				k++
			}
		}
		if k == 0 {
			continue
		}
		any = true
		q := dst.At(s)
		for l := range q {
			q[l] = sum/float32(k) + err[l]
		}
		Tidy(q)
	}
	return any
}

func (n *SeasonalNaive) tables() []table { return append(n.ring.tables(), table{levels, &n.err}) }

// AppendState implements [Bank].
func (n *SeasonalNaive) AppendState(b []byte) []byte { return n.appendState(b, n.tables()) }

// LoadState implements [Bank].
func (n *SeasonalNaive) LoadState(b []byte) error {
	if _, err := n.loadState(b, n.tables(), false); err != nil {
		return fmt.Errorf("model seasonal-naive: %w", err)
	}
	return nil
}
