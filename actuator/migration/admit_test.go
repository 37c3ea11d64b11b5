package migration

import (
	"slices"
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
// comes again, whatever the clock says by then, nor what was there before.
func TestPulse(t *testing.T) {
	const now = int64(1000e9)
	limit := int64(HeartbeatLimit)
	first := Beat{Seq: 5, Stored: now - 5e9, Signed: now - 5e9}
	for _, x := range []struct {
		what    string
		b       Beat
		now, at int64
	}{
		{"a later one", Beat{Seq: 6, Stored: now, Signed: now}, now, now},
		{"one from the future", Beat{Seq: 6, Stored: now + limit + 1, Signed: now}, now, now - 5e9},
		{"one signed in the future", Beat{Seq: 6, Stored: now, Signed: now + limit + 1}, now, now - 5e9},
		{"one within the limit", Beat{Seq: 6, Stored: now + limit, Signed: now + limit}, now, now + limit},
		{"one of before", Beat{Seq: 6, Stored: now - 9e9, Signed: now}, now, now - 5e9},
		{"one signed long before it was stored", Beat{Seq: 6, Stored: now, Signed: now - 3600e9}, now, now - 5e9},
		{"the older of its times", Beat{Seq: 6, Stored: now, Signed: now - 1e9}, now, now - 1e9},
		{"the same again", first, now, now - 5e9},
		{"one that was there before", Beat{Seq: 6, Stored: now, Signed: now, Old: true}, now, now - 5e9},
		{"a stream that has begun anew", Beat{Seq: 1, Stored: now, Signed: now}, now, now},
	} {
		if p := (Pulse{}).Hear(first, now, 1).Hear(x.b, x.now, 2); p.At != x.at {
			t.Errorf("%s: %+v", x.what, p)
		}
	}
	// A clock 45 s slow takes a heartbeat for one of the future; delivered again 34 s
	// later it seems to be of now.
	p := Pulse{}.Hear(Beat{Seq: 6, Stored: now, Signed: now}, now-45e9, 1)
	if p = p.Hear(Beat{Seq: 6, Stored: now, Signed: now}, now-11e9, 2); p.At != 0 {
		t.Errorf("what was of the future counts when it comes again: %+v", p)
	}
	// A placer's clock was six minutes fast; somebody has what it signed stored again and
	// again, until its time has come, and after as many others as are known again.
	p = Pulse{}
	for seq, at := uint64(1), int64(0); at < 400e9; seq, at = seq+1, at+8e9 {
		if p = p.Hear(Beat{Seq: seq, Stored: now + at, Signed: now + 360e9}, now+at, at); p.At != 0 {
			t.Fatalf("what was heard before counts when it is stored anew: %+v after %d s", p.At, at/1e9)
		}
	}
	for i := range int64(heardLast - 1) {
		p = p.Hear(Beat{Seq: uint64(100 + i), Stored: now + 400e9 + i, Signed: now + i}, now+400e9, 400e9)
	}
	was := p.At
	if p = p.Hear(Beat{Seq: 5000, Stored: now + 401e9, Signed: now + 360e9}, now+365e9, 401e9); p.At != was {
		t.Error("what was heard before is forgotten too soon")
	}
	if p = p.Hear(Beat{Seq: 5001, Stored: now + 402e9, Signed: now + 402e9}, now+402e9, 402e9); p.At != now+402e9 {
		t.Error("one that is new does not count")
	}
}

// TestPausing: the later word holds, in sequence; asked for anew, what is stored later
// holds, too, under a sequence that was given before.
func TestPausing(t *testing.T) {
	pause, resume := Pausing{Seq: 5, Stored: 50, Paused: true}, Pausing{Seq: 8, Stored: 80}
	again := Pausing{Seq: 8, Stored: 95, Paused: true} // the resume was lost before
	for _, c := range []struct {
		name             string
		known, say, want Pausing
		anew             bool
	}{
		{"first", Pausing{}, pause, pause, false},
		{"later", pause, resume, resume, false},
		{"earlier", resume, pause, resume, false},
		{"sequence given again, heard", resume, again, resume, false},
		{"sequence given again, asked for", resume, again, again, true},
		{"tail lost, asked for", resume, Pausing{Seq: 6, Stored: 95, Paused: true}, Pausing{Seq: 6, Stored: 95, Paused: true}, true},
		{"never heard, asked for", pause, resume, resume, true},
		{"a replica that is behind", resume, pause, resume, true},
		{"no news", resume, resume, resume, true},
		{"later, by a clock set back", pause, Pausing{Seq: 9, Stored: 40}, Pausing{Seq: 9, Stored: 40}, true},
	} {
		hear := c.known.Hear
		if c.anew {
			hear = c.known.Anew
		}
		if got := hear(c.say); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestSilence: a heartbeat counts for 30 s from when it was given, however late it comes
// and whatever this host's clock says.
func TestSilence(t *testing.T) {
	const day, second = int64(1e18), int64(1e9)
	starts := func(p Pulse, slow, steady int64) bool {
		return admissionGuard(t, "heartbeat").Check(Facts{Now: day + steady - slow, Heartbeat: p.At, Silence: p.Silence(steady)}).OK()
	}
	hear := func(p Pulse, seq, given, slow, steady int64) Pulse {
		return p.Hear(Beat{Seq: uint64(seq), Stored: day + given, Signed: day + given}, day+steady-slow, steady)
	}
	for _, slow := range []int64{-20 * second, 0, 20 * second, 37 * second, 59 * second} {
		// One every 5 s for two minutes; the last comes 55 s late.
		p, n := Pulse{}.Hear(Beat{Seq: 1, Stored: day, Signed: day, Old: true}, day-slow, 0), int64(1)
		if starts(p, slow, 0) {
			t.Errorf("slow by %d s: starts on what was there before", slow/second)
		}
		for at := 5 * second; at < 120*second; at += 5 * second {
			n++
			p = hear(p, n, at, slow, at)
			if got, want := starts(p, slow, at), slow <= 30*second; got != want {
				t.Fatalf("slow by %d s, heartbeats on time: starts %t", slow/second, got)
			}
		}
		p = hear(p, n+1, 120*second, slow, 175*second)
		if starts(p, slow, 175*second) {
			t.Errorf("slow by %d s: starts on a heartbeat that came 55 s late", slow/second)
		}
		// After a silence of an hour two come at once, both of long ago.
		p = hear(p, n+2, 200*second, slow, 3600*second)
		p = hear(p, n+3, 205*second, slow, 3600*second+1)
		if starts(p, slow+3380*second, 3600*second+2) {
			t.Error("starts on heartbeats of an hour ago")
		}
	}
	// The servers' clock was 50 s fast and is set right: after two minutes nothing is left of it.
	p := hear(Pulse{}, 1, 50*second, 0, 0)
	var since int64
	for at, n := 5*second, int64(2); at < 300*second && since == 0; at, n = at+5*second, n+1 {
		if p = hear(p, n, at, 0, at); starts(p, 0, at) {
			since = at
		}
	}
	if since == 0 || since > 130*second {
		t.Errorf("starts again after %d s", since/second)
	}
}

func admissionGuard(t *testing.T, name string) Guard[Facts] {
	t.Helper()
	for _, g := range admissionGuards {
		if g.Name == name {
			return g
		}
	}
	t.Fatalf("no guard %q", name)
	return Guard[Facts]{}
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

// TestGivenUpUnasked: nobody has asked for Finish, and the guest is gone. What was made for
// its disks is deleted, unless the deadline is past: the transfer may have been over while
// this host stood still, and a person have let the copy run.
func TestGivenUpUnasked(t *testing.T) {
	made := Record{Fence: 7, Prepared: 7, Deadline: 100}
	given := made
	given.Released = 7
	for _, x := range []struct {
		what string
		d    Record
		now  int64
		left bool
	}{
		{"the connection was lost", made, 99, false},
		{"past the deadline", made, 100, true},
		{"released, and stopped before it was left", given, 100, true},
		{"released before the deadline", given, 99, false},
	} {
		_, steps := Tend(x.d, Here{Copy: Absent}, x.now, DefaultLimits())
		left := slices.ContainsFunc(steps, func(s Step) bool { return s.Kind == DoLeave })
		if n := len(steps); n == 0 || steps[n-1].Record.Dropped != 7 || left != x.left {
			t.Errorf("%s: %+v", x.what, steps)
		}
	}
}

// TestReleasedWithoutACopy: a source asks for Release, and there is no copy, or only its
// definition. The files made for it go, unless Finish was asked for and is not known to have
// failed: somebody may have let the copy run since.
func TestReleasedWithoutACopy(t *testing.T) {
	made := Record{Fence: 7, Prepared: 7, Deadline: 100}
	asked := made
	asked.Asked = 7
	done := asked
	done.Finished = 7
	for _, x := range []struct {
		d    Record
		h    Here
		left bool
	}{
		{made, Here{Copy: Absent}, false},
		{asked, Here{Copy: Absent, Undone: 7}, false}, // in vain: libvirt has dropped it
		{asked, Here{Copy: Absent}, true},             // or its record failed
		{asked, Here{Copy: Absent, Undone: 6}, true},
		{done, Here{Copy: Absent}, true},
		{done, Here{Copy: Paused}, false}, // it is destroyed, and it never ran
		{done, Here{Copy: ShutOff}, true}, // it has died: only its definition goes
		{asked, Here{Copy: ShutOff}, true},
		{asked, Here{Copy: ShutOff, Undone: 7}, true}, // somebody has defined it
	} {
		steps, why := Answer(x.d, Ask{Op: schemas.OpRelease, Epoch: 7, Expires: 99, Command: 7, Deadline: 100}, x.h, 50, DefaultLimits())
		left := slices.ContainsFunc(steps, func(s Step) bool { return s.Kind == DoLeave })
		drops := slices.ContainsFunc(steps, func(s Step) bool { return s.Kind == DoDrop })
		if n := len(steps); !why.OK() || n == 0 || steps[n-1].Record.Dropped != 7 || left != x.left || drops != (x.h.Copy != Absent) {
			t.Errorf("%+v with %+v: %v, %+v", x.d, x.h, why, steps)
		}
	}
	given := asked // and the actuator died before it had dropped anything
	given.Released = 7
	_, steps := Tend(given, Here{Copy: ShutOff}, 50, DefaultLimits())
	if len(steps) != 3 || steps[0].Kind != DoDrop || steps[1].Kind != DoLeave || steps[2].Record.Dropped != 7 {
		t.Errorf("housekeeping of what was released: %+v", steps)
	}
}

// TestFinishInVain: Finish was asked for, done or not, and nothing of the guest is left:
// after the deadline the record gives the epoch up, and a Finish or Resume that comes later
// is refused. Until then, or while there is anything, it holds. The files that were made
// for it are left: the copy may have run.
func TestFinishInVain(t *testing.T) {
	asked := Record{Fence: 7, Prepared: 7, Asked: 7, Finished: 5, Resumed: 5, Ran: 5, Deadline: 100}
	done := asked
	done.Finished = 7
	for _, x := range []struct {
		what string
		d    Record
		h    Here
		now  int64
		over bool
	}{
		{"gone, after the deadline", asked, Here{Copy: Absent}, 100, true},
		{"released, and gone before it was dropped", Record{Fence: 7, Prepared: 7, Asked: 7, Released: 7, Deadline: 100}, Here{Copy: Absent}, 50, true},
		{"before the deadline", asked, Here{Copy: Absent}, 99, false},
		{"the connection is there", asked, Here{Copy: Absent, Session: 7}, 100, false},
		{"the guest comes in", asked, Here{Copy: Paused, Incoming: true}, 100, false},
		{"its definition is left", asked, Here{Copy: ShutOff}, 100, false},
		{"libvirt does not answer", asked, Here{Copy: Unreachable}, 100, false},
		{"gone after Finish was done", done, Here{Copy: Absent}, 100, true},
		{"done, before the deadline", done, Here{Copy: Absent}, 99, false},
		{"done, whole and paused", done, Here{Copy: Paused}, 100, false},
		{"done, its definition is left", done, Here{Copy: ShutOff}, 100, false},
		{"done, libvirt does not answer", done, Here{Copy: Unreachable}, 100, false},
	} {
		_, steps := Tend(x.d, x.h, x.now, DefaultLimits())
		if !x.over {
			if len(steps) != 0 {
				t.Errorf("%s: %+v", x.what, steps)
			}
			continue
		}
		on, left := x.d, false
		for _, s := range steps {
			switch s.Kind {
			case Write:
				if on = s.Record; on.Dropped == 7 && !left {
					t.Errorf("%s: its files are deleted", x.what)
				}
			case DoLeave:
				left = true
			default:
				t.Fatalf("%s: %s", x.what, s.Kind)
			}
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
