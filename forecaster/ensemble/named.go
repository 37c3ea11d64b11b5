package ensemble

import (
	"fmt"
	"strings"

	"github.com/foreshift/foreshift/forecaster/lstm"
	"github.com/foreshift/foreshift/forecaster/model"
)

// Auto is the name of the ensemble of all banks.
const Auto = "auto"

// makers are the banks by name, in the order in which the ensemble asks them.
var makers = []struct {
	name string
	make func() model.Experts
}{
	{"empirical", func() model.Experts { return model.NewEmpirical() }},
	{"rises", func() model.Experts { return model.NewRises() }},
	{"seasonal-naive", func() model.Experts { return model.NewSeasonalNaive() }},
	{"ets", func() model.Experts { return model.NewETS() }},
	{"arima", func() model.Experts { return model.NewARIMA() }},
	{"prophet", func() model.Experts { return model.NewProphet() }},
	{"lstm", func() model.Experts { return lstm.New() }},
}

// Banks makes one of every bank.
func Banks() []model.Experts {
	out := make([]model.Experts, len(makers))
	for i, m := range makers {
		out[i] = m.make()
	}
	return out
}

// Names of what [Named] makes.
func Names() []string {
	names := []string{Auto}
	for _, m := range makers {
		names = append(names, m.name)
	}
	return names
}

// Named makes a bank by name: one model alone, "auto" for the ensemble of all, or
// "auto-NAME" for the ensemble without a bank.
func Named(name string) (model.Bank, error) {
	if name == Auto {
		return New(), nil
	}
	without, ablate := strings.CutPrefix(name, Auto+"-")
	var rest []model.Experts
	found := false
	for _, m := range makers {
		switch {
		case !ablate && m.name == name:
			return m.make(), nil
		case ablate && m.name == without:
			found = true
		case ablate:
			rest = append(rest, m.make())
		}
	}
	switch {
	case found:
		return Of(rest...), nil
	case ablate && without == "learning":
		e := New()
		e.Tune(Tuning{NoLearning: true})
		return e, nil
	case ablate && without == "tracking":
		e := New()
		e.Tune(Tuning{NoTracking: true})
		return e, nil
	}
	return nil, fmt.Errorf("no model %q; there are %s, and %s-X without X (a model, learning or tracking)",
		name, strings.Join(Names(), ", "), Auto)
}
