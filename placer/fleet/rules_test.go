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

// told folds the world's reports, changed first.
func told(t *testing.T, w *fleettest.World, change func(*schemas.CapacityHost)) (*fleet.Fleet, *fleet.View) {
	t.Helper()
	f := fleet.New(fleet.Config{Base: w.Base})
	for _, m := range w.Capacity() {
		change(m)
		apply(t, f, w.Input("CAPACITY", m))
	}
	for _, m := range w.Forecasts() {
		apply(t, f, w.Input("FORECASTS", m))
	}
	return f, f.View(w.Now)
}

// The dirty rate follows the forecast of the CPU within its bounds, outlives a move
// to a host that has not measured yet, and is not believed for ever.
func TestDirtyRate(t *testing.T) {
	w := small()
	f, v := told(t, w, func(m *schemas.CapacityHost) {
		for i := range m.VMs {
			if m.VMs[i].Name == "db" {
				m.VMs[i].DirtyRate, m.VMs[i].DirtyHigh = 10e6, 25e6
			}
		}
	})
	db, web := v.VMIndex(fleettest.ID("db")), v.VMIndex(fleettest.ID("web"))
	for slot, want := range map[int]schemas.BytesPerSecond{0: 10e6, 12: 25e6} {
		if got, ok := v.Dirty(db, slot); !ok || got != want {
			t.Errorf("slot %d: %g, %v; want %g: the peak asks for three times the CPU, but the high quantile bounds it", slot, float64(got), ok, float64(want))
		}
	}
	if _, ok := v.Dirty(web, 0); ok {
		t.Error("what nobody measured has no rate")
	}
	w.VMs[0].Host = "b"
	w.Now = w.Now.Add(time.Minute)
	tell(t, f, w)
	v = f.View(w.Now)
	if got, ok := v.Dirty(db, 0); !ok || got != 10e6 || v.Hosts[v.VMs[db].Host].ID != "b" {
		t.Errorf("after a move: %g, %v", float64(got), ok)
	}
	if _, ok := f.View(w.Now.Add(2*time.Hour)).Dirty(db, 0); ok {
		t.Error("a rate of two hours ago is still believed")
	}
}

func TestCPUFits(t *testing.T) {
	for _, c := range []struct {
		guest, from, to string
		models          []string
		want            bool
	}{
		{"", "", "", nil, true},
		{"", "EPYC", "EPYC", nil, true},
		{"", "EPYC", "Skylake", nil, false},
		{"host-passthrough", "EPYC", "Skylake", []string{"EPYC"}, false},
		{"Nehalem", "EPYC", "Skylake", []string{"Nehalem", "Skylake"}, true},
		{"EPYC-Rome", "EPYC", "EPYC", []string{"Nehalem"}, false},
		{"EPYC-Rome", "EPYC", "EPYC", nil, true},
	} {
		w := small()
		_, v := told(t, w, func(m *schemas.CapacityHost) {
			m.CPUModel = c.from
			if m.Host == "b" {
				m.CPUModel, m.CPUModels = c.to, c.models
			}
			for i := range m.VMs {
				m.VMs[i].CPUModel = c.guest
			}
		})
		if got := v.CPUFits(v.VMIndex(fleettest.ID("db")), v.HostIndex("b")); got != c.want {
			t.Errorf("%+v: %v", c, got)
		} else if why := v.WhyNotCPU(v.VMIndex(fleettest.ID("db")), v.HostIndex("b")); !got && (why.Code != schemas.ReasonCPUModel || why.Detail == "") {
			t.Errorf("%+v: %s", c, why)
		}
	}
}

