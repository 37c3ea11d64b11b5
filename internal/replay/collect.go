package replay

import (
	"slices"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Collector gathers the base steps of the last days of a stream: of each VM and step the
// newest revision.
type Collector struct {
	Base   time.Duration
	Days   int
	newest schemas.Step
	by     map[stepPart][]*schemas.Steps
}

type stepPart struct {
	step schemas.Step
	part int
}

// Add takes one message; those of another base step are passed over.
func (c *Collector) Add(m *schemas.Steps) {
	if m.Base != c.Base {
		return
	}
	c.newest = max(c.newest, m.Step)
	if c.by == nil {
		c.by = map[stepPart][]*schemas.Steps{}
	}
	if m.Step > c.first() {
		k := stepPart{m.Step, m.Partition}
		c.by[k] = append(c.by[k], m)
	}
}

// first is the step after which steps are kept.
func (c *Collector) first() schemas.Step {
	return c.newest - schemas.Step(c.Days*schemas.StepsPerDay)
}

// Steps are the base steps in order of step and partition.
func (c *Collector) Steps() []*schemas.Steps {
	var out []*schemas.Steps
	for k, ms := range c.by {
		if k.step > c.first() {
			out = append(out, newestRows(ms))
		}
	}
	slices.SortFunc(out, func(a, b *schemas.Steps) int {
		if a.Step != b.Step {
			return int(a.Step - b.Step)
		}
		return a.Partition - b.Partition
	})
	return out
}

// newestRows folds the messages of one step and partition: of each VM the row of the
// highest revision and lease.
func newestRows(ms []*schemas.Steps) *schemas.Steps {
	if len(ms) == 1 {
		return ms[0]
	}
	slices.SortStableFunc(ms, func(a, b *schemas.Steps) int {
		switch {
		case a.Revision != b.Revision:
			return b.Revision - a.Revision
		case a.Lease > b.Lease:
			return -1
		case a.Lease < b.Lease:
			return 1
		}
		return 0
	})
	out := &schemas.Steps{Partition: ms[0].Partition, Step: ms[0].Step, Revision: ms[0].Revision, Lease: ms[0].Lease, Base: ms[0].Base}
	seen := map[schemas.VMID]bool{}
	at := func(col []float32, i int) float32 {
		if col == nil {
			return schemas.NaN()
		}
		return col[i]
	}
	for c := range out.Cols {
		if slices.ContainsFunc(ms, func(m *schemas.Steps) bool { return m.Cols[c] != nil }) {
			out.Cols[c] = []float32{}
		}
	}
	for _, m := range ms {
		for i, id := range m.VM {
			if seen[id] {
				continue
			}
			seen[id] = true
			out.VM, out.Host = append(out.VM, id), append(out.Host, m.Host[i])
			out.Coverage, out.Flags = append(out.Coverage, m.Coverage[i]), append(out.Flags, m.Flags[i])
			out.AllocCPU, out.AllocMem = append(out.AllocCPU, at(m.AllocCPU, i)), append(out.AllocMem, at(m.AllocMem, i))
			for c := range out.Cols {
				if out.Cols[c] != nil {
					out.Cols[c] = append(out.Cols[c], at(m.Cols[c], i))
				}
			}
		}
	}
	return out
}
