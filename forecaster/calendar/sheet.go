package calendar

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

// MaxSeries bounds the distinct regressors of a sheet.
const MaxSeries = 1024

// Sheet is a book expanded over a range of steps. It never changes.
type Sheet struct {
	From  schemas.Step
	N     int // steps
	X     [][]float32
	terms [][schemas.NumResources][]model.Term // by kind of VM
	vms   map[schemas.VMID]int
}

// Terms are the regressors of a VM's resource, those of events before numeric ones,
// at most model.MaxTerms.
func (s *Sheet) Terms(v schemas.VMID, r schemas.Resource) []model.Term {
	return s.terms[s.vms[v]][r] // a VM nobody told of has no labels: kind 0
}

// active is an entry with something in the range.
type active struct {
	event *Event
	class string
	cover []float32 // share of each step
}

// maker builds a sheet.
type maker struct {
	*Sheet
	book  *Book
	index map[string]int // of X by what it is made of
}

// Sheet expands the book over n steps from a step on.
func (b *Book) Sheet(from schemas.Step, n int) *Sheet {
	m := maker{Sheet: &Sheet{From: from, N: n, terms: make([][schemas.NumResources][]model.Term, len(b.kinds)), vms: maps.Clone(b.vms)},
		book: b, index: map[string]int{}}
	var entries []active
	for _, id := range slices.Sorted(maps.Keys(b.events)) {
		if cover := b.cover(b.events[id], from, n); cover != nil {
			entries = append(entries, active{b.events[id], class(b.events[id]), cover})
		}
	}
	// Events of a class stand together, in order of ids.
	slices.SortStableFunc(entries, func(x, y active) int { return cmp.Compare(x.class, y.class) })
	externals := slices.Sorted(maps.Keys(b.external))
	var mine []int
	for k := range b.kinds {
		if k > 0 && b.kinds[k].vms == 0 {
			continue
		}
		mine = mine[:0]
		for e := range entries {
			if Matches(entries[e].event.Entry.Match, b.kinds[k].labels) {
				mine = append(mine, e)
			}
		}
		for r := range m.terms[k] {
			m.terms[k][r] = m.termsOf(b.kinds[k].labels, schemas.Resource(r), entries, mine, externals)
		}
	}
	return m.Sheet
}

// class is what an event's effect is learnt with.
func class(e *Event) string {
	if e.Entry.Class == "" {
		return "entry " + e.Entry.ID
	}
	return "class " + e.Entry.Class
}

// Class is the key under which models learn the effect of a class on a resource;
// expected tells events with an operator's expectation from those without.
func Class(name string, r schemas.Resource, expected bool) uint64 {
	return xxhash.Sum64String(fmt.Sprintf("%s on %s, %v", name, r, expected))
}

// termsOf collects the terms of one kind of VM, which the entries of mine concern.
func (m *maker) termsOf(labels map[string]string, r schemas.Resource, entries []active, mine []int, externals []string) (terms []model.Term) {
	add := func(t model.Term) {
		switch {
		case t.X < 0:
		case len(terms) == model.MaxTerms:
			m.book.Counts.Crowded++
		default:
			terms = append(terms, t)
		}
	}
	for lo := 0; lo < len(mine); {
		hi := lo
		name := entries[mine[lo]].class
		var with, without []int // expectation
		for ; hi < len(mine) && entries[mine[hi]].class == name; hi++ {
			if x := entries[mine[hi]].event.Entry.Expected[r.String()]; x != 0 {
				with = append(with, mine[hi])
			} else {
				without = append(without, mine[hi])
			}
		}
		if len(with) > 0 {
			add(model.Term{X: m.sum(entries, with, r, true), Class: Class(name, r, true), Mean: 1})
		}
		if len(without) > 0 {
			add(model.Term{X: m.sum(entries, without, r, false), Class: Class(name, r, false)})
		}
		lo = hi
	}
	for _, id := range externals {
		if x := m.book.external[id]; Matches(x.Match, labels) {
			add(model.Term{X: m.numeric(x), Class: Class("external "+id, r, false), Numeric: true})
		}
	}
	return terms
}

// series finds the series with a key or has it made; -1 when there is no room.
func (m *maker) series(key string, fill func(x []float32)) int {
	if i, ok := m.index[key]; ok {
		return i
	}
	if len(m.X) == MaxSeries {
		m.book.Counts.Dropped++
		return -1
	}
	x := make([]float32, m.N)
	fill(x)
	m.X = append(m.X, x)
	m.index[key] = len(m.X) - 1
	return len(m.X) - 1
}

// sum adds the events of a class: where two of them meet, both act.
func (m *maker) sum(entries []active, which []int, r schemas.Resource, expected bool) int {
	key := fmt.Sprint(which)
	if expected {
		key += r.String()
	}
	return m.series(key, func(x []float32) {
		for _, e := range which {
			share := float32(1)
			if expected {
				share = float32(entries[e].event.Entry.Expected[r.String()])
			}
			for k, c := range entries[e].cover {
				x[k] += share * c
			}
		}
	})
}

func (m *maker) numeric(x *schemas.External) int {
	return m.series("external "+x.ID, func(dst []float32) { m.book.average(x, m.From, dst) })
}

// cover is the share of each step that an event covers; nil when it covers none.
func (b *Book) cover(e *Event, from schemas.Step, n int) []float32 {
	spans, complete := e.Between(from.Start(b.base), (from + schemas.Step(n)).Start(b.base), nil)
	if !complete {
		b.Counts.Dropped++
	}
	if len(spans) == 0 {
		return nil
	}
	x := make([]float32, n)
	for _, s := range spans {
		for k := max(0, int(schemas.StepAt(s.Start, b.base)-from)); k < n; k++ {
			step := from + schemas.Step(k)
			lo, hi := max(s.Start, step.Start(b.base)), min(s.End, step.End(b.base))
			if hi <= lo {
				break
			}
			x[k] = min(1, x[k]+float32(hi.Sub(lo))/float32(b.base))
		}
	}
	return x
}

// average is the mean over each step of a series that is constant over its intervals;
// NaN where it says nothing.
func (b *Book) average(x *schemas.External, from schemas.Step, dst []float32) {
	every := every(x)
	for k := range dst {
		lo, hi := (from + schemas.Step(k)).Start(b.base), (from + schemas.Step(k)).End(b.base)
		first := int64(lo-x.Start) / int64(every)
		if lo < x.Start {
			first = 0
		}
		var sum float64
		var total time.Duration
		for j := first; j < int64(len(x.Value)); j++ {
			begin := x.Start.Add(time.Duration(j) * every)
			if begin >= hi {
				break
			}
			d := min(hi, begin.Add(every)).Sub(max(lo, begin))
			sum += x.Value[j] * float64(d)
			total += d
		}
		if dst[k] = schemas.NaN(); total > 0 {
			dst[k] = float32(sum / float64(total))
		}
	}
}

// every is the length of a numeric series' interval.
func every(x *schemas.External) time.Duration {
	return max(1, time.Duration(float64(x.Every)*float64(time.Second)))
}
