package plan

import (
	"fmt"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/search"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// A site is emptied over one link by VMs whose dirty rates differ and rise and fall: in
// every plan those that are on the link at once keep to half of it, and several are on it
// where they fit.
func TestMovesOverALinkKeepToHalfOfIt(t *testing.T) {
	most := 0
	rapid.Check(t, func(t *rapid.T) {
		w := fleettest.New(5 * time.Minute)
		hostsOf(w, 16, 128, "a", "b")
		hostsOf(w, 32, 256, "c", "d", "e")
		for i := range w.Hosts[2:] {
			w.Hosts[2+i].Site = "s2"
		}
		for i := range rapid.IntRange(2, 10).Draw(t, "vms") {
			vmOn(w, fmt.Sprintf("v%d", i), w.Hosts[i%2].ID, rapid.Float64Range(.1, 4).Draw(t, "cores"), rapid.Float64Range(1, 40).Draw(t, "gib"))
			if rapid.Bool().Draw(t, "changes") {
				w.VMs[i].Peak = fleettest.Peak{From: w.Step() + schemas.Step(rapid.IntRange(0, 6).Draw(t, "in")), Len: rapid.IntRange(1, 20).Draw(t, "for"), Cores: rapid.Float64Range(0, 8).Draw(t, "then"), In: 12}
			}
		}
		w.Links = []schemas.CapacityLink{{A: "s1", B: "s2", Time: w.Now, Bandwidth: 2e8, Free: schemas.BytesPerSecond(rapid.SampledFrom([]float64{2e7, 5e7, 2e8}).Draw(t, "free"))}}
		p := auto()
		p.Draining, p.LookAheadSteps = []schemas.HostID{"a", "b"}, 72
		p.MaxPerLink, p.MaxPerHost, p.MaxPerCluster, p.MaxPerHour = 6, 6, 20, 100
		f := fold(t, w, inputs(w))
		pl := Prepare(f, p, cut(w)).Decide(search.Budget{Evaluations: 200}, 3).Plan
		most = max(most, checkLink(t, Prepare(f, p, cut(w)), pl.Actions))
	})
	if most < 3 {
		t.Errorf("at most %d moves were ever on the link at once: the property was not put to the test", most)
	}
}

// checkLink is that moves which are on a link at once dirty together no more than half of
// what it carries, each as its guest will when the move begins. It gives the most that
// are on it at once.
func checkLink(t *rapid.T, s *State, actions []schemas.Action) (most int) {
	site := func(h schemas.HostID) int32 { return s.V.Hosts[s.V.HostIndex(h)].Site }
	for i := range actions {
		x, n, rates := &actions[i], 0, schemas.BytesPerSecond(0)
		if site(x.Source) == site(x.Destination) {
			continue
		}
		for j := range actions {
			y := &actions[j]
			if site(y.Source) == site(y.Destination) || y.Due > x.Due || y.Due.Add(time.Duration(float64(y.Predicted.Duration)*float64(time.Second))) <= x.Due {
				continue
			}
			n++
			rates += s.dirty(int(s.V.VMIndex(y.VM)), max(0, s.V.Grid.SlotOf(schemas.StepAt(y.Due, s.V.Base))))
		}
		most = max(most, n)
		if free, ok := s.V.Bandwidth(site(x.Source), site(x.Destination)); !ok || n > 1 && float64(rates) > shared*float64(free)*(1+1e-9) {
			t.Fatalf("when %s starts, %d moves dirty %.3g of %.3g MB/s of the link", x.Name, n, float64(rates)/1e6, float64(free)/1e6)
		}
	}
	return most
}
