package ensemble

import (
	"fmt"

	"github.com/foreshift/foreshift/forecaster/model"
)

// Adopt implements [model.Adopter]: what was learnt of series j of another ensemble of
// the same experts, with the targets on their way, becomes that of series i. What
// clusters share stays each ensemble's own; see [Ensemble.AdoptShared].
func (e *Ensemble) Adopt(i int, from model.Bank, j int) error {
	f, ok := from.(*Ensemble)
	if !ok || e.nameHash() != f.nameHash() {
		return fmt.Errorf("ensemble: cannot adopt from %T: not an ensemble of the same experts", from)
	}
	if i < 0 || j < 0 || i >= len(e.keys) || j >= len(f.keys) || !e.used[i] || !f.used[j] || e.keys[i] != f.keys[j] {
		return fmt.Errorf("ensemble: series %d is not series %d of the other", i, j)
	}
	for n, b := range e.banks {
		a, ok := b.(model.Adopter)
		if !ok {
			return fmt.Errorf("ensemble: bank %T adopts nothing", b)
		}
		if err := a.Adopt(i, f.banks[n], j); err != nil {
			return fmt.Errorf("ensemble: %w", err)
		}
	}
	e.last = max(e.last, f.last)
	e.heard[i], e.learn.cluster[i] = f.heard[j], f.learn.cluster[j]
	theirs := f.learn.tables()
	for n, t := range e.learn.tables() {
		if t.per > 0 {
			copy((*t.at)[i*t.per:(i+1)*t.per], (*theirs[n].at)[j*t.per:(j+1)*t.per])
		}
	}
	w, v, size := &e.wait, &f.wait, e.wait.size()
	copy(w.from[i*captures:(i+1)*captures], v.from[j*captures:])
	copy(w.slot[i*captures:(i+1)*captures], v.slot[j*captures:])
	copy(w.low[i*captures:(i+1)*captures], v.low[j*captures:])
	copy(w.step[i*captures:(i+1)*captures], v.step[j*captures:])
	copy(w.q[i*captures*size:(i+1)*captures*size], v.q[j*captures*size:])
	return nil
}

// AdoptShared takes over what the other's clusters have learnt in common: for an
// ensemble that is new.
func (e *Ensemble) AdoptShared(f *Ensemble) error {
	if e.nameHash() != f.nameHash() {
		return fmt.Errorf("ensemble: the other is not of the same experts")
	}
	copy(e.learn.pool, f.learn.pool)
	copy(e.learn.breadth, f.learn.breadth)
	copy(e.learn.young, f.learn.young)
	e.learn.reckon(0, len(e.learn.pool))
	return nil
}
