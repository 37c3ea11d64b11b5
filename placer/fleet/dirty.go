package fleet

import (
	"math"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// dirtyState is the last known rate at which a VM dirties its memory. It outlives a
// move: the agent of the new host has not measured yet.
type dirtyState struct {
	Rate, High schemas.BytesPerSecond
	At         schemas.Time
	Seq        uint64
}

// dirtyFor is how long a rate that no host tells any more is believed.
const dirtyFor = time.Hour

func (f *Fleet) noteDirty(m *schemas.CapacityHost, in Input) {
	for i := range m.VMs {
		v := &m.VMs[i]
		if rate := believable(v.DirtyRate); rate > 0 {
			f.dirty[v.VM] = dirtyState{rate, max(rate, believable(v.DirtyHigh)), in.Time, in.Seq}
		}
	}
	if len(f.dirty) > maxRecords {
		for v, d := range f.dirty {
			if in.Time.Sub(d.At) > dirtyFor {
				delete(f.dirty, v)
			}
		}
	}
}

// believable keeps garbage out: no guest dirties a TB/s.
func believable(v schemas.BytesPerSecond) schemas.BytesPerSecond {
	if !(v > 0) || v > 1e12 {
		return 0
	}
	return v
}

// Dirty is the rate in bytes/s at which the VM is expected to dirty its memory in a
// slot: what was measured, in proportion to its forecast CPU demand there against
// that of the first slot, within a quarter of the measured rate and its high
// quantile. ok is false when nobody has measured it within the hour.
func (v *View) Dirty(vm int32, slot int) (rate schemas.BytesPerSecond, ok bool) {
	m := &v.VMs[vm]
	if m.DirtyRate <= 0 {
		return 0, false
	}
	now, then := v.mean(m.CPU, 0), v.mean(m.CPU, min(max(slot, 0), schemas.Slots-1))
	r := float64(m.DirtyRate)
	if now > 0 && schemas.Finite(then/now) {
		r *= then / now
	}
	return schemas.BytesPerSecond(math.Min(math.Max(r, float64(m.DirtyRate)/4), float64(m.DirtyHigh))), true
}

// mean is the expectation of a VM's scenarios in a slot.
func (v *View) mean(d []float32, slot int) (sum float64) {
	for k := slot * v.K; k < (slot+1)*v.K; k++ {
		sum += float64(v.Weight[k]) * float64(d[k])
	}
	return sum
}
