package actuator

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// TestFollowsItsShare: a move over a link waits while the share-out says so, starts
// when it no longer does, and follows every change within two seconds.
func TestFollowsItsShare(t *testing.T) {
	t.Parallel()
	r := newRigAt(t, 600e6)
	r.host(0)
	r.host(1)
	tunnel := streamstest.Connect(t, r.srv, streams.RoleTunnel)
	vm := r.on(0)
	r.beat()
	c := r.command(vm, 0, 1)
	c.Bandwidth = 500e6
	say := func(s schemas.Share) time.Time {
		t.Helper()
		s.Command, s.VM, s.Reason.Code = c.ID, c.VM, schemas.ReasonOK
		if s.Waits {
			s.Reason.Code = schemas.ReasonTurn
		}
		m := &schemas.Tunnel{A: "private", B: "public", Time: schemas.At(time.Now()), Rate: 60e6, Shares: []schemas.Share{s}}
		if _, err := tunnel.Publish(r.ctx(), streams.Out{Subject: streams.SubjectTunnel("private", "public"), Msg: m}); err != nil {
			t.Fatal(err)
		}
		return time.Now()
	}
	limit := func(want schemas.BytesPerSecond) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		n := len(r.progress)
		return n > 0 && r.progress[n-1].Limit == want && (r.progress[n-1].Speed <= want*1.1)
	}
	most := 10 * time.Second // to begin takes more than to change a rate
	within := func(what string, at time.Time, ok func() bool) {
		t.Helper()
		for !ok() {
			if time.Since(at) > most {
				r.mu.Lock()
				defer r.mu.Unlock()
				t.Fatalf("%s: not within %s; %+v", what, most, r.progress)
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("%s: after %s", what, time.Since(at).Round(time.Millisecond))
	}
	say(schemas.Share{Waits: true})
	r.send(c)
	time.Sleep(1200 * time.Millisecond)
	r.mu.Lock()
	early := len(r.progress)
	r.mu.Unlock()
	if early != 0 {
		t.Fatal("it started although it was to wait")
	}
	within("starts with its share", say(schemas.Share{Rate: 20 << 20}), func() bool { return limit(20 << 20) })
	most = 2 * time.Second
	within("slower", say(schemas.Share{Rate: 5 << 20}), func() bool { return limit(5 << 20) })
	within("never without a ceiling", say(schemas.Share{Rate: 0}), func() bool { return limit(1 << 20) })
	within("faster", say(schemas.Share{Rate: 500 << 20}), func() bool { return limit(500 << 20) })
	r.want(c.ID, schemas.ResultSucceeded, 60*time.Second)
	r.at(vm, 1)
}

func TestHold(t *testing.T) {
	const now = int64(1e18)
	c := &schemas.Command{ID: "c1", Bandwidth: 1e6, Issued: schemas.Time(now)}
	said := func(age time.Duration, s ...schemas.Share) *shares {
		sh := &shares{}
		sh.apply(streams.Event{Subject: "x", Time: now - int64(age), Msg: &schemas.Tunnel{Shares: s}})
		return sh
	}
	wait := schemas.Share{Command: "c1", Waits: true, Reason: schemas.Reason{Code: schemas.ReasonCannotConverge}}
	within := *c
	within.Bandwidth = 0
	for name, x := range map[string]struct {
		s    *shares
		c    *schemas.Command
		at   int64
		want schemas.ReasonCode
	}{
		"nobody shares links out":         {&shares{}, c, now, ""},
		"somebody did once":               {said(time.Minute), c, now, ""},
		"not named yet":                   {said(time.Second), c, now + 1e9, schemas.ReasonTurn},
		"never named":                     {said(time.Second), c, now + 3e9, ""},
		"named and waits":                 {said(time.Second, wait), c, now, schemas.ReasonCannotConverge},
		"named and may go":                {said(time.Second, schemas.Share{Command: "c1", Rate: 1}), c, now, ""},
		"within one site it needs none":   {said(time.Second, wait), &within, now, ""},
		"the word is kept while it lasts": {said(5*time.Second, wait), c, now, schemas.ReasonCannotConverge},
	} {
		if got := x.s.hold(x.c, x.at); got.Code != x.want {
			t.Errorf("%s: %v, want %q", name, got, x.want)
		}
	}
}

type slowToChange struct {
	SourceHost
	fail bool
	set  []schemas.BytesPerSecond
}

func (s *slowToChange) SetRate(_ context.Context, _ schemas.VMID, r schemas.BytesPerSecond) error {
	if s.fail {
		return errors.New("not now")
	}
	s.set = append(s.set, r)
	return nil
}

// A change that fails leaves the rate in force, and is tried again.
func TestFailedChangeKeepsTheOldRate(t *testing.T) {
	src := &slowToChange{}
	rate := schemas.BytesPerSecond(5e6)
	noted := 0
	d := &Drive{Source: src, Ticket: migration.Ticket{Command: &schemas.Command{}}, Rate: func() schemas.BytesPerSecond { return rate },
		Note: func(migration.State, migration.Action, schemas.Reason) { noted++ }}
	d.follow(context.Background())
	src.fail, rate = true, 9e6
	d.follow(context.Background())
	if d.limit != 5e6 || noted != 1 {
		t.Fatalf("limit %v, %d notes", d.limit, noted)
	}
	src.fail = false
	d.follow(context.Background())
	d.follow(context.Background())
	rate = 0 // nobody shares it out any more: it goes on as it is
	d.follow(context.Background())
	if d.limit != 9e6 || len(src.set) != 2 {
		t.Fatalf("limit %v, set %v", d.limit, src.set)
	}
}
