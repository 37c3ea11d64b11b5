package migration

import (
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// TestAdmit: a command that may start, and every single thing that forbids it; left
// out, the guard lets exactly that through.
func TestAdmit(t *testing.T) {
	const now = int64(1000e9)
	good := func() Facts {
		return Facts{Command: &schemas.Command{ID: "c", Plan: "p", PlanHash: "00", Reason: schemas.Reason{Code: schemas.ReasonOK}, Source: "h1", Destination: "h2", AfterSeq: 50, Expires: schemas.Time(now + 10e9), Deadline: schemas.Time(now + 60e9)},
			Seq: 60, Host: "h1", Now: now, Fence: 50, Heartbeat: now - 5e9, Source: Running}
	}
	if why := Admit(good()); !why.OK() {
		t.Fatal(why)
	}
	for _, x := range []struct {
		guard string
		code  schemas.ReasonCode
		spoil func(*Facts)
	}{
		{"signature", schemas.ReasonUnknownSigner, func(f *Facts) { f.Signature.Code = schemas.ReasonUnknownSigner }},
		{"replay", schemas.ReasonReplay, func(f *Facts) { f.Command.Run = "r1" }},
		{"plan", schemas.ReasonInvalid, func(f *Facts) { f.Command.Plan = "" }},
		{"plan", schemas.ReasonInvalid, func(f *Facts) { f.Command.PlanHash = "" }},
		{"plan", schemas.ReasonInvalid, func(f *Facts) { f.Command.Reason = schemas.Reason{} }},
		{"lock", schemas.ReasonLock, func(f *Facts) { f.Peer, f.Lock = true, no(schemas.ReasonLock, "gone") }},
		{"host", schemas.ReasonWrongHost, func(f *Facts) { f.Command.Source = "h3" }},
		{"host", schemas.ReasonSelf, func(f *Facts) { f.Command.Destination = "h1" }},
		{"unseen", schemas.ReasonSeen, func(f *Facts) { f.Seen = true }},
		{"epoch", schemas.ReasonEpoch, func(f *Facts) { f.Fence = 51 }},
		{"epoch", schemas.ReasonEpoch, func(f *Facts) { f.Command.AfterSeq = 60 }},
		{"expiry", schemas.ReasonExpired, func(f *Facts) { f.Command.Expires = schemas.Time(now - 1) }},
		{"expiry", schemas.ReasonTooLate, func(f *Facts) { f.Command.Deadline = schemas.Time(now) }},
		{"paused", schemas.ReasonPaused, func(f *Facts) { f.Paused = true }},
		{"heartbeat", schemas.ReasonHeartbeat, func(f *Facts) { f.Heartbeat = 0 }},
		{"heartbeat", schemas.ReasonHeartbeat, func(f *Facts) { f.Heartbeat = now - 31e9 }},
		{"heartbeat", schemas.ReasonHeartbeat, func(f *Facts) { f.Heartbeat = now + 3600e9 }},
		{"moving", schemas.ReasonMoving, func(f *Facts) { f.Moving = true }},
		{"busy", schemas.ReasonBudgetHost, func(f *Facts) { f.Busy = true }},
		{"running-here", schemas.ReasonNotHere, func(f *Facts) { f.Source = Absent }},
		{"running-here", schemas.ReasonNotRunning, func(f *Facts) { f.Source = Paused }},
		{"running-here", schemas.ReasonLibvirt, func(f *Facts) { f.Source = Unreachable }},
		{"foreign-job", schemas.ReasonForeignJob, func(f *Facts) { f.Foreign = true }},
	} {
		f := good()
		x.spoil(&f)
		if why := Admit(f); why.Code != x.code {
			t.Errorf("%s: %s, want %s", x.guard, why, x.code)
		}
		rules, err := defaultRules.Without(x.guard)
		if err != nil {
			t.Fatal(err)
		}
		if why := rules.Admit(f); !why.OK() {
			t.Errorf("without %s: %s", x.guard, why)
		}
	}
}

// TestHeard: what comes from the future does not count, and hides nothing.
func TestHeard(t *testing.T) {
	const now = int64(1000e9)
	limit := int64(HeartbeatLimit)
	newest := Heard(0, now-5e9, now)
	if newest != now-5e9 {
		t.Fatalf("a fresh one: %d", newest)
	}
	if newest = Heard(newest, now+limit+1, now); newest != now-5e9 {
		t.Errorf("one from the future counts: %d", newest)
	}
	if newest = Heard(newest, now-9e9, now); newest != now-5e9 {
		t.Errorf("an older one takes its place: %d", newest)
	}
	if newest = Heard(newest, now+limit, now); newest != now+limit {
		t.Errorf("one within the limit does not: %d", newest)
	}
}

// TestReleasedIsNotOfALaterEpoch: a destination that has run the VM, lost it, and released
// a later epoch, has not given the earlier one back: the source's copy is old.
func TestReleasedIsNotOfALaterEpoch(t *testing.T) {
	s := State{Epoch: 5, Stage: HandedOver, Limits: DefaultLimits()}
	o := Observation{Source: Paused, Destination: Absent, Peer: Peer{Fence: 9, Released: 9, Resumed: 5}}
	if released(s, o) {
		t.Error("the source would take an old copy back")
	}
	if o.Peer.Resumed = 0; !released(s, o) {
		t.Error("what was released and never ran is not given back")
	}
}

// TestLostIntentIsSettled: a resume intent whose copy is lost is not carried out on a
// copy that somebody brings later.
func TestLostIntentIsSettled(t *testing.T) {
	d := Record{Fence: 5, Prepared: 5, Asked: 5, Finished: 5, Resumed: 5}
	_, steps := defaultRules.Tend(d, Here{Copy: Absent}, 100, DefaultLimits())
	if len(steps) != 1 || steps[0].Kind != Write || steps[0].Record.Open() {
		t.Fatalf("%+v", steps)
	}
	if _, steps = defaultRules.Tend(steps[0].Record, Here{Copy: Paused}, 200, DefaultLimits()); len(steps) != 0 {
		t.Fatalf("a copy that came later: %+v", steps)
	}
}
