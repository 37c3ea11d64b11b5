package fleet_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

func small() *fleettest.World {
	w := fleettest.New(5 * time.Minute)
	w.Hosts = []fleettest.Host{{ID: "a", Site: "s1", Cores: 8, GiB: 32}, {ID: "b", Site: "s1", Cores: 8, GiB: 32}}
	w.VMs = []fleettest.VM{{Name: "db", Host: "a", Cores: 2, GiB: 4, Peak: fleettest.Peak{From: w.Step() + 5, Len: 10, Cores: 6, In: 12}}, {Name: "web", Host: "a", Cores: 1, GiB: 2}}
	return w
}

func apply(t *testing.T, f *fleet.Fleet, in ...fleet.Input) {
	t.Helper()
	for i := range in {
		if err := f.Apply(in[i]); err != nil {
			t.Fatal(err)
		}
	}
}

func tell(t *testing.T, f *fleet.Fleet, w *fleettest.World) {
	t.Helper()
	for _, m := range w.Capacity() {
		apply(t, f, w.Input("CAPACITY", m))
	}
	for _, m := range w.Forecasts() {
		apply(t, f, w.Input("FORECASTS", m))
	}
}

func (c check) vm(name string) *fleet.VM {
	i := c.v.VMIndex(fleettest.ID(name))
	if i < 0 {
		c.t.Fatalf("no VM %s in the view", name)
	}
	return &c.v.VMs[i]
}

type check struct {
	t *testing.T
	v *fleet.View
}

// A forecast that is two steps older than the newest is shifted, not used as if it
// began now.
func TestOlderForecastIsShifted(t *testing.T) {
	w := small()
	f := fleet.New(fleet.Config{Base: w.Base})
	tell(t, f, w)
	w.VMs[0].Late = true
	w.Now = w.Now.Add(2 * w.Base)
	tell(t, f, w)
	v := f.View(w.Now)
	db := check{t, v}.vm("db")
	for slot, want := range map[int]float32{0: 2000, 2: 2000, 3: 6000, 11: 6000} {
		if got := db.CPU[slot*v.K]; got != want {
			t.Errorf("slot %d: %g mCPU, want %g", slot, got, want)
		}
	}
	if !db.Fresh {
		t.Error("two steps are not too old")
	}
	w.Now = w.Now.Add(2 * w.Base)
	tell(t, f, w)
	if v := f.View(w.Now); (check{t, v}).vm("db").Fresh || !(check{t, v}).vm("web").Fresh {
		t.Error("four steps are too old, and only for the VM whose forecast is late")
	}
}

// The newer issue wins, then the newer owner; an old owner cannot overwrite.
func TestStaleOwnerLoses(t *testing.T) {
	w := small()
	f := fleet.New(fleet.Config{Base: w.Base})
	ms := w.Forecasts()
	for _, m := range w.Capacity() {
		apply(t, f, w.Input("CAPACITY", m))
	}
	for _, m := range ms {
		m.Lease = 5
		apply(t, f, w.Input("FORECASTS", m))
	}
	w.VMs[1].Cores = 7
	for _, m := range w.Forecasts() {
		m.Lease = 4
		apply(t, f, w.Input("FORECASTS", m))
	}
	v := f.View(w.Now)
	if got := (check{t, v}).vm("web").CPU[0]; got != 1000 {
		t.Errorf("an owner of an older lease set %g mCPU", got)
	}
}

