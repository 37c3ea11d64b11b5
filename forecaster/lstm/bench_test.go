package lstm

import (
	"testing"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
)

func full(b testing.TB) (*Bank, int, schemas.Step) {
	s := Generate(5, 1, 9)[0]
	bank := NewBank(NewWeights(1))
	i := bank.Add(model.Key{VM: s.VM, Resource: s.Resource})
	w := windowOf(s.Y, s.Resource, s.First)
	if err := bank.Refit(i, w.View(), 0); err != nil {
		b.Fatal(err)
	}
	v := w.View()
	return bank, i, v.Last()
}

func BenchmarkObserve(b *testing.B) {
	bank, _, last := full(b)
	y := []float32{3}
	b.ReportAllocs()
	for b.Loop() {
		last++
		y[0] += .1
		bank.Observe(last, y, model.Regressors{})
	}
}

func BenchmarkForecast(b *testing.B) {
	bank, i, last := full(b)
	d := schemas.NewDist()
	b.ReportAllocs()
	for b.Loop() {
		bank.Forecast(i, schemas.Grid{Start: last + 1}, model.Regressors{}, &d)
	}
}

func BenchmarkRefit(b *testing.B) {
	s := Generate(5, 1, 9)[0]
	bank := NewBank(NewWeights(1))
	i := bank.Add(model.Key{VM: s.VM, Resource: s.Resource})
	v := windowOf(s.Y, s.Resource, s.First).View()
	for _, fresh := range []bool{false, true} {
		name := "known"
		if fresh {
			name = "new"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if fresh {
					bank.seen[i] = 0
				}
				if err := bank.Refit(i, v, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkUpdate(b *testing.B) {
	t, err := NewTrainer(NewWeights(1), Generate(5, 32, 4), nil, Options{Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		t.Update()
	}
}