// What a host has refused to run it is not asked to run again, nor by another VM with
// the same CPU, until the host has another CPU or hypervisor, or has run it after all.
func TestCPURefused(t *testing.T) {
	w := small()
	change := func(m *schemas.CapacityHost) {
		m.CPUModel, m.CPUModels, m.CPUDigest = "EPYC", []string{"EPYC", "Nehalem"}, "00000000000000aa"
		for i := range m.VMs {
			m.VMs[i].CPUModel, m.VMs[i].CPUDigest = "Nehalem", "00000000000000bb"
		}
	}
	f, _ := told(t, w, change)
	db := fleettest.ID("db")
	n := 0
	ended := func(result schemas.Result, code schemas.ReasonCode) {
		n++
		id := schemas.CommandID(fmt.Sprintf("c%d", n))
		w.Now = w.Now.Add(time.Second)
		apply(t, f, w.Input("MIGRATIONS", &schemas.Command{ID: id, VM: db, Source: "a", Destination: "b", Issued: w.Now, Expires: w.Now.Add(time.Minute), Deadline: w.Now.Add(time.Hour), CPUDigest: f.CPUOf(db, "a")}))
		apply(t, f, w.Input("MIGRATIONS", &schemas.Outcome{Command: id, VM: db, Host: "a", Source: "a", Destination: "b", Time: w.Now, Result: result, RunsAt: "a", Reason: schemas.Reason{Code: code, Detail: "no avx512f"}}))
	}
	fits := func(vm string, host schemas.HostID) bool {
		v := f.View(w.Now)
		return v.CPUFits(v.VMIndex(fleettest.ID(vm)), v.HostIndex(host))
	}
	report := func(change func(*schemas.CapacityHost)) {
		w.Now = w.Now.Add(time.Second)
		for _, m := range w.Capacity() {
			change(m)
			apply(t, f, w.Input("CAPACITY", m))
		}
	}
	ended(schemas.ResultFailed, schemas.ReasonLibvirt)
	if !fits("db", "b") {
		t.Fatal("a move that failed for another reason says nothing of the CPU")
	}
	ended(schemas.ResultFailed, schemas.ReasonCPUModel)
	report(change)
	if fits("db", "b") || fits("web", "b") {
		t.Error("refused, and asked again: the VM itself, or another with the same CPU")
	}
	if !fits("db", "a") {
		t.Error("another host has said nothing")
	}
	v := f.View(w.Now)
	if why := v.WhyNotCPU(v.VMIndex(db), v.HostIndex("b")); why.Code != schemas.ReasonCPUModel || why.Detail != "b was asked and refused: no avx512f" {
		t.Error(why)
	}
	for _, a := range v.Attempts {
		if a.Reason == schemas.ReasonCPUModel && (a.Failure() || !a.NeverBegan()) {
			t.Error("what never began counts against the breaker, or cools down")
		}
	}
	b, err := f.AppendSnapshot(nil)
	if err != nil {
		t.Fatal(err)
	}
	g := fleet.New(fleet.Config{Base: w.Base})
	if err := g.Restore(b); err != nil {
		t.Fatal(err)
	}
	if v := g.View(w.Now); v.CPUFits(v.VMIndex(db), v.HostIndex("b")) {
		t.Error("forgotten with a restart")
	}
	other := func(m *schemas.CapacityHost) {
		change(m)
		for i := range m.VMs {
			m.VMs[i].CPUDigest = "00000000000000cc"
		}
	}
	if report(other); !fits("db", "b") {
		t.Error("the VM has another CPU now")
	}
	newer := func(m *schemas.CapacityHost) {
		change(m)
		m.CPUDigest = "00000000000000dd"
	}
	if report(newer); !fits("db", "b") {
		t.Error("the host can do more now, and may be asked again")
	}
	ended(schemas.ResultFailed, schemas.ReasonCPUModel)
	if report(newer); fits("db", "b") {
		t.Error("asked and refused again")
	}
	ended(schemas.ResultSucceeded, schemas.ReasonOK)
	if report(newer); !fits("db", "b") {
		t.Error("it has run there since")
	}
}

func TestStorageFits(t *testing.T) {
	w := small()
	w.VMs[0].Local = true
	pool := func(path string, free schemas.Bytes) []schemas.StoragePool {
		return []schemas.StoragePool{{Name: "root", Path: "/", Free: 1 << 50}, {Name: "p", Path: path, Free: free}}
	}
	for _, c := range []struct {
		pools []schemas.StoragePool
		size  schemas.Bytes
		ok    bool
	}{{pool("/pool", 20), 10, true}, {pool("/pool/", 5), 10, false}, {pool("/poo", 5), 10, true}, {pool("/pool", 20), 0, false}, {nil, 10, false}} {
		_, v := told(t, w, func(m *schemas.CapacityHost) {
			m.Pools = c.pools
			for i := range m.VMs {
				m.VMs[i].Disks[0].Size = c.size
			}
		})
		db := v.VMIndex(fleettest.ID("db"))
		why := v.StorageFits(db, v.HostIndex("b"))
		if why.OK() != c.ok || !c.ok && why.Code != schemas.ReasonStorage {
			t.Errorf("%+v: %v", c, why)
		}
		if size, n := v.LocalDisks(db); size != c.size || n != 1 {
			t.Errorf("%g bytes on %d disks", float64(size), n)
		}
		if why := v.StorageFits(v.VMIndex(fleettest.ID("web")), v.HostIndex("b")); !why.OK() {
			t.Errorf("shared storage needs no room: %v", why)
		}
	}
}