func TestBadInputIsRefusedAndHarmless(t *testing.T) {
	w := small()
	f := fleet.New(fleet.Config{Base: w.Base})
	tell(t, f, w)
	short := w.Forecasts()[0]
	short.D = short.D[:10]
	other := w.Forecasts()[0]
	other.Base = time.Second
	bad := policy.Default()
	bad.Trigger = 7
	for name, m := range map[string]any{
		"no capacity":         &schemas.CapacityHost{Host: "a", Site: "s1"},
		"truncated forecast":  short,
		"another base step":   other,
		"a replayed command":  &schemas.Command{ID: "c", Run: "replay-1"},
		"a link to itself":    &schemas.CapacityLink{A: "s1", B: "s1"},
		"an impossible one":   &bad,
		"a stranger":          &schemas.Progress{},
		"an act nobody knows": &schemas.Act{ID: "x", Act: "dance"},
		"a policy act of air": &schemas.Act{ID: "y", Act: schemas.ActPolicy},
	} {
		if err := f.Apply(w.Input("X", m)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	v := f.View(w.Now)
	if len(v.Hosts) != 2 || len(v.VMs) != 2 || len(v.Attempts) != 0 {
		t.Errorf("refused messages left a trace: %d hosts, %d VMs, %d attempts", len(v.Hosts), len(v.VMs), len(v.Attempts))
	}
}

// What is no longer told of is forgotten: hosts after an hour, forecasts after 36
// steps, moves a day after their end save the last ten.
func TestForgets(t *testing.T) {
	w := small()
	f := fleet.New(fleet.Config{Base: w.Base})
	tell(t, f, w)
	for i := 0; i < 40; i++ {
		id := schemas.CommandID(fmt.Sprintf("m-%02d", i))
		apply(t, f, w.Input("MIGRATIONS", &schemas.Command{ID: id, VM: fleettest.ID("gone"), Source: "a", Destination: "b", Issued: w.Now, Expires: w.Now.Add(time.Minute), Deadline: w.Now.Add(2 * time.Minute)}))
		w.Now = w.Now.Add(time.Minute)
		apply(t, f, w.Input("MIGRATIONS", &schemas.Outcome{Command: id, VM: fleettest.ID("gone"), Source: "a", Destination: "b", Result: schemas.ResultFailed}))
	}
	if n := len(f.View(w.Now).Attempts); n != 40 {
		t.Fatalf("%d attempts kept, want all of the day", n)
	}
	w.Hosts = w.Hosts[:1]
	w.VMs = w.VMs[1:]
	w.Now = w.Now.Add(289 * w.Base)
	tell(t, f, w)
	apply(t, f, w.Input("MIGRATIONS", &schemas.Command{ID: "last", VM: fleettest.ID("web"), Source: "a", Destination: "b", Issued: w.Now, Expires: w.Now.Add(time.Minute), Deadline: w.Now.Add(2 * time.Minute)}))
	v := f.View(w.Now)
	if len(v.Hosts) != 1 || len(v.VMs) != 1 || len(v.Attempts) != 11 {
		t.Errorf("%d hosts, %d VMs, %d attempts, want 1, 1, 11", len(v.Hosts), len(v.VMs), len(v.Attempts))
	}
	if !f.Complete() {
		t.Error("the forecast of a VM that is gone is still waited for")
	}
}

// A reservation ends when telemetry later than the outcome shows the VM, not with
// the outcome; a refused move never had one for long.
func TestReservation(t *testing.T) {
	w := small()
	f := fleet.New(fleet.Config{Base: w.Base})
	tell(t, f, w)
	order := &schemas.Command{ID: "c1", VM: fleettest.ID("db"), Source: "a", Destination: "b", Issued: w.Now, Expires: w.Now.Add(time.Minute), Deadline: w.Now.Add(5 * time.Minute), Predicted: schemas.Prediction{Duration: 4}}
	f.Sent(*order)
	if m := (check{t, f.View(w.Now)}).vm("db"); m.Move == nil || m.Dest != 1 {
		t.Fatal("a command that was only decided holds no place")
	}
	if m := (check{t, f.View(w.Now.Add(2 * time.Minute))}).vm("db"); m.Move != nil {
		t.Fatal("a command that expired unseen still holds its place")
	}
	apply(t, f, w.Input("MIGRATIONS", order))
	w.Now = w.Now.Add(3 * time.Second)
	apply(t, f, w.Input("MIGRATIONS", &schemas.Outcome{Command: "c1", VM: order.VM, Source: "a", Destination: "b", RunsAt: "b", Result: schemas.ResultSucceeded}))
	if m := (check{t, f.View(w.Now)}).vm("db"); m.Move == nil || m.Host != 0 || m.Dest != 1 || m.From != 0 {
		t.Fatalf("after the outcome: %+v", m)
	}
	// A late copy of an unknown outcome or a refusal does not undo what is known.
	apply(t, f, w.Input("MIGRATIONS", &schemas.Outcome{Command: "c1", VM: order.VM, Source: "a", Destination: "b", Result: schemas.ResultUnknown}))
	if n := len(f.View(w.Now).Unknown); n != 0 {
		t.Fatalf("%d unknown moves", n)
	}
	w.Now = w.Now.Add(time.Second)
	w.VMs[0].Host = "b"
	tell(t, f, w)
	if m := (check{t, f.View(w.Now)}).vm("db"); m.Move != nil || m.Host != 1 || m.Dest != -1 {
		t.Fatalf("after telemetry has shown it: %+v", m)
	}
	if got := f.RecordSeq(order.VM); got != w.Seq["MIGRATIONS"] {
		t.Errorf("record at %d, want %d", got, w.Seq["MIGRATIONS"])
	}
}

// An operator's word lies over the policy unless the policy is newer; a pause or a
// cordon of either holds.
func TestPolicyUnderActs(t *testing.T) {
	w := small()
	f := fleet.New(fleet.Config{Base: w.Base})
	say := func(m any) {
		t.Helper()
		w.Now = w.Now.Add(time.Second)
		apply(t, f, w.Input("ACTS", m))
	}
	d := policy.Default()
	if got := f.Policy(d); got.Mode != schemas.ModeObserve {
		t.Errorf("nobody spoke: %s", got.Mode)
	}
	say(&schemas.Act{ID: "1", Act: schemas.ActMode, Mode: schemas.ModeAuto})
	say(&schemas.Act{ID: "2", Act: schemas.ActMode, Mode: schemas.ModeApprove, Host: "a"})
	say(&schemas.Act{ID: "3", Act: schemas.ActCordon, Host: "b"})
	if got := f.Policy(d); got.Mode != schemas.ModeAuto || got.HostModes["a"] != schemas.ModeApprove || len(got.Cordoned) != 1 {
		t.Errorf("acts: %+v", got)
	}
	p := policy.Default()
	p.Version, p.Mode, p.Cordoned = 2, schemas.ModeRecommend, []schemas.HostID{"c", "b"}
	w.Now = w.Now.Add(time.Second)
	apply(t, f, fleet.Input{Seq: 1, Time: w.Now, Msg: &p})
	if got := f.Policy(d); got.Mode != schemas.ModeRecommend || len(got.HostModes) != 0 || len(got.Cordoned) != 2 {
		t.Errorf("a newer policy: %+v", got)
	}
	say(&schemas.Act{ID: "4", Act: schemas.ActPause})
	say(&schemas.Act{ID: "5", Act: schemas.ActUncordon, Host: "b"})
	if got := f.Policy(d); !got.Paused || len(got.Cordoned) != 2 {
		t.Errorf("the policy's own cordon holds: %+v", got)
	}
	say(&schemas.Act{ID: "6", Act: schemas.ActResume})
	if f.Policy(d).Paused {
		t.Error("still paused after a resume")
	}
}
