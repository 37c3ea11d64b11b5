package forecaster

import (
	"encoding/json"
	"fmt"

	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/schemas"
)

// ModelOrigins is the name of the past steps that scenarios follow, see
// [ensemble.ChooseOrigins]. Of a step the partitions of a fleet could each choose their
// own, but they do not see the newest step of each other at the same moment: one
// chooses and tells all. Until then, and when nobody has told for a day, the origins
// are [ensemble.Origins] of the step.
const ModelOrigins = "origins"

// originsData are the bytes of a version: steps before [schemas.Model]'s Step, from
// which scenarios follow them, moved on as the steps go.
type originsData struct {
	Origins []schemas.Step `json:"origins"`
}

func encodeOrigins(origins []schemas.Step) ([]byte, error) {
	return json.Marshal(originsData{origins})
}

// useOrigins puts those of a version in force, in j.
func useOrigins(j *ensemble.Joint, v *Version) error {
	var data originsData
	if err := json.Unmarshal(v.Data, &data); err != nil {
		return fmt.Errorf("origins: %w", err)
	}
	return j.SetOrigins(v.Step, data.Origins)
}

// ChooseOrigins gives the origins that suit the fleet as it is now, moved on to be in
// force from step at; nil when less than two days are known.
func (d *Decider) ChooseOrigins(at schemas.Step) []schemas.Step {
	first, fleet := d.fleetDemand()
	origins := ensemble.ChooseOrigins(first, fleet)
	for i := range origins {
		origins[i] += at - d.issued
	}
	return origins
}

// fleetDemand is the CPU demand of a VM on average, by step up to the newest issued,
// over those of which it is known: a host that was not heard for a while must not look
// like a night.
func (d *Decider) fleetDemand() (first schemas.Step, demand []float32) {
	first = d.issued
	for _, v := range d.list {
		first = min(first, v.W.First())
	}
	sum, known := make([]float64, d.issued-first+1), make([]float64, d.issued-first+1)
	var x []float32
	for _, v := range d.list {
		w := v.W.View()
		x = w.Series(schemas.CPU, x)
		at := int(w.First - first)
		for i, y := range x[:min(len(x), max(0, len(sum)-at))] {
			if y == y {
				sum[at+i] += float64(y)
				known[at+i]++
			}
		}
	}
	demand = make([]float32, len(sum))
	for i := range sum {
		demand[i] = float32(sum[i] / known[i])
	}
	return first, demand
}
