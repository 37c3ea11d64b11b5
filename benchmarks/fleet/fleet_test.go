package fleet

import (
	"context"
	"testing"
)

// A small fleet is measured whole, and a large one by a sample that says so.
func TestRun(t *testing.T) {
	r, err := Run(context.Background(), Options{Hosts: 2, VMs: 3, Parts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r.Extrapolated || r.Sample != 3 || r.Steps%24 != 0 {
		t.Fatalf("%+v", r)
	}
	for name, v := range map[string]float64{"total": r.Step.Total, "decide": r.Step.Decide, "encode": r.Step.Encode,
		"bytes": r.Bytes.Total, "observe": r.Parts.ObserveUs, "refit": r.Parts.RefitMs, "forecast": r.Parts.ForecastUs,
		"published": float64(r.Out), "cold": r.Cold} {
		if !(v > 0) {
			t.Errorf("%s: %v", name, v)
		}
	}
	if len(r.Parts.Banks) < 5 {
		t.Errorf("%d banks", len(r.Parts.Banks))
	}
	r, err = Run(context.Background(), Options{Hosts: 10, VMs: 100, Sample: 1, Held: 2, Parts: 1})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Extrapolated || r.Sample != 1 || r.Held != 2 || r.VMs != 100 {
		t.Fatalf("%+v", r)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {Hosts: 5, VMs: 3}, {Hosts: 1, VMs: 1 << 30}, {Hosts: 1, VMs: 1, Steps: -1}} {
		if _, err := Run(context.Background(), o); err == nil {
			t.Errorf("took %+v", o)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if _, err := Run(ctx, Options{Hosts: 1, VMs: 1}); err == nil {
		t.Error("went on after it was stopped")
	}
}
