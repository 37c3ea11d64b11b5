package actuator

import (
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"github.com/prometheus/client_golang/prometheus"
)

// TestMovesAreCountedByPhase: each move under the phase it is in, none when it is done,
// and one whose end nobody knows until somebody does.
func TestMovesAreCountedByPhase(t *testing.T) {
	r := prometheus.NewRegistry()
	m, err := newMetrics(r, "h1")
	if err != nil {
		t.Fatal(err)
	}
	now := func() map[string]float64 {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]float64{}
		for _, f := range families {
			if f.GetName() == "foreshift_actuator_moves" {
				for _, x := range f.GetMetric() {
					for _, l := range x.GetLabel() {
						if l.GetName() == "phase" && x.GetGauge().GetValue() != 0 {
							out[l.GetValue()] = x.GetGauge().GetValue()
						}
					}
				}
			}
		}
		return out
	}
	for i, step := range []struct {
		id    schemas.CommandID
		phase schemas.Phase
		want  map[schemas.Phase]float64
	}{
		{"a", schemas.PhasePrepare, map[schemas.Phase]float64{schemas.PhasePrepare: 1}},
		{"b", schemas.PhasePreCopy, map[schemas.Phase]float64{schemas.PhasePrepare: 1, schemas.PhasePreCopy: 1}},
		{"a", schemas.PhasePreCopy, map[schemas.Phase]float64{schemas.PhasePreCopy: 2}},
		{"a", schemas.PhasePreCopy, map[schemas.Phase]float64{schemas.PhasePreCopy: 2}},
		{"b", schemas.PhaseUnknown, map[schemas.Phase]float64{schemas.PhasePreCopy: 1, schemas.PhaseUnknown: 1}},
		{"a", schemas.PhaseDone, map[schemas.Phase]float64{schemas.PhaseUnknown: 1}},
		{"b", schemas.PhaseDone, map[schemas.Phase]float64{}},
	} {
		m.inPhase(step.id, step.phase)
		got := now()
		for p, n := range step.want {
			if got[string(p)] != n {
				t.Errorf("step %d: %v, want %v", i, got, step.want)
			}
		}
		if len(got) != len(step.want) {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
	}
}
