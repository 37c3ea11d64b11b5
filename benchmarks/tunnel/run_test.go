package tunnel

import (
	"context"
	"reflect"
	"testing"
)

func TestOursEndsSoonerAndLateLessOften(t *testing.T) {
	res, err := Run(context.Background(), Options{Sets: 60, Moves: 3, Writes: .45, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range res.Against {
		if a.Range[1] >= 0 || a.MRange[1] >= 0 {
			t.Errorf("against %s: %+v", name, a)
		}
	}
	if ours := res.Policy["ours"]; ours.Other < .999 || ours.Never > 0 {
		t.Errorf("ours: %+v", ours)
	}
	again, err := Run(context.Background(), Options{Sets: 60, Moves: 3, Writes: .45, Seed: 1})
	if err != nil || !reflect.DeepEqual(res, again) {
		t.Errorf("the same seed gave other figures: %v", err)
	}
}

// One move alone ends when the arithmetic says.
func TestOneMoveAlone(t *testing.T) {
	s := set{rate: 100e6, guests: []guest{{memory: 900e6, working: 900e6, dirty: 0, drift: 1, deadline: 100}}, other: make([]float64, 200), horizon: 100}
	for name, p := range map[string]policy{"ours": &ours{}, "equal": equal{}} {
		if sc := run(s, p); sc.total < 10.9 || sc.total > 11.3 || sc.missed != 0 {
			t.Errorf("%s: %+v, want 900 MB at 90 MB/s and a second before", name, sc)
		}
	}
	if sc := run(s, none{}); sc.total < 9.9 || sc.total > 10.3 {
		t.Errorf("none: %+v", sc)
	}
}

func TestRefusesNonsense(t *testing.T) {
	if _, err := Run(context.Background(), Options{Sets: 0, Moves: 3, Writes: .4}); err == nil {
		t.Error("no sets were accepted")
	}
}
