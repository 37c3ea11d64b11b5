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

// TestRefusalOfAnotherHost: a host that is given a command of another's refuses it. That
// says nothing of the move, which goes on: its places stay taken.
func TestRefusalOfAnotherHost(t *testing.T) {
	f := New(Config{})
	vm, now := schemas.VMID{1}, schemas.Time(1_767_225_600e9)
	in := func(seq uint64, m schemas.Message) {
		t.Helper()
		if err := f.Apply(Input{Seq: seq, Time: now, Msg: m}); err != nil {
			t.Fatal(err)
		}
	}
	in(7, &schemas.Command{ID: "c1", VM: vm, Source: "a", Destination: "b", Issued: now, Expires: now.Add(schemas.CommandLife), Deadline: now.Add(schemas.CommandLife)})
	o := schemas.Outcome{Command: "c1", Epoch: 7, VM: vm, Host: "c", Source: "a", Destination: "b", Time: now, Result: schemas.ResultRefused, Reason: schemas.Reason{Code: schemas.ReasonWrongHost}}
	in(8, &o)
	if a := f.View(now).Attempts; len(a) != 1 || a[0].Ended != 0 || a[0].Result != "" {
		t.Errorf("another host's refusal ended the move: %+v", a)
	}
	if f.RecordSeq(vm) != 8 {
		t.Errorf("the record's last sequence is %d: a command would lose its race", f.RecordSeq(vm))
	}
	own := o
	own.Host = "a"
	in(9, &own)
	if a := f.View(now).Attempts; len(a) != 1 || a[0].Ended == 0 {
		t.Errorf("its source's refusal did not: %+v", a)
	}
}
