package migration

import (
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// transfer is a guest of so many bytes that writes at a rate, over a link.
type transfer struct{ size, rate, dirty float64 }

// run plays a transfer in half seconds until it stalls, is small enough for a
// downtime, or the time is up.
func (x transfer) run(downtime, limit time.Duration) (end string, at time.Duration, c Convergence) {
	j := JobStats{Active: true, Round: 1, Total: schemas.Bytes(x.size), Remaining: schemas.Bytes(x.size)}
	left, began := x.size, time.Duration(0)
	now := int64(time.Hour)
	for t := time.Duration(0); t < limit; t += 500 * time.Millisecond {
		at := now + int64(t)
		if c = c.Watch(j, at); !c.Stalled(at).OK() {
			return "stalled", t, c
		}
		for c.widen(at) {
			c.Step++
		}
		sent := min(x.rate/2, left)
		left -= sent
		j.Processed += schemas.Bytes(sent)
		if left <= 0 { // a round ends: what was written meanwhile is the next one's
			left = min(x.size, x.dirty*(t-began+500*time.Millisecond).Seconds())
			began = t
			j.Round++
			if left <= x.rate*downtime.Seconds() {
				return "done", t, c
			}
		}
		j.Remaining, j.DirtyRate = schemas.Bytes(left), schemas.BytesPerSecond(x.dirty)
		j.Elapsed = t + time.Second
	}
	return "late", limit, c
}

func TestConvergence(t *testing.T) {
	const mb, gb = 1e6, 1e9
	for _, x := range []struct {
		name string
		transfer
		end string
	}{
		{"quiet guest", transfer{4 * gb, 500 * mb, 10 * mb}, "done"},
		{"busy guest", transfer{4 * gb, 500 * mb, 100 * mb}, "done"},
		{"writes as fast as the link", transfer{4 * gb, 100 * mb, 110 * mb}, "stalled"},
		{"link is cut", transfer{4 * gb, 0, 10 * mb}, "stalled"},
		{"large guest over a thin link", transfer{200 * gb, 30 * mb, 1 * mb}, "late"},
		{"large guest that writes half of a thin link", transfer{200 * gb, 30 * mb, 15 * mb}, "late"},
	} {
		end, at, c := x.run(300*time.Millisecond, time.Hour)
		if end != x.end {
			t.Errorf("%s: %s after %s, want %s; %+v", x.name, end, at, x.end, c)
		}
		if end == "stalled" && (c.Step != downtimeSteps || at < patience) {
			t.Errorf("%s: given up after %s and %d steps of downtime", x.name, at, c.Step)
		}
	}
	if Downtime(300, 0) != 150 || Downtime(300, 1) != 225 || Downtime(300, 2) != 300 || Downtime(300, 9) != 300 || Downtime(0, 1) != 0 {
		t.Error("steps of the downtime")
	}
}

// TestStallAborts: the machine raises the downtime in steps, then ends the transfer,
// and says why.
// TestBlankReading: a job that has not counted its memory says that nothing is left.
// That is no low point, or every transfer longer than the patience would be a stalled
// one; and one that says nothing else is given up all the same.
func TestBlankReading(t *testing.T) {
	now := int64(time.Hour)
	c := Convergence{}.Watch(JobStats{Active: true}, now)
	j := JobStats{Active: true, Round: 1, Total: 100e6, Remaining: 100e6}
	for i := range 90 {
		now += int64(time.Second)
		j.Processed, j.Remaining = j.Processed+1e6, j.Remaining-1e6
		if c = c.Watch(j, now); !c.Stalled(now).OK() {
			t.Fatalf("given up after %d s of steady progress: %s", i+1, c.Stalled(now))
		}
	}
	begun := int64(time.Hour)
	c = Convergence{}
	for at := begun; at <= begun+int64(patience); at += int64(time.Second) {
		c = c.Watch(JobStats{Active: true, Elapsed: time.Duration(at - begun)}, at)
	}
	if c.Stalled(begun + int64(patience)).OK() {
		t.Error("one that never counts its memory is not given up")
	}
}

func TestStallAborts(t *testing.T) {
	now := int64(time.Hour)
	s := Start(100, now+int64(time.Hour), now, DefaultLimits())
	s.Stage, s.Wait, s.MaxDowntime = Performing, Perform, 400
	o := Observation{Source: Running, Destination: Paused, Job: JobStats{Active: true, Round: 1, Remaining: 1e9}}
	var downtimes []schemas.Millis
	for i := 0; i < 200; i++ {
		o.Job.Processed += 1e6
		o.Job.Elapsed += time.Second
		var acts []Action
		s, acts, _ = Next(s, o, now)
		for _, a := range acts {
			switch a.Verb {
			case Widen:
				downtimes = append(downtimes, a.Downtime)
			case Abort:
				if s.Why.Code != schemas.ReasonStalled || i < 40 || len(downtimes) != 2 || downtimes[1] != 400 {
					t.Fatalf("aborted after %d s for %s, downtimes %v", i, s.Why, downtimes)
				}
				return
			default:
				t.Fatalf("%s in a transfer", a.Verb)
			}
		}
		now += int64(time.Second)
	}
	t.Fatal("never given up")
}

// TestPostCopy: a transfer that comes to no end goes on by post-copy only where that is
// safe and wanted; else it is given up, with both reasons.
func TestPostCopy(t *testing.T) {
	stalled := func(peer, may bool, refused string) (State, Observation, int64) {
		now := int64(100e9)
		s := Start(epoch, now+600e9, now, DefaultLimits())
		s.Stage, s.Wait, s.Peer, s.MayPostCopy, s.NoPostCopy = Performing, Perform, peer, may, refused
		o := Observation{Source: Running, Destination: Paused, Fence: epoch}
		for i := range 60 {
			o.Job = JobStats{Active: true, Round: 9, Total: 1e9, Processed: schemas.Bytes(1e9 + float64(i)*1e8), Remaining: 5e8, Speed: 1e8}
			var acts []Action
			if s, acts, _ = Next(s, o, now); len(acts) > 0 {
				t.Fatalf("%v after %d s", acts, i)
			}
			if now += 1e9; now >= 100e9+int64(patience)-1e9 {
				break
			}
		}
		o.Job.Processed += 1e8
		return s, o, now + 1e9
	}
	for _, x := range []struct {
		name      string
		peer, may bool
		refused   string
		verb      Verb
		code      schemas.ReasonCode
	}{
		{"allowed, under a lock", true, true, "", PostCopy, ""},
		{"not asked for", true, false, "", Abort, schemas.ReasonStalled},
		{"asked for, between sites", true, false, "between sites", Abort, schemas.ReasonPostCopy},
		{"asked for in a handover", false, false, "a paused handover", Abort, schemas.ReasonPostCopy},
		{"allowed, and nobody leads but us", false, true, "", Abort, schemas.ReasonStalled},
	} {
		s, o, now := stalled(x.peer, x.may, x.refused)
		s, acts, why := Next(s, o, now)
		if len(acts) != 1 || acts[0].Verb != x.verb || why.Code != x.code {
			t.Errorf("%s: %v %s, want %s %s", x.name, acts, why, x.verb, x.code)
			continue
		}
		if x.verb != PostCopy {
			continue
		}
		if _, a := defaultRules.Recheck(s, o, acts[0], now+1e9); a.Verb != PostCopy {
			t.Errorf("a moment later: %s", a.Verb)
		}
		// The process stood still in between: the link may be gone.
		if given, a := defaultRules.Recheck(s, o, acts[0], now+20e9); a.Verb != Abort || given.PostCopied || given.Aborted == 0 || given.Why.Code != schemas.ReasonPostCopy {
			t.Errorf("20 s later: %s, %+v", a.Verb, given)
		}
		o.Abort = true
		if _, acts, _ := Next(s, o, now+600e9); len(acts) != 0 {
			t.Errorf("%v once the memory is on two hosts", acts)
		}
		o.Abort, o.NoWish = false, "libvirt says no" // then it has not begun
		o.Job.Processed += 1e8
		if _, acts, why := Next(s, o, now+1e9); len(acts) != 1 || acts[0].Verb != Abort || why.Code != schemas.ReasonPostCopy {
			t.Errorf("after libvirt's refusal: %v %s", acts, why)
		}
	}
}
