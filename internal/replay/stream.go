package replay

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// streamName is the name of a history that is a fleet's own.
const streamName = "stream"

// FromSteps makes a history of the base steps of a fleet, in order of steps. Names gives
// the names of VMs, for people; VMs without one are called by their id. A VM's cores and
// memory are its allocation, or its own peak where nobody told it. Days are whole days
// from midnight on.
func FromSteps(steps []*schemas.Steps, names map[schemas.VMID]string) (*History, error) {
	if len(steps) == 0 {
		return nil, errors.New("backtest: the stream holds no history; `foreshift history import` fills it")
	}
	first, last := steps[0].Step, steps[len(steps)-1].Step
	origin := (first + schemas.StepsPerDay - 1) / schemas.StepsPerDay * schemas.StepsPerDay
	n := int(last-origin) + 1
	if n < 1 {
		return nil, fmt.Errorf("backtest: the stream holds %d steps: less than a day", last-first+1)
	}
	by := map[schemas.VMID]*record{}
	var ids []schemas.VMID
	peak := map[schemas.VMID]float64{}
	for _, m := range steps {
		t := int(m.Step - origin)
		if t < 0 || m.Cols[schemas.ColCPU] == nil {
			continue
		}
		for i, id := range m.VM {
			x := by[id]
			if x == nil {
				if len(by) >= maxVMs || (len(by)+1)*n > maxCells {
					return nil, fmt.Errorf("backtest: more than %d VMs or %d values: ask for fewer days", maxVMs, maxCells)
				}
				name := names[id]
				if name == "" {
					name = id.String()
				}
				x = &record{name: name, sized: true}
				by[id] = x
				ids = append(ids, id)
			}
			y := m.Cols[schemas.ColCPU][i] / 1000
			if y != y {
				continue
			}
			for len(x.y) <= t {
				x.y = append(x.y, schemas.NaN())
			}
			x.y[t] = y
			peak[id] = max(peak[id], float64(y))
			if m.AllocCPU != nil && m.AllocCPU[i] > 0 {
				x.cores = max(x.cores, float64(m.AllocCPU[i])/1000)
			}
			if m.AllocMem != nil && m.AllocMem[i] > 0 {
				x.gib = max(x.gib, min(max(float64(m.AllocMem[i])/(1<<30), leastGiB), mostGiB))
			}
		}
	}
	slices.SortFunc(ids, func(a, b schemas.VMID) int { return bytes.Compare(a[:], b[:]) })
	all := make([]*record, 0, len(ids))
	used := map[string]bool{}
	for _, id := range ids {
		x := by[id]
		if x.cores == 0 {
			x.cores = max(1, math.Ceil(peak[id]))
		}
		if used[x.name] {
			x.name += " " + id.String()
		}
		used[x.name] = true
		all = append(all, x)
	}
	h := &History{Name: streamName, First: origin}
	if len(all) == 0 {
		return nil, errors.New("backtest: the stream holds no CPU demand")
	}
	return h, h.fill(all)
}