func TestLinksGrowStale(t *testing.T) {
	w := small()
	w.Hosts[1].Site = "s2"
	f, _ := told(t, w, func(*schemas.CapacityHost) {})
	apply(t, f, w.Input("CAPACITY", &schemas.CapacityLink{A: "s1", B: "s2", Time: w.Now, RTT: 12, Bandwidth: 100, Free: 300, By: "me"}))
	v := f.View(w.Now.Add(4 * time.Minute))
	if l, ok := v.Link(1, 0); !ok || !l.Fresh || l.Free != 100 || l.RTT != 12 || l.By != "me" || l.Age != 4*time.Minute {
		t.Errorf("%+v: free is at most the bandwidth", l)
	}
	if rtt, ok := v.RTT(0, 0); !ok || rtt != 0 {
		t.Error("within a site there is no way to go")
	}
	v = f.View(w.Now.Add(6 * time.Minute))
	if l, ok := v.Link(0, 1); !ok || l.Fresh {
		t.Errorf("%+v is stale", l)
	}
	if _, ok := v.RTT(0, 1); ok {
		t.Error("a stale round trip is not told")
	}
	// A link on which no probe came back carries no move.
	w.Now = w.Now.Add(6 * time.Minute)
	apply(t, f, w.Input("CAPACITY", &schemas.CapacityLink{A: "s1", B: "s2", Time: w.Now, Bandwidth: 100, Free: 100, Loss: 1}))
	if bps, ok := f.View(w.Now).Bandwidth(0, 1); ok {
		t.Errorf("a dead link carries %g", float64(bps))
	}
}

// Where a tunnel role shares a link out, a move is weighed with what is left for one
// more, not with all that is free; an agent's own measurement does not hide that.
func TestLinkSharedOut(t *testing.T) {
	w := small()
	w.Hosts[1].Site = "s2"
	f, _ := told(t, w, func(*schemas.CapacityHost) {})
	say := func(m schemas.CapacityLink) {
		m.A, m.B, m.Time, m.Bandwidth, m.Free = "s1", "s2", w.Now, 100, 90
		apply(t, f, w.Input("CAPACITY", &m))
	}
	check := func(what string, left schemas.BytesPerSecond, uncounted int) {
		t.Helper()
		v := f.View(w.Now)
		if bps, ok := v.Bandwidth(0, 1); !ok || bps != left || v.Uncounted(0, 1, 3) != uncounted {
			t.Errorf("%s: %g left, %d of 3 moves uncounted; want %g and %d", what, float64(bps), v.Uncounted(0, 1, 3), float64(left), uncounted)
		}
	}
	say(schemas.CapacityLink{By: "agent"})
	check("measured only", 90, 3)
	say(schemas.CapacityLink{By: "tunnel:s1", Shared: true, Left: 40, Moves: 2})
	check("shared out", 40, 1)
	say(schemas.CapacityLink{By: "tunnel:s1", Shared: true, Left: 40, Moves: 3, Shares: []schemas.Share{{Waits: true}, {}, {Waits: true}}})
	check("two of three wait to be let in", 40, 2)
	say(schemas.CapacityLink{By: "tunnel:s1", Shared: true, Left: 40, Moves: 2})
	w.Now = w.Now.Add(10 * time.Second)
	say(schemas.CapacityLink{By: "agent"})
	check("an agent measures it too", 40, 1)
	w.Now = w.Now.Add(10 * time.Second)
	say(schemas.CapacityLink{By: "agent"})
	check("the role is silent", 90, 3)
}

