package streams

import (
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// TestDependents: the commands of a plan that was not stored stay at home, all else goes.
func TestDependents(t *testing.T) {
	plan := Out{ID: "p1", Msg: &schemas.Plan{ID: "p1"}}
	rest := []Out{
		{ID: "c1", Msg: &schemas.Command{ID: "c1", Plan: "p1"}},
		{ID: "c2", Msg: &schemas.Command{ID: "c2", Plan: "p2"}},
		{ID: "a", Msg: &schemas.Act{ID: "a", Act: schemas.ActHeartbeat}},
		{ID: "c3", Msg: &schemas.Command{ID: "c3", Plan: "p1"}},
	}
	ids := func(outs []Out) (s string) {
		for _, o := range outs {
			s += o.ID + " "
		}
		return s
	}
	if got := ids(Dependents(plan, rest)); got != "c2 a " {
		t.Errorf("without the plan go: %s", got)
	}
	if got := ids(Dependents(rest[0], rest[1:])); got != "c2 a c3 " {
		t.Errorf("without a command go: %s", got)
	}
}
