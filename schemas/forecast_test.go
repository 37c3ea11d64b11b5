package schemas_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	. "github.com/foreshift/foreshift/schemas"
)

// The largest forecast there is stays below what telemetry may carry, whatever is
// in it.
func TestForecastFits(t *testing.T) {
	f := sampleForecasts(MaxForecastVMs, NumScenarios)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range f.Host {
		f.Host[i] = HostID(strings.Repeat("h", 64))
	}
	// The longest weights: random shares have the most digits.
	for slot := range Slots {
		var sum float32
		for k := range f.K {
			f.Weight[k*Slots+slot] = r.Float32() + 1e-4
			sum += f.Weight[k*Slots+slot]
		}
		for k := range f.K {
			f.Weight[k*Slots+slot] /= sum
		}
	}
	f.Model = strings.Repeat("m", MaxName)
	b := encoded(t, f)
	if limit := 512 << 10; len(b) >= limit {
		t.Errorf("%d bytes, want less than %d", len(b), limit)
	}
	decoded(t, KindForecasts, b)
}

// A row's numbers keep three digits over eight decades below its largest, in any
// unit, and what was read is written again bit for bit.
func TestForecastPrecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := float32(math.Pow(10, rapid.Float64Range(-12, 29).Draw(t, "magnitude")))
		seed := rapid.Uint64().Draw(t, "seed")
		r := rand.New(rand.NewPCG(seed, 1))
		f := sampleForecasts(1, 2)
		var largest float32
		for i := range f.D {
			f.D[i] = unit * float32(math.Pow(10, -8*r.Float64()))
			if i%ScenarioResources == 0 {
				largest = max(largest, f.D[i])
			}
		}
		got := decoded(t, KindForecasts, encoded(t, f)).(*Forecasts)
		for i, want := range f.D {
			if d := math.Abs(float64(got.D[i] - want)); d > 0.0005*float64(want) {
				t.Fatalf("number %d: %v came back as %v; the largest is %v", i, want, got.D[i], largest)
			}
		}
		again := decoded(t, KindForecasts, encoded(t, got))
		if !sameMessage(again, got) {
			t.Fatal("changes when it is written a second time")
		}
	})
}

// A VM that a resource is not known of has a row of NaN, null on the wire.
func TestForecastMissing(t *testing.T) {
	f := sampleForecasts(2, 2)
	per := Slots * NumLevels
	for i := range per {
		f.Q[Disk][per+i] = NaN()
	}
	paths := f.K * Slots * ScenarioResources
	for i := 0; i < paths; i += ScenarioResources {
		f.D[i+1] = NaN() // row 0, memory
	}
	got := decoded(t, KindForecasts, encoded(t, f)).(*Forecasts)
	for i := range per {
		if IsNaN(got.Q[Disk][i]) || !IsNaN(got.Q[Disk][per+i]) {
			t.Fatalf("quantile %d: row 0 %v, row 1 %v", i, got.Q[Disk][i], got.Q[Disk][per+i])
		}
	}
	for i := 0; i < paths; i += ScenarioResources {
		if IsNaN(got.D[i]) || !IsNaN(got.D[i+1]) || IsNaN(got.D[paths+i+1]) {
			t.Fatalf("path %d", i)
		}
	}
	lines, err := JSONLines(got)
	if err != nil || !strings.Contains(string(lines), "[null,null,") {
		t.Errorf("lines %v hold no null", err)
	}
	// In part is not missing, it is broken.
	for _, spoil := range []func(*Forecasts){
		func(f *Forecasts) { f.Q[CPU][3] = NaN() },
		func(f *Forecasts) { f.D[4] = NaN() },
		func(f *Forecasts) { f.Q[CPU][0] = NaN() },
	} {
		f := sampleForecasts(2, 2)
		spoil(f)
		if _, err := Encode(f); err == nil || !strings.Contains(err.Error(), "missing in part") {
			t.Errorf("error %v", err)
		}
	}
}

func TestForecastWithoutScenariosOrRows(t *testing.T) {
	f := sampleForecasts(2, 0)
	got := decoded(t, KindForecasts, encoded(t, f)).(*Forecasts)
	if got.K != 0 || got.D != nil || got.Weight != nil || len(got.Q[CPU]) != 2*Slots*NumLevels {
		t.Errorf("came back with %d scenarios, %d numbers", got.K, len(got.D))
	}
	for _, m := range []Message{sampleForecasts(0, 2), &Metrics{Host: "h", Site: "s", Agent: "a", Seq: 1}, &Steps{Partition: 1, Step: 1, Base: DefaultBase}} {
		out := decoded(t, m.Kind(), encoded(t, m))
		if lines, err := JSONLines(out); err != nil || len(lines) != 0 {
			t.Errorf("%s without rows: %q, %v", m.Kind(), lines, err)
		}
	}
}

func TestRowScale(t *testing.T) {
	for largest, want := range map[float32]float32{0: 1, 1: 1.0 / (1 << 14), 16384: 1, 32767: 2, 32752: 1, 32768: 2, 65504: 2, 1e-40: float32(math.Ldexp(1, -100))} {
		if got := RowScale(largest); got != want {
			t.Errorf("scale of %v is %v, want %v", largest, got, want)
		}
	}
}
