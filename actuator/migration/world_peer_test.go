package migration

import (
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// performPeer is libvirt's own migration, in which it leads: at the end the
// destination runs and the source goes. A lost reply of Finish makes the source run
// again, unless the disk lock that the destination holds forbids it.
func (w *world) performPeer() (How, schemas.Reason) {
	failed := schemas.Reason{Code: schemas.ReasonLibvirt}
	if w.mark != MarkHanded {
		w.violate("libvirt leads a move that was not written down")
	}
	if w.src != Running || w.dst != Absent || w.odds(w.f.PerformFails) {
		return Refused, failed
	}
	w.src, w.dst, w.ran = Paused, Running, true
	w.dead = w.odds(w.f.NoLife)
	if w.odds(w.f.PerformLost) {
		w.log("Finish's reply is lost; locks lost: %v", w.lost)
		if w.lost[0] || w.lost[1] {
			w.src = Running
		}
		w.check("libvirt's return to the source")
		return Refused, failed
	}
	w.src = Absent
	if w.odds(w.f.PerformLost) {
		return Unknown, schemas.Reason{Code: schemas.ReasonConnectionLost}
	}
	w.check("a move that libvirt led")
	return Done, schemas.Reason{}
}

// defects are what may be wrong with a command or with the host that it reaches.
var defects = []struct {
	name  string
	spoil func(*Facts)
}{
	{"a bad signature (I8)", func(f *Facts) { f.Signature = no(schemas.ReasonBadSignature, "") }},
	{"a revoked key (I6)", func(f *Facts) { f.Signature = no(schemas.ReasonUnknownSigner, "") }},
	{"no plan (I8)", func(f *Facts) { f.Command.Plan, f.Command.PlanHash = "", "" }},
	{"no reason (I8)", func(f *Facts) { f.Command.Reason = schemas.Reason{} }},
	{"a replay's run", func(f *Facts) { f.Command.Run = "r1" }},
	{"another source", func(f *Facts) { f.Command.Source = "h3" }},
	{"an id that was seen (I4)", func(f *Facts) { f.Seen = true }},
	{"a fence above what was decided on (I5)", func(f *Facts) { f.Fence = f.Command.AfterSeq + 1 }},
	{"an expired command (I6)", func(f *Facts) { f.Command.Expires = schemas.Time(f.Now - 1) }},
	{"a pause (I6)", func(f *Facts) { f.Paused = true }},
	{"no heartbeat", func(f *Facts) { f.Heartbeat = 0 }},
	{"a move under way", func(f *Facts) { f.Moving = true }},
	{"a busy host (I9)", func(f *Facts) { f.Busy = true }},
	{"a VM that is not here", func(f *Facts) { f.Source = Absent }},
	{"a foreign job", func(f *Facts) { f.Foreign = true }},
	{"no disk lock", func(f *Facts) { f.Peer, f.Lock = true, no(schemas.ReasonLock, "gone") }},
}

// admit lets the command come to the source's host. One with a defect must not start.
func (w *world) admit(deadline int64) bool {
	f := Facts{Command: &schemas.Command{ID: "c1", Plan: "p1", PlanHash: "00", Source: "h1", Destination: "h2", AfterSeq: epoch - 1,
		Expires: schemas.Time(w.now + 60e9), Deadline: schemas.Time(deadline), Reason: schemas.Reason{Code: schemas.ReasonOK}},
		Seq: epoch, Host: "h1", Now: w.now, Fence: epoch - 5, Heartbeat: w.now - 1, Source: w.src}
	defect := ""
	if w.odds(w.f.BadCommand) {
		d := defects[w.rng.Intn(len(defects))]
		defect = d.name
		d.spoil(&f)
	}
	why := w.rules.Admit(f)
	switch {
	case !why.OK() && defect == "":
		w.violate("a command that is in order was refused: %s", why)
	case why.OK() && defect != "":
		w.violate("a move started with %s", defect)
	case !why.OK():
		w.result = schemas.ResultRefused
		w.s.Stage = Ended
	}
	return why.OK() && defect == ""
}

// TestTheLastGuards: what random moves come to only seldom, each guard forbids by itself.
func TestTheLastGuards(t *testing.T) {
	const now = int64(100e9)
	act := func(v Verb) Act {
		a := Act{State: Start(epoch, now+60e9, now-10e9, DefaultLimits()), Action: Action{Verb: v}, Now: now,
			Seen: Observation{Source: Paused, Destination: Running, Fence: epoch, Life: LifeCPU, Peer: Peer{Asked: now}}}
		a.State.Stage, a.State.Peer, a.State.MayPostCopy = HandedOver, true, true
		a.State.Transfer = Convergence{}.Watch(JobStats{Active: true, Processed: 1e6, Remaining: 1e9, Speed: 1e6}, now-2e9).
			Watch(JobStats{Active: true, Processed: 3e6, Remaining: 1e9, Speed: 1e6}, now-1e9)
		return a
	}
	for _, v := range []Verb{PostCopy, Destroy, Perform} {
		if why := defaultRules.check(act(v)); !why.OK() {
			t.Fatalf("%s: %s", v, why)
		}
	}
	for _, x := range []struct {
		guard string
		code  schemas.ReasonCode
		verb  Verb
		spoil func(*Act)
	}{
		{"post-copy", schemas.ReasonPostCopy, PostCopy, func(a *Act) { a.State.Peer = false }},
		{"post-copy", schemas.ReasonPostCopy, PostCopy, func(a *Act) { a.State.MayPostCopy = false }},
		{"post-copy", schemas.ReasonPostCopy, PostCopy, func(a *Act) { a.Now += 10e9 }}, // nothing heard since: the link may drop
		{"post-copy", schemas.ReasonPostCopy, PostCopy, func(a *Act) { a.Now -= 2e9 }},  // the clock was set back: heard nobody knows when
		{"both-hosts", schemas.ReasonUnknownMove, Report, func(a *Act) { // the same
			a.Action.Result, a.Seen.Source, a.Seen.Peer.Asked = schemas.ResultSucceeded, Absent, now+1
		}},
		{"peer-lock", schemas.ReasonLock, PostCopy, func(a *Act) { a.Seen.Lock = no(schemas.ReasonLock, "gone") }},
		{"source-still", schemas.ReasonUnsafe, Finish, func(a *Act) { a.Seen.Foreign = true }}, // a person let it run, and paused it
		{"source-still", schemas.ReasonUnsafe, Resume, func(a *Act) { a.Seen.Foreign = true }},
		{"fetched", schemas.ReasonUnsafe, Destroy, func(a *Act) { a.Seen.PostCopy = true }},
		{"fetched", schemas.ReasonUnsafe, Confirm, func(a *Act) { a.Seen.PostCopy = true }},
	} {
		a := act(x.verb)
		x.spoil(&a)
		if why := defaultRules.check(a); why.Code != x.code {
			t.Errorf("%s: %s, want %s", x.guard, why, x.code)
		}
		rules, err := defaultRules.Without(x.guard)
		if err != nil {
			t.Fatal(err)
		}
		if why := rules.check(a); !why.OK() {
			t.Errorf("without %s: %s", x.guard, why)
		}
	}
	drop := Consent{Record: Record{Prepared: epoch}, Ask: Ask{Op: tending, Epoch: epoch}, Here: Here{Copy: Paused, Incoming: true, Leads: true}, Step: DoDrop, Limits: DefaultLimits()}
	if why := ask(defaultRules.Destination, drop); why.Code != schemas.ReasonUnsafe {
		t.Errorf("the source's copy of a move under way is dropped: %s", why)
	}
	if drop.Here.Leads = false; !ask(defaultRules.Destination, drop).OK() {
		t.Error("a copy that nobody leads is not dropped")
	}
}

// TestNotLedOnAnOldLook: whoever stood still, or has lost a lock, looks again before
// libvirt leads; and waits for a destination that does not say how its lock is.
func TestNotLedOnAnOldLook(t *testing.T) {
	const now = int64(100e9)
	perform := Action{Verb: Perform}
	for _, x := range []struct {
		what  string
		spoil func(*State, *Observation)
		want  Verb
	}{
		{"seen now, locks hold", func(*State, *Observation) {}, Perform},
		{"stood still for a minute", func(_ *State, o *Observation) { o.Peer.Asked = now - 60e9 }, Observe},
		{"the clock was set back", func(_ *State, o *Observation) { o.Peer.Asked = now + 1 }, Observe},
		{"a lock is lost", func(_ *State, o *Observation) { o.Lock = no(schemas.ReasonLock, "gone") }, Observe},
		{"a paused handover", func(s *State, o *Observation) { s.Peer, o.Peer.Asked = false, now-60e9 }, Perform},
	} {
		s := Start(epoch, now+60e9, now-10e9, DefaultLimits())
		s.Stage, s.Peer, s.Wait = Performing, true, Perform
		o := Observation{Source: Running, Destination: Absent, Fence: epoch, Peer: Peer{Asked: now}}
		x.spoil(&s, &o)
		if s, a := defaultRules.Recheck(s, o, perform, now); a.Verb != x.want || s.Wait != x.want {
			t.Errorf("%s: %s, waits for %s", x.what, a.Verb, s.Wait)
		}
	}
	s := Start(epoch, now+60e9, now-10e9, DefaultLimits())
	s.Stage, s.Peer, s.Wait = Performing, true, Observe
	o := Observation{Source: Running, Fence: epoch, Did: Did{Verb: Observe, How: Unknown}}
	s, acts, _ := Next(s, o, now)
	if len(acts) != 1 || acts[0].Verb != Observe || acts[0].After == 0 {
		t.Errorf("a destination that does not answer: %+v", acts)
	}
	o.Destination, o.Did = Absent, Did{Verb: Observe}
	if _, acts, _ = Next(s, o, now); len(acts) != 1 || acts[0].Verb != Perform {
		t.Errorf("one that answers: %+v", acts)
	}
}
