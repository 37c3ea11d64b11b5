package plan

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// mostEvals is what a decision may use at most: what it was given, and for each VM
// that may move, each host once at the start and again for each move that is made.
func mostEvals(s *State, budget int) int {
	nv, nh := len(s.V.VMs), len(s.V.Hosts)
	return 2*budget + 8*(nv+1)*(nh+1)*(min(nv, max(0, s.P.MaxPerHour))+1)
}

// story is a live fleet: plans are made, moves begin as their turn comes and end well
// or badly, while an operator changes the rules.
type story struct {
	w     *fleettest.World
	f     *fleet.Fleet
	p     policy.Policy
	going []*schemas.Command
	epoch map[schemas.CommandID]uint64
	moved map[schemas.VMID][]schemas.Time // ends of its moves
	ended []schemas.Time                  // starts of all attempts
}

func newStory(t rapid.TB, w *fleettest.World, p policy.Policy) *story {
	s := &story{w: w, p: p, f: fleet.New(fleet.Config{Base: w.Base}), epoch: map[schemas.CommandID]uint64{}, moved: map[schemas.VMID][]schemas.Time{}}
	s.report(t)
	return s
}

func (s *story) tell(t rapid.TB, stream string, m any) uint64 {
	in := s.w.Input(stream, m)
	if err := s.f.Apply(in); err != nil {
		t.Fatal(err)
	}
	return in.Seq
}

func (s *story) report(t rapid.TB) {
	for _, m := range s.w.Capacity() {
		s.tell(t, "CAPACITY", m)
	}
	for i := range s.w.Links {
		s.w.Links[i].Time = s.w.Now
		s.tell(t, "CAPACITY", &s.w.Links[i])
	}
	for _, m := range s.w.Forecasts() {
		s.tell(t, "FORECASTS", m)
	}
}

// step lets a base step pass, decides, and begins what is due.
func (s *story) step(t rapid.TB, budget int) *State {
	s.w.Now = (s.w.Step() + 1).Start(s.w.Base).Add(s.w.Base / 10)
	s.report(t)
	st := Prepare(s.f, s.p, cut(s.w))
	st.Remember()
	pl := st.Decide(search.Budget{Evaluations: budget}, 5).Plan
	if most := mostEvals(st, budget); pl.Used > most {
		t.Fatalf("%d evaluations, at most %d", pl.Used, most)
	}
	if err := pl.Validate(); err != nil {
		t.Fatal(err)
	}
	s.restrained(t, &pl)
	s.f.Memory.Plan = nil
	check := Prepare(s.f, s.p, cut(s.w))
	for i := range pl.Actions {
		a := &pl.Actions[i]
		if a.Due > s.w.Now || s.p.Mode != schemas.ModeAuto || !check.Check(a).OK() {
			s.f.Memory.Plan = append(s.f.Memory.Plan, *a)
			continue
		}
		check.Take(a)
		s.begin(t, a)
	}
	return st
}

// restrained is that no VM is planned to move, anywhere, before its cool-down is over.
func (s *story) restrained(t rapid.TB, pl *schemas.Plan) {
	for i := range pl.Actions {
		a := &pl.Actions[i]
		if ends := s.moved[a.VM]; len(ends) > 0 {
			if cool := policy.CoolDown(s.p, 1, s.w.Base); s.w.Now.Sub(ends[len(ends)-1]) < cool {
				t.Fatalf("%s is to move to %s %v after its last move", a.Name, a.Destination, s.w.Now.Sub(ends[len(ends)-1]))
			}
		}
	}
}

func (s *story) begin(t rapid.TB, a *schemas.Action) {
	c := &schemas.Command{ID: a.ID, VM: a.VM, Name: a.Name, Source: a.Source, Destination: a.Destination, Issued: s.w.Now, Expires: s.w.Now.Add(time.Minute), Deadline: s.w.Now.Add(48 * time.Hour)}
	s.epoch[a.ID] = s.tell(t, "MIGRATIONS", c)
	s.going, s.ended = append(s.going, c), append(s.ended, s.w.Now)
	hour, in, out, link := 0, 0, 0, 0
	for _, at := range s.ended {
		hour += int(is(s.w.Now.Sub(at) < 12*s.w.Base))
	}
	site := map[schemas.HostID]schemas.SiteID{}
	for _, h := range s.w.Hosts {
		site[h.ID] = h.Site
	}
	for _, g := range s.going {
		in += int(is(g.Destination == a.Destination))
		out += int(is(g.Source == a.Source))
		link += int(is(site[g.Source] != site[g.Destination]))
	}
	if hour > s.p.MaxPerHour || len(s.going) > s.p.MaxPerCluster || in > s.p.MaxPerHost || out > s.p.MaxPerHost || site[a.Source] != site[a.Destination] && link > s.p.MaxPerLink {
		t.Fatalf("%s begins as number %d of 12 steps, %d of the fleet, %d into its host, %d out of it, %d over the link: %+v", a.Name, hour, len(s.going), in, out, link, s.p)
	}
}

