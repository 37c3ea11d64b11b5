package fleet_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// entry is one event of a stream.
type entry struct {
	stream string
	in     fleet.Input
}

// history draws a life of a small fleet: reports, links, forecasts, moves, words.
func history(t *rapid.T) ([]entry, *fleettest.World) {
	w := fleettest.New(time.Second)
	n := rapid.IntRange(2, 4).Draw(t, "hosts")
	for h := range n {
		w.Hosts = append(w.Hosts, fleettest.Host{ID: schemas.HostID(fmt.Sprintf("h%d", h)), Site: schemas.SiteID(fmt.Sprintf("s%d", h%2)), Cores: 8, GiB: 64})
	}
	on := func() schemas.HostID { return w.Hosts[rapid.IntRange(0, n-1).Draw(t, "on")].ID }
	for i := range 2 * n {
		w.VMs = append(w.VMs, fleettest.VM{Name: fmt.Sprintf("v%d", i), Host: on(), Cores: rapid.Float64Range(.1, 4).Draw(t, "cpu"), GiB: 2, Dark: rapid.IntRange(0, 5).Draw(t, "dark") == 0})
	}
	var out []entry
	say := func(stream string, m any) { out = append(out, entry{stream, w.Input(stream, m)}) }
	var open []*schemas.Command
	for step := range rapid.IntRange(2, 5).Draw(t, "steps") {
		w.Now = w.Now.Add(w.Base)
		for _, m := range w.Capacity() {
			for i := range m.VMs {
				m.VMs[i].DirtyRate = schemas.BytesPerSecond(rapid.IntRange(0, 2).Draw(t, "dirty")) * 1e6
			}
			say("CAPACITY", m)
		}
		say("CAPACITY", &schemas.CapacityLink{A: "s0", B: "s1", Time: w.Now, Bandwidth: 1e8, Free: 5e7})
		for _, m := range w.Forecasts() {
			say("FORECASTS", m)
		}
		v := &w.VMs[rapid.IntRange(0, len(w.VMs)-1).Draw(t, "vm")]
		switch rapid.IntRange(0, 6).Draw(t, "what") {
		case 0:
			c := &schemas.Command{ID: schemas.CommandID(fmt.Sprintf("m-%d", step)), VM: fleettest.ID(v.Name), Source: v.Host, Destination: on(), Issued: w.Now, Expires: w.Now.Add(time.Minute), Deadline: w.Now.Add(2 * time.Minute), Predicted: schemas.Prediction{Duration: 3}}
			say("MIGRATIONS", c)
			open = append(open, c)
		case 1:
			for _, c := range open {
				say("MIGRATIONS", &schemas.Outcome{Command: c.ID, VM: c.VM, Source: c.Source, Destination: c.Destination, RunsAt: c.Destination, Result: rapid.SampledFrom([]schemas.Result{schemas.ResultSucceeded, schemas.ResultFailed, schemas.ResultUnknown}).Draw(t, "result")})
			}
		case 2:
			say("ACTS", &schemas.Act{ID: "a", Act: rapid.SampledFrom([]schemas.ActKind{schemas.ActCordon, schemas.ActDrain, schemas.ActUncordon}).Draw(t, "act"), Host: on(), Time: w.Now})
		case 3:
			say("ACTS", &schemas.Act{ID: "a", Act: schemas.ActMode, Mode: schemas.ModeAuto, Host: on(), Time: w.Now})
		case 4:
			p := policy.Default()
			p.Version, p.MaxPerHour = uint64(step+1), step
			say("KV_policy", &p)
		case 5:
			say("PRESSURE", &schemas.PressureVM{VM: fleettest.ID(v.Name), Cause: schemas.CauseOwnLimit, Score: .5, Advice: "resize_advised", Issued: w.Step()})
		case 6:
			v.Host = on()
		}
	}
	return out, w
}

func fold(t rapid.TB, f *fleet.Fleet, es []entry) *fleet.Fleet {
	for _, e := range es {
		if err := f.Apply(e.in); err != nil {
			t.Fatalf("%s: %v", e.stream, err)
		}
	}
	return f
}

// picture is a fleet as decisions see it, and its state, as one hash.
func picture(t rapid.TB, f *fleet.Fleet, w *fleettest.World) string {
	v := f.View(w.Now)
	type vm struct {
		VM       fleet.VM
		CPU, Mem []float32
		Dirty    schemas.BytesPerSecond
	}
	var vms []vm
	for i := range v.VMs {
		d, _ := v.Dirty(int32(i), 30)
		x := v.VMs[i]
		x.Move = nil
		vms = append(vms, vm{x, x.CPU, x.Mem, d})
	}
	p := f.Policy(policy.Default())
	state, err := f.AppendSnapshot(nil)
	if err != nil {
		t.Fatal(err)
	}
	var hosts []any
	for i := range v.Hosts {
		x := &v.Hosts[i]
		hosts = append(hosts, x.ID, x.Site, x.Fresh, x.Cap, x.Room, x.Msg, x.VMs, x.Speed, int64(x.Age), x.Stale)
	}
	h := schemas.HashJSON([]any{hosts, vms, v.Sites, v.Attempts, v.Unknown, v.Weight, v.Running, v.Unforecast, v.StaleHosts, p, v.Groups(p), f.ReadFrom(w.Now), fmt.Sprintf("%x", state)})
	if h == "" {
		t.Fatal("the picture has no hash")
	}
	return h
}

