package model

import (
	"fmt"

	"github.com/foreshift/foreshift/schemas"
)

// Adopter is a bank that takes a series over from another bank of its kind: how a
// series comes into a bank from a snapshot, or leaves for one, without the others.
type Adopter interface {
	// Adopt makes series i, which was added under the same key, what series j of from
	// is. Both banks must have observed the same last step, unless this one has
	// observed none yet: then it goes on from the other's.
	Adopt(i int, from Bank, j int) error
}

// adopt copies row j of their tables over row i of ours.
func (r *roster) adopt(i int, mine []table, from *roster, theirs []table, j int) error {
	switch {
	case !r.has(i) || !from.has(j) || r.keys[i] != from.keys[j]:
		return fmt.Errorf("model: series %d is not series %d of the other bank", i, j)
	case !r.any:
		r.last, r.any = from.last, from.any
	case r.last != from.last:
		return fmt.Errorf("model: series of step %d for a bank of step %d", from.last, r.last)
	}
	for k, t := range mine {
		switch v := t.at.(type) {
		case *[]float32:
			copyRow(*v, i, *theirs[k].at.(*[]float32), j, t.per)
		case *[]int8:
			copyRow(*v, i, *theirs[k].at.(*[]int8), j, t.per)
		case *[]uint16:
			copyRow(*v, i, *theirs[k].at.(*[]uint16), j, t.per)
		case *[]uint64:
			copyRow(*v, i, *theirs[k].at.(*[]uint64), j, t.per)
		case *[]schemas.Step:
			copyRow(*v, i, *theirs[k].at.(*[]schemas.Step), j, t.per)
		default:
			return fmt.Errorf("model: table of %T cannot be adopted", v)
		}
	}
	return nil
}

func copyRow[T any](dst []T, i int, src []T, j, n int) {
	copy(row(dst, i, n), row(src, j, n))
}

// other is what a bank is asked to adopt from: one of its own type.
func other[T any](from Bank) (T, error) {
	f, ok := from.(T)
	if !ok {
		return f, fmt.Errorf("model: cannot adopt from a bank of type %T", from)
	}
	return f, nil
}

// Adopt implements [Adopter].
func (e *Empirical) Adopt(i int, from Bank, j int) error {
	f, err := other[*Empirical](from)
	if err != nil {
		return err
	}
	return e.roster.adopt(i, e.tables(), &f.roster, f.tables(), j)
}

// Adopt implements [Adopter].
func (n *SeasonalNaive) Adopt(i int, from Bank, j int) error {
	f, err := other[*SeasonalNaive](from)
	if err != nil {
		return err
	}
	return n.roster.adopt(i, n.tables(), &f.roster, f.tables(), j)
}

// Adopt implements [Adopter].
func (r *Rises) Adopt(i int, from Bank, j int) error {
	f, err := other[*Rises](from)
	if err != nil {
		return err
	}
	return r.roster.adopt(i, r.tables(), &f.roster, f.tables(), j)
}

// Adopt implements [Adopter].
func (e *ETS) Adopt(i int, from Bank, j int) error {
	f, err := other[*ETS](from)
	if err != nil {
		return err
	}
	return e.roster.adopt(i, e.tables(), &f.roster, f.tables(), j)
}

// Adopt implements [Adopter].
func (a *ARIMA) Adopt(i int, from Bank, j int) error {
	f, err := other[*ARIMA](from)
	if err != nil {
		return err
	}
	return a.roster.adopt(i, a.tables(), &f.roster, f.tables(), j)
}

// Adopt implements [Adopter]. What all series together know of events is taken over
// only by a bank that knows nothing of its own.
func (p *Prophet) Adopt(i int, from Bank, j int) error {
	f, err := other[*Prophet](from)
	if err != nil {
		return err
	}
	if err := p.roster.adopt(i, p.tables(), &f.roster, f.tables(), j); err != nil {
		return err
	}
	if !p.learnt && p.classes == 0 {
		p.learnt, p.classes, p.shared = f.learnt, f.classes, f.shared
	}
	return nil
}
