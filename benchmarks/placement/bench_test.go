package placement

import (
	"fmt"
	"testing"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/plan"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
)

// BenchmarkPlan is a whole plan, the first and the refined one, on all 44 slots and at
// the policy's own minimum benefit and trigger.
func BenchmarkPlan(b *testing.B) {
	for _, size := range []struct{ hosts, vms int }{{50, 1000}, {500, 10000}, {5000, 100000}} {
		w := NewWorld(size.hosts, size.vms, 1)
		d := policy.Default()
		p := Policy(Options{LookAhead: schemas.StepsPerDay, Trigger: float64(d.Trigger), MinBenefit: d.MinBenefit})
		p.Apart = w.groups()
		f := fleet.New(fleet.Config{})
		if err := w.Fold(f); err != nil {
			b.Fatal(err)
		}
		cut := schemas.Cut{Now: int64(w.now), Seq: map[string]uint64{}}
		for _, evaluations := range []int{0, 60000} {
			b.Run(fmt.Sprintf("%dx%d/%d", size.hosts, size.vms, evaluations), func(b *testing.B) {
				var pl schemas.Plan
				prepare, cpu := 0.0, CPU()
				for range b.N {
					t := CPU()
					s := plan.Prepare(f, p, cut)
					prepare += CPU() - t
					pl = s.Decide(search.Budget{Evaluations: evaluations}, 1).Plan
				}
				b.ReportMetric((CPU()-cpu)/float64(b.N), "CPU-s/op")
				b.ReportMetric(prepare/float64(b.N), "prepare-CPU-s/op")
				b.ReportMetric(float64(pl.Used), "deltas/op")
				b.ReportMetric(float64(len(pl.Actions)), "moves")
			})
		}
	}
}