// mix draws another interleaving of the streams; each keeps its own order.
func mix(t *rapid.T, es []entry) []entry {
	queues := map[string][]entry{}
	var names []string
	for _, e := range es {
		if len(queues[e.stream]) == 0 {
			names = append(names, e.stream)
		}
		queues[e.stream] = append(queues[e.stream], e)
	}
	var out []entry
	for len(names) > 0 {
		i := rapid.IntRange(0, len(names)-1).Draw(t, "next")
		q := queues[names[i]]
		n := rapid.IntRange(1, len(q)).Draw(t, "many")
		out = append(out, q[:n]...)
		if queues[names[i]] = q[n:]; len(q) == n {
			names = append(names[:i], names[i+1:]...)
		}
	}
	return out
}

// Streams meet only in the view: however their messages were interleaved, and
// however often some came twice, the fleet is the same.
func TestInterleavingDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		es, w := history(t)
		want := picture(t, fold(t, fleet.New(fleet.Config{Base: w.Base}), es), w)
		f := fold(t, fleet.New(fleet.Config{Base: w.Base}), mix(t, es))
		again := rapid.IntRange(0, len(es)-1).Draw(t, "again")
		fold(t, f, es[again:again+1])
		if got := picture(t, f, w); got != want {
			t.Fatalf("another interleaving, and %s told twice, give another fleet", es[again].stream)
		}
	})
}

// A snapshot and what followed it are the whole.
func TestSnapshotAndTailAreTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		es, w := history(t)
		want := picture(t, fold(t, fleet.New(fleet.Config{Base: w.Base}), es), w)
		at := rapid.IntRange(0, len(es)).Draw(t, "at")
		b, err := fold(t, fleet.New(fleet.Config{Base: w.Base}), es[:at]).AppendSnapshot(nil)
		if err != nil {
			t.Fatal(err)
		}
		f := fleet.New(fleet.Config{Base: w.Base})
		if err := f.Restore(b); err != nil {
			t.Fatal(err)
		}
		if got := picture(t, fold(t, f, es[at:]), w); got != want {
			t.Fatal("a restored fleet differs")
		}
		if len(b) > 0 {
			if err := f.Restore(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]); err == nil {
				t.Fatal("half a snapshot was taken")
			}
			if got := picture(t, f, w); got != want {
				t.Fatal("a refused snapshot changed the fleet")
			}
		}
	})
}

// The order in which a host lists its VMs, and the order of hosts within a flush, say
// nothing.
func TestOrderOfAListingDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		es, w := history(t)
		w.Hosts = append([]fleettest.Host{}, w.Hosts...)
		views := [2]string{}
		for turn := range views {
			f := fold(t, fleet.New(fleet.Config{Base: w.Base}), es)
			now := w.Now.Add(time.Second)
			ms := w.Capacity()
			for i := range ms {
				m := ms[i]
				if turn == 1 {
					m = ms[len(ms)-1-i]
					vms := append([]schemas.InventoryVM{}, m.VMs...)
					for a, b := 0, len(vms)-1; a < b; a, b = a+1, b-1 {
						vms[a], vms[b] = vms[b], vms[a]
					}
					m.VMs = vms
				}
				if err := f.Apply(fleet.Input{Seq: 1e6, Time: now, Msg: m}); err != nil {
					t.Fatal(err)
				}
			}
			v := f.View(now)
			var places []any
			for i := range v.VMs {
				places = append(places, v.VMs[i].ID, v.VMs[i].Host, v.VMs[i].CPU)
			}
			for h := range v.Hosts {
				places = append(places, v.Hosts[h].ID, v.Hosts[h].VMs)
			}
			views[turn] = schemas.HashJSON(places)
		}
		if views[0] != views[1] {
			t.Fatal("another order gives another view")
		}
	})
}

// Numbers out of bounds neither crash the fold nor reach a view.
func TestHostileNumbers(t *testing.T) {
	bad := []float64{math.NaN(), math.Inf(1), math.Inf(-1), -1, 1e300, 0}
	rapid.Check(t, func(t *rapid.T) {
		es, w := history(t)
		f := fold(t, fleet.New(fleet.Config{Base: w.Base}), es)
		draw := func() float64 { return rapid.SampledFrom(bad).Draw(t, "number") }
		for _, m := range w.Capacity() {
			m.Capacity.CPU, m.Speed = schemas.MilliCPU(max(1, draw())), schemas.Ratio(draw())
			for i := range m.VMs {
				m.VMs[i].DirtyRate, m.VMs[i].DirtyHigh, m.VMs[i].Resident = schemas.BytesPerSecond(draw()), schemas.BytesPerSecond(draw()), schemas.Bytes(draw())
			}
			_ = f.Apply(w.Input("CAPACITY", m)) // refused or folded, both are right
		}
		for _, m := range w.Forecasts() {
			for i := range m.D {
				m.D[i] = float32(draw())
			}
			_ = f.Apply(w.Input("FORECASTS", m))
		}
		v := f.View(w.Now)
		for i := range v.VMs {
			for _, x := range append(append([]float32{}, v.VMs[i].CPU...), v.VMs[i].Mem...) {
				if !(x >= 0) || x > 1e30 {
					t.Fatalf("%s asks for %g", v.VMs[i].Name, x)
				}
			}
			if d, ok := v.Dirty(int32(i), 43); ok && (!(d > 0) || d > 1e12) {
				t.Fatalf("%s dirties %g", v.VMs[i].Name, float64(d))
			}
		}
		for h := range v.Hosts {
			if !(v.Hosts[h].Speed > 0) {
				t.Fatalf("speed %g", v.Hosts[h].Speed)
			}
		}
	})
}
