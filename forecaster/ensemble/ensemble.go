package ensemble

import (
	"encoding/binary"
	"fmt"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// Ensemble is a [model.Bank] over the experts of other banks.
type Ensemble struct {
	emp     *model.Empirical
	banks   []model.Experts
	names   []string
	weights Weights
	q       []schemas.Dist // scratch, one an expert
	ok      []bool
}

var _ model.Bank = (*Ensemble)(nil)

// New makes an ensemble of the empirical bank and the seasonal naive with the prior
// weights.
func New() *Ensemble {
	emp := model.NewEmpirical()
	e := &Ensemble{emp: emp, banks: []model.Experts{emp, model.NewSeasonalNaive()}, weights: Prior}
	for _, b := range e.banks {
		e.names = append(e.names, b.Names()...)
	}
	e.q = make([]schemas.Dist, len(e.names))
	for i := range e.q {
		e.q[i] = schemas.NewDist()
	}
	e.ok = make([]bool, len(e.names))
	return e
}

// Names of the experts, in the order of the weights.
func (e *Ensemble) Names() []string { return e.names }

// SetWeights replaces the mix.
func (e *Ensemble) SetWeights(w Weights) { e.weights = w }

// Add implements [model.Bank].
func (e *Ensemble) Add(k model.Key) int {
	i := e.banks[0].Add(k)
	for _, b := range e.banks[1:] {
		if j := b.Add(k); j != i {
			panic(fmt.Sprintf("ensemble: banks disagree on the index of a series: %d and %d", i, j))
		}
	}
	return i
}

// Remove implements [model.Bank].
func (e *Ensemble) Remove(i int) {
	for _, b := range e.banks {
		b.Remove(i)
	}
}

// Observe implements [model.Bank].
func (e *Ensemble) Observe(s schemas.Step, y []float32, known model.Regressors) {
	for _, b := range e.banks {
		b.Observe(s, y, known)
	}
}

// Refit implements [model.Bank].
func (e *Ensemble) Refit(i int, w window.View, seed uint64) error {
	for _, b := range e.banks {
		if err := b.Refit(i, w, seed); err != nil {
			return fmt.Errorf("ensemble: %w", err)
		}
	}
	return nil
}

// Forecast implements [model.Bank].
func (e *Ensemble) Forecast(i int, g schemas.Grid, known model.Regressors, dst *schemas.Dist) {
	k := 0
	for _, b := range e.banks {
		for x := range b.Names() {
			e.ok[k] = b.Expert(i, x, g, known, &e.q[k])
			k++
		}
	}
	e.mix(e.emp.Strength(i), dst)
}

// mix combines what the experts said.
func (e *Ensemble) mix(strength float32, dst *schemas.Dist) {
	daily := min(1, strength/FullyDaily)
	var w [NumExperts]float32
	bucket := -1
	for s := 0; s < schemas.Slots; s++ {
		if b := BucketOf(s); b != bucket {
			bucket = b
			for k := range w {
				w[k] = (1-daily)*e.weights[0][b][k] + daily*e.weights[1][b][k]
			}
		}
		q := dst.At(s)
		if !e.average(s, q, &w) { // those with a weight here know nothing: all who do count alike
			equal := [NumExperts]float32{1, 1, 1, 1, 1, 1, 1}
			if !e.average(s, q, &equal) {
				for l := range q {
					q[l] = schemas.NaN()
				}
			}
		}
		model.Tidy(q)
	}
}

// average writes the weighted mean of the experts' quantiles of a slot; false when no
// expert with a weight knows anything. It is taken round the first expert's, so that
// experts who agree are repeated to the last bit.
func (e *Ensemble) average(s int, q []float32, w *[NumExperts]float32) bool {
	var first []float32
	var total float32
	for k := range e.q {
		p := e.q[k].At(s)
		if !e.ok[k] || w[k] <= 0 || p[0] != p[0] {
			continue
		}
		total += w[k]
		if first == nil {
			first = p
			clear(q)
			continue
		}
		for l := range q {
			q[l] += w[k] * (p[l] - first[l])
		}
	}
	if first == nil {
		return false
	}
	for l := range q {
		q[l] = first[l] + q[l]/total
	}
	return true
}

// AppendState implements [model.Bank].
func (e *Ensemble) AppendState(b []byte) []byte {
	for _, bank := range e.banks {
		at := len(b)
		b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
		b = bank.AppendState(b)
		binary.LittleEndian.PutUint64(b[at:], uint64(len(b)-at-8))
	}
	return b
}

// LoadState implements [model.Bank].
func (e *Ensemble) LoadState(b []byte) error {
	for i, bank := range e.banks {
		if len(b) < 8 {
			return fmt.Errorf("ensemble state: bank %d is missing", i)
		}
		n := binary.LittleEndian.Uint64(b)
		if n > uint64(len(b)-8) {
			return fmt.Errorf("ensemble state: bank %d is truncated", i)
		}
		if err := bank.LoadState(b[8 : 8+n]); err != nil {
			return fmt.Errorf("ensemble state: bank %d: %w", i, err)
		}
		b = b[8+n:]
	}
	if len(b) != 0 {
		return fmt.Errorf("ensemble state: %d bytes too many", len(b))
	}
	return nil
}
