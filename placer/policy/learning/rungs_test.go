package learning

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

const step = 5 * time.Minute

// way is what a move within a site says of itself.
func way(site schemas.SiteID) schemas.Prediction {
	return schemas.Prediction{Downtime: 100, Plain: &schemas.Plain{From: site, To: site}}
}

// shadow lets a decision be made and not carried out, and the shortage come or not.
func shadow(l *Ladder, id string, at schemas.Time, comes bool) {
	p := way("s1")
	p.Onset = at.Add(time.Hour)
	host := schemas.HostID("h-" + id)
	l.Foresee(&schemas.Plan{Time: at, Actions: []schemas.Action{{ID: schemas.CommandID(id), Source: host, Predicted: p}}})
	l.Measured(host, at, true, step) // long before: not what was foreseen
	l.Measured(host, at.Add(70*time.Minute), comes, step)
	l.Measured(host, at.Add(5*time.Hour), false, step)
	l.Foresee(&schemas.Plan{Time: at, Actions: []schemas.Action{{ID: schemas.CommandID(id), Source: host, Predicted: p}}}) // told again
}

func end(e *Ends, id string, at schemas.Time, result schemas.Result, still schemas.Millis) {
	e.Outcome(&schemas.Outcome{Command: schemas.CommandID(id), Result: result, Downtime: still, Predicted: way("s1"), Reason: schemas.Reason{Code: schemas.ReasonStalled}}, at)
}

// Auto is earned by what came true in shadow, lost by moves that ended badly, and earned
// again only by what came after, or given back by an operator.
func TestTrust(t *testing.T) {
	p := policy.Default()
	p.Learning = &schemas.Learning{AutoAfter: 3, AutoRight: .6, DemoteAfter: 2}
	var l Ladder
	var e Ends
	at := schemas.Time(1.7e18)
	after := func(n int) schemas.Time { return at.Add(time.Duration(n) * 10 * time.Hour) }
	want := func(now schemas.Time, lifted schemas.Time, code schemas.ReasonCode, says string) {
		t.Helper()
		l.Settle(&p, &e, lifted, now)
		if why := l.May(&p, "s1"); why.Code != code || !strings.Contains(why.Detail, says) {
			t.Fatalf("%v, want %s with %q", why, code, says)
		}
	}
	want(at, 0, schemas.ReasonNotEarned, "0 of 3")
	shadow(&l, "m1", after(1), true)
	shadow(&l, "m2", after(2), false)
	made := way("s1")
	made.Onset = after(3)
	l.Foresee(&schemas.Plan{Time: after(3), Actions: []schemas.Action{{ID: "m3", Source: "h", Predicted: made}}})
	l.Made(&schemas.Command{ID: "m3", Source: "h"}) // what was carried out shows nothing
	l.Measured("h", after(3), true, step)
	want(after(3), 0, schemas.ReasonNotEarned, "2 of 3 decisions in shadow are judged, 50 %")
	shadow(&l, "m4", after(4), true)
	if l.Right != 2 || l.Wrong != 1 || len(l.Open) != 0 {
		t.Fatalf("%d right, %d wrong, %d open", l.Right, l.Wrong, len(l.Open))
	}
	want(after(5), 0, schemas.ReasonOK, "")
	if why := l.May(&p, "s1/s2"); why.Code != schemas.ReasonNotEarned {
		t.Errorf("between sites, where nothing was proven: %v", why)
	}

	shadow(&l, "m5", after(5), false)
	shadow(&l, "m6", after(5), false)
	want(after(6), 0, schemas.ReasonOK, "") // once earned, only moves take it away

	end(&e, "c1", after(6), schemas.ResultSucceeded, 600)  // within what was expected, and half a second
	end(&e, "c2", after(6), schemas.ResultRefused, 0)      // never began
	end(&e, "c3", after(6), schemas.ResultSucceeded, 5000) // bad
	want(after(7), 0, schemas.ReasonOK, "")
	end(&e, "c4", after(7), schemas.ResultFailed, 0)
	want(after(8), 0, schemas.ReasonDemoted, "2 of its last 3 moves ended badly; of the last one, it failed: stalled")
	for i := range 3 {
		shadow(&l, fmt.Sprint("n", i), after(8+i), true)
	}
	want(after(12), 0, schemas.ReasonOK, "") // earned again
	e.Effect(&schemas.Effect{Command: "c1", Terms: map[string]schemas.Change{"vm.steal_mcpu": {Low: 1, High: 9}}}, after(13))
	want(after(13), 0, schemas.ReasonDemoted, "3 of its last 3")
	want(after(14), after(14), schemas.ReasonOK, "") // an operator's word
	end(&e, "c5", after(15), schemas.ResultUnknown, 0)
	want(after(15), after(14), schemas.ReasonOK, "") // what was before it is forgiven
	end(&e, "c5", after(16), schemas.ResultFailed, 0)
	end(&e, "c6", after(16), schemas.ResultFailed, 0)
	want(after(16), after(14), schemas.ReasonDemoted, "")

	p.Learning = nil
	if why := l.May(&p, "s1"); !why.OK() {
		t.Error("a policy that asks for nothing got nothing")
	}
}

// New neighbours that wait more are bad only where those left behind gain nothing.
func TestEffectsOfNeighbours(t *testing.T) {
	for name, c := range map[string]struct {
		terms map[string]schemas.Change
		bad   bool
	}{
		"nothing certain": {map[string]schemas.Change{"vm.steal_mcpu": {Low: -1, High: 5}}, false},
		"a trade":         {map[string]schemas.Change{"destination.steal_mcpu": {Low: 1, High: 5}, "source.steal_mcpu": {Low: -9, High: -2}}, false},
		"a loss":          {map[string]schemas.Change{"destination.steal_mcpu": {Low: 1, High: 5}, "source.steal_mcpu": {Low: -9, High: 2}}, true},
	} {
		var e Ends
		end(&e, "c", 5, schemas.ResultSucceeded, 100)
		e.Effect(&schemas.Effect{Command: "c", Terms: c.terms}, 9)
		if got := e.By[0].Last[0].Bad != ""; got != c.bad {
			t.Errorf("%s: %+v", name, e.By[0].Last)
		}
	}
}

// Ends and rungs are bounded.
func TestTrustIsBounded(t *testing.T) {
	var e Ends
	var l Ladder
	for i := range 2 * mostClasses {
		site := schemas.SiteID(fmt.Sprint("s", i))
		for j := range 2 * lastEnds {
			e.Outcome(&schemas.Outcome{Command: schemas.CommandID(fmt.Sprint(i, "-", j)), Result: schemas.ResultFailed, Predicted: way(site)}, schemas.Time(j+1))
		}
		l.judged(string(site), true)
	}
	if len(e.By) != mostClasses || len(e.By[0].Last) != lastEnds || len(l.Rungs) != mostClasses {
		t.Errorf("%d classes, %d ends, %d rungs", len(e.By), len(e.By[0].Last), len(l.Rungs))
	}
}
