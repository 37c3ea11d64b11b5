package matrix

import (
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

func TestPairsAreHeldToTheBars(t *testing.T) {
	pair := func(wall, gap, own schemas.Millis) []Pair {
		v := Handover{Wall: 4000, Gap: 300}
		return []Pair{{v, Handover{wall, gap, own}}, {v, Handover{wall, gap, own}}, {v, Handover{9 * wall, 9 * gap, 9 * own}}}
	}
	for name, x := range map[string]struct {
		pairs []Pair
		fails int
	}{
		"good":           {pair(4200, 320, 200), 0},
		"gap by 49 ms":   {pair(4200, 349, 200), 0},
		"slow":           {pair(4500, 320, 200), 1},
		"silent":         {pair(4200, 360, 200), 1},
		"own":            {pair(4200, 320, 301), 1},
		"all of it":      {pair(8000, 900, 900), 3},
		"nothing at all": {nil, 1},
	} {
		if r := judgePairs(x.pairs); len(r.Failures) != x.fails {
			t.Errorf("%s: %v, want %d failures", name, r.Failures, x.fails)
		}
	}
	odd := judgePairs([]Pair{{Virsh: Handover{Wall: 1}}, {Virsh: Handover{Wall: 5}}, {Virsh: Handover{Wall: 2}}, {Virsh: Handover{Wall: 4}}})
	if odd.Virsh.Wall != 3 {
		t.Errorf("median %v, want 3", odd.Virsh.Wall)
	}
}