// end ends the oldest move under way.
func (s *story) end(t rapid.TB, well bool) {
	if len(s.going) == 0 {
		return
	}
	c := s.going[0]
	s.going = s.going[1:]
	s.w.Now = s.w.Now.Add(time.Second)
	o := &schemas.Outcome{Command: c.ID, Epoch: s.epoch[c.ID], VM: c.VM, Host: c.Source, Source: c.Source, Destination: c.Destination, Time: s.w.Now, Started: c.Issued,
		Result: schemas.ResultFailed, RunsAt: c.Source, Reason: schemas.Reason{Code: schemas.ReasonStalled}}
	if well {
		o.Result, o.RunsAt, o.Reason.Code = schemas.ResultSucceeded, c.Destination, schemas.ReasonOK
		for i := range s.w.VMs {
			if s.w.VMs[i].Name == c.Name {
				s.w.VMs[i].Host = c.Destination
			}
		}
	}
	s.moved[c.VM] = append(s.moved[c.VM], s.w.Now)
	s.tell(t, "MIGRATIONS", o)
}

// Whatever an operator does with drains, cordons, modes, budgets and going back to an
// older policy, and however moves end: every decision returns within its bound of
// evaluations, budgets hold by count of attempts, and no VM moves in its cool-down.
func TestDecideReturnsWhateverIsAsked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		s := newStory(t, w, anyPolicy(t, w))
		s.p.BreakerRow, s.p.BreakerShare = 100, 1
		old := []policy.Policy{s.p}
		toggle := func(list []schemas.HostID, h schemas.HostID) []schemas.HostID {
			if i := slices.Index(list, h); i >= 0 {
				return slices.Delete(slices.Clone(list), i, i+1)
			}
			return append(slices.Clone(list), h)
		}
		for range rapid.IntRange(2, 10).Draw(t, "steps") {
			h := w.Hosts[rapid.IntRange(0, len(w.Hosts)-1).Draw(t, "host")].ID
			switch rapid.IntRange(0, 7).Draw(t, "act") {
			case 0, 1:
				s.p.Draining = toggle(s.p.Draining, h)
			case 2:
				s.p.Cordoned = toggle(s.p.Cordoned, h)
			case 3:
				s.p.Mode = rapid.SampledFrom([]schemas.Mode{schemas.ModeAuto, schemas.ModeRecommend, schemas.ModeObserve}).Draw(t, "mode")
			case 4:
				s.p = old[rapid.IntRange(0, len(old)-1).Draw(t, "back to")]
			case 5:
				s.p.MaxPerHost, s.p.MaxPerCluster, s.p.MaxPerHour = rapid.IntRange(1, 2).Draw(t, "per host"), rapid.IntRange(1, 6).Draw(t, "in all"), rapid.IntRange(4, 40).Draw(t, "an hour")
			case 6:
				if len(w.VMs) > 0 {
					i := rapid.IntRange(0, len(w.VMs)-1).Draw(t, "gone")
					if !slices.ContainsFunc(s.going, func(c *schemas.Command) bool { return c.Name == w.VMs[i].Name }) {
						w.VMs = slices.Delete(w.VMs, i, i+1)
					}
				}
			}
			s.p.Version++
			old = append(old, s.p)
			s.step(t, 200)
			for range rapid.IntRange(0, 3).Draw(t, "ends") {
				s.end(t, rapid.IntRange(0, 3).Draw(t, "well") > 0)
			}
		}
	})
}

// A host with six VMs is drained with one move at a time in and out of each host, in a
// fleet in which hardly any host has room for one more, so that ways round close new
// circles; another host is cordoned and comes back half-way.
func TestDrainOneAtATimeReturns(t *testing.T) {
	for seed := range 4 {
		w := fleettest.New(time.Minute)
		for h := range 8 {
			hostsOf(w, 16, []float64{40, 24, 26, 22}[(h+seed)%4], schemas.HostID(fmt.Sprintf("h%d", h)))
			for k := range 7 {
				if h == 3 && k == 6 {
					break
				}
				vmOn(w, fmt.Sprintf("v%d%d", h, k), w.Hosts[h].ID, .5, 1+float64((h*7+k*5+seed)%5))
			}
		}
		p := auto()
		p.MaxPerHost, p.MaxPerCluster, p.CoolDownSteps, p.MaxPerVMDay, p.BreakerRow, p.BreakerShare = 1, 5, 2, 10, 100, 1
		p.Draining, p.Cordoned = []schemas.HostID{"h3"}, []schemas.HostID{"h5"}
		s := newStory(t, w, p)
		for n := range 16 {
			if n == 5 {
				s.p.Cordoned = nil
			}
			s.step(t, 300)
			for len(s.going) > 0 {
				s.end(t, n != 3)
			}
		}
		for _, v := range w.VMs {
			if v.Host == "h3" {
				t.Errorf("world %d: %s is still on the host that is drained", seed, v.Name)
			}
		}
	}
}
