package policy

import (
	"fmt"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Attempt is one command to move a VM, however it went.
type Attempt struct {
	Command             schemas.CommandID
	VM                  schemas.VMID
	Source, Destination schemas.HostID
	// Link is the pair of sites, empty within one site.
	Link  Link
	At    schemas.Time // stream time of the command
	Ended schemas.Time // stream time of its final outcome; 0 = under way
	// Result is empty while the move is under way.
	Result schemas.Result
	Reason schemas.ReasonCode
}

// Link is an unordered pair of sites in order; zero within one site.
type Link struct{ A, B schemas.SiteID }

// LinkOf is the link between two sites, zero when they are the same.
func LinkOf(a, b schemas.SiteID) Link {
	switch {
	case a == b:
		return Link{}
	case b < a:
		return Link{b, a}
	default:
		return Link{a, b}
	}
}

// UnderWay reports whether the move still takes up its places in the budgets.
func (a *Attempt) UnderWay() bool { return a.Ended == 0 }

// NeverBegan reports whether the VM was not touched: its source refused the command, or
// its destination the VM's CPU.
func (a *Attempt) NeverBegan() bool {
	return a.Result == schemas.ResultRefused || a.Result == schemas.ResultFailed && a.Reason == schemas.ReasonCPUModel
}

// Failure reports whether the attempt counts against the breaker: it failed by
// itself, not by an operator's word, or nobody was there to start it.
func (a *Attempt) Failure() bool {
	switch a.Result {
	case schemas.ResultUnknown:
		return true
	case schemas.ResultFailed:
		return a.Reason != schemas.ReasonAborted && a.Reason != schemas.ReasonCPUModel
	case schemas.ResultRefused:
		return a.Reason == schemas.ReasonExpired || a.Reason == schemas.ReasonUnreachable || a.Reason == schemas.ReasonLibvirt || a.Reason == schemas.ReasonJournal
	}
	return false
}

// Tally counts the moves under way and the attempts of the past, so that a
// limit is one look-up. Moves of a plan being made are added with Add.
type Tally struct {
	p       Policy
	base    time.Duration
	now     schemas.Time
	In, Out map[schemas.HostID]int
	Link    map[Link]int
	Cluster int
	Hour    int
	day     map[schemas.VMID]int
	cool    map[schemas.VMID]schemas.Time
	breaker schemas.Reason
}

// NewTally counts a history, which is in order of At. Attempts that ended
// before cleared (an operator's last resume) no longer hold the breaker.
func NewTally(p Policy, history []Attempt, now schemas.Time, base time.Duration, cleared schemas.Time) *Tally {
	t := &Tally{p: p, base: base, now: now,
		In: map[schemas.HostID]int{}, Out: map[schemas.HostID]int{}, Link: map[Link]int{},
		day: map[schemas.VMID]int{}, cool: map[schemas.VMID]schemas.Time{}}
	hour, day := now.Add(-12*base), now.Add(-schemas.StepsPerDay*base)
	last := map[schemas.VMID]schemas.Time{}
	started := map[schemas.VMID]int{}
	var ended []*Attempt
	for i := range history {
		a := &history[i]
		if a.UnderWay() {
			t.Out[a.Source]++
			t.In[a.Destination]++
			t.Cluster++
			if a.Link != (Link{}) {
				t.Link[a.Link]++
			}
		}
		if a.At > hour {
			t.Hour++
		}
		if a.At > day {
			t.day[a.VM]++
			if !a.NeverBegan() {
				started[a.VM]++
				last[a.VM] = max(last[a.VM], a.At, a.Ended)
			}
			// What was refused for another reason than a failure says nothing: it never began.
			if a.Ended > cleared && (!a.NeverBegan() || a.Failure()) {
				ended = append(ended, a)
			}
		}
	}
	for v, n := range started {
		t.cool[v] = last[v].Add(CoolDown(p, n, base))
	}
	t.breaker = breaker(p, ended)
	return t
}

// CoolDown is how long a VM stays after its n-th move within a day: the policy's
// time, doubled with each further move, at most a day.
func CoolDown(p Policy, n int, base time.Duration) time.Duration {
	steps := p.CoolDownSteps
	for i := 1; i < n && steps < schemas.StepsPerDay; i++ {
		steps *= 2
	}
	return time.Duration(min(steps, max(p.CoolDownSteps, schemas.StepsPerDay))) * base
}

func breaker(p Policy, ended []*Attempt) schemas.Reason {
	// In order of their end: the last ones decide.
	for i := 1; i < len(ended); i++ {
		for j := i; j > 0 && less(ended[j], ended[j-1]); j-- {
			ended[j], ended[j-1] = ended[j-1], ended[j]
		}
	}
	row := 0
	for i := len(ended) - 1; i >= 0 && ended[i].Failure(); i-- {
		row++
	}
	if row >= p.BreakerRow {
		return schemas.Reason{Code: schemas.ReasonBreaker, Detail: fmt.Sprintf("the last %d moves failed; resume to try again", row)}
	}
	if n := len(ended); n >= 10 {
		failed := 0
		for _, a := range ended[n-10:] {
			if a.Failure() {
				failed++
			}
		}
		if float64(failed) >= 10*float64(p.BreakerShare)-1e-9 {
			return schemas.Reason{Code: schemas.ReasonBreaker, Detail: fmt.Sprintf("%d of the last 10 moves failed; resume to try again", failed)}
		}
	}
	return schemas.Reason{}
}

func less(a, b *Attempt) bool {
	if a.Ended != b.Ended {
		return a.Ended < b.Ended
	}
	return a.Command < b.Command
}

// Fleet is the reason why no move at all may start now, ok when one may.
func (t *Tally) Fleet() schemas.Reason {
	switch {
	case !t.breaker.OK():
		return t.breaker
	case t.Cluster >= t.p.MaxPerCluster:
		return schemas.Reason{Code: schemas.ReasonBudgetCluster, Detail: fmt.Sprintf("%d of %d moves are taken", t.Cluster, t.p.MaxPerCluster)}
	case t.Hour >= t.p.MaxPerHour:
		return schemas.Reason{Code: schemas.ReasonBudgetHour, Detail: fmt.Sprintf("%d of %d attempts in %s are used", t.Hour, t.p.MaxPerHour, schemas.Span(12*t.base))}
	}
	return schemas.Reason{}
}

// VM is the reason why this VM may not move now, ok when it may.
func (t *Tally) VM(v schemas.VMID) schemas.Reason {
	if until, ok := t.cool[v]; ok && t.now < until {
		left := until.Sub(t.now)
		return schemas.Reason{Code: schemas.ReasonCoolDown, Detail: fmt.Sprintf("it moved lately and stays for another %s", schemas.Span(left))}
	}
	if n := t.day[v]; n >= t.p.MaxPerVMDay {
		return schemas.Reason{Code: schemas.ReasonBudgetVM, Detail: fmt.Sprintf("%d of %d attempts in %s are used", n, t.p.MaxPerVMDay, schemas.Span(schemas.StepsPerDay*t.base))}
	}
	return schemas.Reason{}
}

// Source and Destination say why a host may not give or take a VM now.
func (t *Tally) Source(h schemas.HostID) schemas.Reason {
	if n := t.Out[h]; n >= t.p.MaxPerHost {
		return schemas.Reason{Code: schemas.ReasonBudgetHost, Detail: fmt.Sprintf("%d of %d moves out of %s are taken", n, t.p.MaxPerHost, h)}
	}
	return schemas.Reason{}
}

// Destination is the counterpart of Source.
func (t *Tally) Destination(h schemas.HostID) schemas.Reason {
	if n := t.In[h]; n >= t.p.MaxPerHost {
		return schemas.Reason{Code: schemas.ReasonBudgetHost, Detail: fmt.Sprintf("%d of %d moves into %s are taken", n, t.p.MaxPerHost, h)}
	}
	return schemas.Reason{}
}

// Between says why a link may not carry another move; within a site it always may.
func (t *Tally) Between(l Link) schemas.Reason {
	if n := t.Link[l]; l != (Link{}) && n >= t.p.MaxPerLink {
		return schemas.Reason{Code: schemas.ReasonBudgetLink, Detail: fmt.Sprintf("%d of %d moves between %s and %s are taken", n, t.p.MaxPerLink, l.A, l.B)}
	}
	return schemas.Reason{}
}

// Add reserves the places of one more move.
func (t *Tally) Add(v schemas.VMID, source, destination schemas.HostID, l Link) {
	t.Out[source]++
	t.In[destination]++
	t.Cluster++
	t.Hour++
	t.day[v]++
	if l != (Link{}) {
		t.Link[l]++
	}
}

// Remove takes back what Add reserved.
func (t *Tally) Remove(v schemas.VMID, source, destination schemas.HostID, l Link) {
	t.Out[source]--
	t.In[destination]--
	t.Cluster--
	t.Hour--
	t.day[v]--
	if l != (Link{}) {
		t.Link[l]--
	}
}
