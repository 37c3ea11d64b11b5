package effect

import (
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

func TestVerdict(t *testing.T) {
	for _, tc := range []struct {
		name  string
		terms map[string]schemas.Change
		want  string
	}{
		{"nothing known", nil, "no clear effect on waiting or response times"},
		{"zero lies within", map[string]schemas.Change{"vm.steal_mcpu": {After: 10, Without: 20, Low: -30, High: 5}}, "no clear effect on waiting or response times"},
		{"less waiting", map[string]schemas.Change{"vm.steal_mcpu": {Before: 310, After: 0, Without: 298.4, Low: -386.6, High: -248.8}},
			"the VM waits less for cores: 0 cores instead of 0.298, a difference of 0.249 to 0.387 cores less (90 % sure)"},
		{"more waiting", map[string]schemas.Change{"destination.steal_mcpu": {After: 1500, Without: 200, Low: 900, High: 1700}},
			"the new neighbours wait more for cores: 1.5 cores instead of 0.2, a difference of 0.9 to 1.7 cores more (90 % sure)"},
		{"what people feel comes first", map[string]schemas.Change{"vm.steal_mcpu": {After: 0, Without: 300, Low: -400, High: -200}, "vm.app_ms": {After: 12.34, Without: 140.2, Low: -150, High: -100.4}},
			"the VM answers faster: 12.3 ms instead of 140, a difference of 100 to 150 ms less (90 % sure)"},
		{"swap", map[string]schemas.Change{"source.swap_bytes": {After: 0, Without: 300 << 20, Low: -(400 << 20), High: -(200 << 20)}},
			"the VMs that stayed swap less: 0 MiB instead of 300, a difference of 200 to 400 MiB less (90 % sure)"},
		{"little swap", map[string]schemas.Change{"source.swap_bytes": {After: 900, Without: 100, Low: 500, High: 950}},
			"the VMs that stayed swap more: 900 bytes instead of 100, a difference of 500 to 950 bytes more (90 % sure)"},
	} {
		if got := verdict(tc.terms); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
	}
}