func TestGroupsOfPolicyAndLabels(t *testing.T) {
	w := small()
	label := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	w.VMs = []fleettest.VM{{Name: "a", Host: "a", Labels: label("app", "x", policy.LabelApart, "g", policy.LabelTalks, "bus, db")}, {Name: "b", Host: "a", Labels: label("app", "x", policy.LabelApart, "g", policy.LabelTalks, "db")},
		{Name: "c", Host: "b", Labels: label("app", "x", policy.LabelSoftTogether, "alone", policy.LabelTalks, "bus")}}
	_, v := told(t, w, func(m *schemas.CapacityHost) { m.Domain = "rack" })
	p := policy.Default()
	p.Together = [][]schemas.VMID{{fleettest.ID("c"), fleettest.ID("a"), fleettest.ID("gone")}, {fleettest.ID("gone"), fleettest.ID("b")}}
	p.Spread = []schemas.Spread{{Label: "app", By: schemas.SpreadByDomain, Most: 2}, {Label: "app", By: schemas.SpreadByHost, Most: 3}}
	g := v.Groups(p)
	want := fleet.Groups{Together: [][]int32{{0, 2}}, Apart: [][]int32{{0, 1}}, Talk: [][]int32{{0, 2}, {0, 1}}, Spread: []fleet.SpreadGroup{{By: schemas.SpreadByDomain, Most: 2, Value: "x", Members: []int32{0, 1, 2}}}}
	if schemas.HashJSON(g) != schemas.HashJSON(want) {
		t.Errorf("%+v\nwant %+v", g, want)
	}
	for by, want := range map[string]int32{schemas.SpreadByHost: 1, schemas.SpreadByDomain: 0, schemas.SpreadBySite: 0} {
		if got := v.Places(by); got[0] != 0 || got[1] != want {
			t.Errorf("by %s: %v", by, got)
		}
	}
}

// A drain is a cordon and more; single words are taken back singly; versions are
// never used twice, and one can return to any that is kept.
func TestDrainAndVersions(t *testing.T) {
	w := small()
	f := fleet.New(fleet.Config{Base: w.Base})
	say := func(a schemas.Act) {
		t.Helper()
		w.Now = w.Now.Add(time.Second)
		a.ID, a.Time = "x", w.Now
		apply(t, f, w.Input("ACTS", &a))
	}
	d := policy.Default()
	say(schemas.Act{Act: schemas.ActDrain, Host: "a"})
	p := f.Policy(d)
	if r := policy.NewHostRules(p, w.Now, w.Base); r.Leave("a").Code != schemas.ReasonDraining || r.Takes("a").OK() || !r.Takes("b").OK() {
		t.Errorf("draining %v", p.Draining)
	}
	say(schemas.Act{Act: schemas.ActUncordon, Host: "a"})
	if p := f.Policy(d); len(p.Draining) != 0 || len(p.Cordoned) != 0 {
		t.Errorf("after uncordon: %v %v", p.Draining, p.Cordoned)
	}
	for v := uint64(1); v <= 2; v++ {
		q := d
		q.Version, q.MaxPerHour = v, int(10*v)
		if got := f.NextVersion(); got != v {
			t.Errorf("next version %d, want %d", got, v)
		}
		say(schemas.Act{Act: schemas.ActPolicy, Policy: &q})
	}
	say(schemas.Act{Act: schemas.ActRollback, Version: 1})
	if p := f.Policy(d); p.Version != 1 || p.MaxPerHour != 10 || f.NextVersion() != 3 {
		t.Errorf("rolled back to version %d; next %d", p.Version, f.NextVersion())
	}
	old := schemas.Policy{Version: 9, Mode: schemas.ModeAuto, LookAheadSteps: 24, SoftCapacity: .9, MemQuantile: .9, BreakerRow: 2, BreakerShare: .2}
	w.Now = w.Now.Add(time.Second)
	apply(t, f, w.Input("KV_policy", &old))
	if p := f.Policy(d); p.Version != 9 || p.GateJump != 2 || p.ApprovalSteps != 72 {
		t.Errorf("a policy of before a field existed takes its default: %+v", p.PolicyRules)
	}
}

// Without the forecast a VM goes on as it is, whatever lies ahead.
func TestPersistence(t *testing.T) {
	w := small()
	f := fleet.New(fleet.Config{Base: w.Base, Persistence: true})
	tell(t, f, w)
	v := f.View(w.Now)
	if m := (check{t, v}).vm("db"); v.K != 1 || len(m.CPU) != schemas.Slots || m.CPU[20] != 2000 {
		t.Errorf("%d scenarios, %v", v.K, m.CPU)
	}
}
