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
		{"heartbeat", schemas.ReasonHeartbeat, func(f *Facts) { f.Silence = 31e9 }},
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

// TestPulse: what comes from the future does not count, and hides nothing; nor does what
// comes again, whatever the clock says by then.
func TestPulse(t *testing.T) {
	const now = int64(1000e9)
	limit := int64(HeartbeatLimit)
	first := Beat{Seq: 5, Stored: now - 5e9, Signed: now - 5e9}
	for _, x := range []struct {
		what        string
		b           Beat
		now         int64
		at, arrived int64
	}{
		{"a later one", Beat{6, now, now}, now, now, 2},
		{"one from the future", Beat{6, now + limit + 1, now}, now, now - 5e9, 1},
		{"one signed in the future", Beat{6, now, now + limit + 1}, now, now - 5e9, 1},
		{"one within the limit", Beat{6, now + limit, now + limit}, now, now + limit, 2},
		{"one of before", Beat{6, now - 9e9, now}, now, now - 5e9, 1},
		{"one signed long before it was stored", Beat{6, now, now - 3600e9}, now, now - 5e9, 1},
		{"the older of its times", Beat{6, now, now - 1e9}, now, now - 1e9, 2},
		{"the same again", first, now, now - 5e9, 1},
		{"a stream that has begun anew", Beat{1, now, now}, now, now, 2},
	} {
		p := Pulse{}.Hear(first, now, 1).Hear(x.b, x.now, 2)
		if p.At != x.at || p.Arrived != x.arrived {
			t.Errorf("%s: %+v", x.what, p)
		}
	}
	// A clock 45 s slow takes a heartbeat for one of the future; delivered again 34 s
	// later it seems to be of now.
	p := Pulse{}.Hear(Beat{6, now, now}, now-45e9, 1)
	if p = p.Hear(Beat{6, now, now}, now-11e9, 2); p.At != 0 {
		t.Errorf("what was of the future counts when it comes again: %+v", p)
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

// TestFinishThatNeverCame: Finish was asked for and never done, and nothing of the guest
// is left: after the deadline the record gives the epoch up, and a Finish or Resume that
// comes later is refused. Until then, or while there is anything, it holds.
func TestFinishThatNeverCame(t *testing.T) {
	asked := Record{Fence: 7, Prepared: 7, Asked: 7, Finished: 5, Resumed: 5, Ran: 5, Deadline: 100}
	for _, x := range []struct {
		what string
		d    Record
		h    Here
		now  int64
		over bool
	}{
		{"gone, after the deadline", asked, Here{Copy: Absent}, 100, true},
		{"before the deadline", asked, Here{Copy: Absent}, 99, false},
		{"the connection is there", asked, Here{Copy: Absent, Session: 7}, 100, false},
		{"the guest comes in", asked, Here{Copy: Paused, Incoming: true}, 100, false},
		{"its definition is left", asked, Here{Copy: ShutOff}, 100, false},
		{"libvirt does not answer", asked, Here{Copy: Unreachable}, 100, false},
		{"Finish was done", Record{Fence: 7, Prepared: 7, Asked: 7, Finished: 7, Deadline: 100}, Here{Copy: Absent}, 100, false},
	} {
		_, steps := Tend(x.d, x.h, x.now, DefaultLimits())
		if !x.over {
			if len(steps) != 0 {
				t.Errorf("%s: %+v", x.what, steps)
			}
			continue
		}
		on := x.d
		for _, s := range steps {
			if s.Kind != Write {
				t.Fatalf("%s: %s", x.what, s.Kind)
			}
			on = s.Record
		}
		if on.Open() || on.Released != 7 || on.Dropped != 7 || on.Fence != 7 {
			t.Errorf("%s: %+v", x.what, on)
		}
		for _, op := range []schemas.Op{schemas.OpPrepare, schemas.OpFinish, schemas.OpResume} {
			late := Ask{Op: op, Epoch: 7, AfterSeq: 6, Expires: 1000, Command: 1000, Deadline: 1000}
			for _, h := range []Here{{Copy: Absent}, {Copy: Paused, Incoming: true, Session: 7}, {Copy: Paused}} {
				if steps, why := Answer(on, late, h, 200, DefaultLimits()); why.OK() {
					t.Errorf("%s, then %s: %+v", x.what, op, steps)
				}
			}
		}
	}
}
