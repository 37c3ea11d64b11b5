package fleet

import (
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// TestRefusalOfAStranger: the refusal of a command that nobody believed is no attempt,
// for whoever can have one refused could use budgets up, or make failures forgotten.
func TestRefusalOfAStranger(t *testing.T) {
	f := New(Config{})
	vm, now := schemas.VMID{1}, schemas.Time(1_767_225_600e9)
	o := &schemas.Outcome{Command: "forged", Epoch: 7, VM: vm, Host: "a", Source: "a", Destination: "b", Time: now, Result: schemas.ResultRefused, Reason: schemas.Reason{Code: schemas.ReasonBadSignature}}
	if err := f.Apply(Input{Seq: 8, Time: now, Msg: o}); err != nil {
		t.Fatal(err)
	}
	if n := len(f.View(now).Attempts); n != 0 {
		t.Errorf("%d attempts", n)
	}
	if f.RecordSeq(vm) != 8 {
		t.Errorf("the record's last sequence is %d: a command would lose its race", f.RecordSeq(vm))
	}
	o.Command, o.Result = "old", schemas.ResultFailed
	if err := f.Apply(Input{Seq: 9, Time: now, Msg: o}); err != nil {
		t.Fatal(err)
	}
	if n := len(f.View(now).Attempts); n != 1 {
		t.Errorf("a failure whose command is older than what was read: %d attempts", n)
	}
}
