package load

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/foreshift/foreshift/schemas"
)

func TestDemandStaysWithinTheAllocation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Profile{Seed: rapid.Uint64().Draw(t, "seed"), Class: Class(rapid.IntRange(0, int(NumClasses)-1).Draw(t, "class")),
			VCPUs: rapid.IntRange(1, 64).Draw(t, "vcpus"), Mem: float64(rapid.Int64Range(1<<28, 1<<40).Draw(t, "mem")),
			Zone: rapid.IntRange(-144, 144).Draw(t, "zone"), Level: rapid.Float64Range(.05, 1).Draw(t, "level")}
		k := rapid.Int64Range(-1e7, 1e7).Draw(t, "k")
		d := p.at(k)
		if d != p.at(k) {
			t.Fatal("the same step gives two demands")
		}
		if !(d.CPU > 0 && d.CPU <= 1000*float64(p.VCPUs)) || !(d.Mem > 0 && d.Mem <= .9*p.Mem) {
			t.Fatalf("%+v of a VM of %d vCPUs and %.0f bytes", d, p.VCPUs, p.Mem)
		}
		for _, x := range []float64{d.NetRx, d.NetTx, d.DiskRd, d.DiskWr, d.Dirty} {
			if !schemas.Finite(x) || x < 0 {
				t.Fatalf("%+v", d)
			}
		}
	})
}

// each gives the CPU of a profile over n steps from k.
func each(p Profile, k int64, n int) (x []float64) {
	for i := 0; i < n; i++ {
		x = append(x, p.at(k+int64(i)).CPU)
	}
	return x
}

func mean(x []float64) (m float64) {
	for _, v := range x {
		m += v / float64(len(x))
	}
	return m
}

func TestClassesBehaveLikeTheirNames(t *testing.T) {
	mk := func(c Class) Profile { return Profile{Seed: 42, Class: c, VCPUs: 4, Mem: 8 << 30, Level: .7} }
	web := mk(Web)
	if noon, night := mean(each(web, 130, 20)), mean(each(web, 20, 20)); noon < 2.2*night {
		t.Errorf("web: %.0f at noon, %.0f at night", noon, night)
	}
	if tue, sat := mean(each(web, day+130, 20)), mean(each(web, 5*day+130, 20)); sat > .8*tue {
		t.Errorf("web: %.0f on Tuesday, %.0f on Saturday", tue, sat)
	}
	east := web
	east.Zone = 100
	if a, b := mean(each(web, 130, 20)), mean(each(east, 230, 20)); math.Abs(a-b) > .12*a {
		t.Errorf("web: %.0f at home, %.0f a hundred steps later in another zone", a, b)
	}
	batch := mk(Batch)
	busy := 0
	for _, x := range each(batch, 0, day) {
		if x > 2000 {
			busy++
		}
	}
	if busy < 8 || busy > 40 {
		t.Errorf("batch: %d steps at speed a day", busy)
	}
	if hi := mean(each(mk(Idle), 0, day)); hi > 200 {
		t.Errorf("idle: %.0f mCPU", hi)
	}
	office := mk(Office)
	if work, sunday := mean(each(office, 120, 10)), mean(each(office, 6*day+120, 10)); sunday > .2*work {
		t.Errorf("office: %.0f on Monday, %.0f on Sunday", work, sunday)
	}
	db := mk(Database)
	if a, b := mean(each(db, 0, day)), mean(each(db, 60*day, day)); math.Abs(a-b) < .02*a {
		t.Errorf("database: %.0f now, %.0f two months later: no growth, no decline", a, b)
	}
	flash := mk(Flash)
	crowds := 0
	for d := int64(0); d < 60; d++ {
		top := 0.0
		for _, x := range each(flash, d*day, day) {
			top = max(top, x)
		}
		if top > 2000 {
			crowds++
		}
	}
	if crowds < 3 || crowds > 25 {
		t.Errorf("flash: crowds on %d of 60 days", crowds)
	}
}

func TestNoiseIsAutocorrelatedAndDiskIsMostlySilent(t *testing.T) {
	p := Profile{Seed: 7, Class: Database, VCPUs: 2, Mem: 4 << 30, Level: .6}
	var num, den float64
	x := each(p, 0, 4*day)
	for i := range x { // without the shape
		x[i] /= p.clean(i%day, 0)
	}
	m := mean(x)
	for i := 1; i < len(x); i++ {
		num += (x[i] - m) * (x[i-1] - m)
		den += (x[i] - m) * (x[i] - m)
	}
	if r := num / den; r < .5 || r > .98 {
		t.Errorf("autocorrelation at one step %.2f", r)
	}
	idle := Profile{Seed: 7, Class: Idle, VCPUs: 2, Mem: 4 << 30, Level: .6}
	zero := 0
	for k := int64(0); k < 2*day; k++ {
		if idle.at(k).DiskRd == 0 {
			zero++
		}
	}
	if share := float64(zero) / (2 * day); share < .8 {
		t.Errorf("disk reads are zero in %.2f of the steps", share)
	}
}

func TestTrace(t *testing.T) {
	tr, err := ReadTrace("testdata/trace.csv", 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.Names) != 3 || tr.Steps != 6 {
		t.Fatalf("%v, %d steps", tr.Names, tr.Steps)
	}
	s := FromTrace(tr, 5, 1000, 2)
	for _, c := range []struct {
		vm, k int64
		cpu   float64
	}{{0, 0, 100}, {0, 1, 300}, {0, 3, 500 /* missing: the last value */}, {0, 6, 100 /* wrapped */}, {0, -1, 1100}} {
		if got := s.At(int(c.vm), s.Midnight()+schemas.Step(c.k)).CPU; math.Abs(got-c.cpu) > 1e-3 {
			t.Errorf("VM %d at %d: %.1f mCPU, want %.1f", c.vm, c.k, got, c.cpu)
		}
	}
	if d := s.At(4, 1001); d.Mem < 4e8 || d.DiskWr != 4500 {
		t.Errorf("copy of a VM: %+v", d)
	}
	// The usual peak is at bin 5 and comes two steps after start.
	if at := s.At(0, 1002).CPU; at != 1100 {
		t.Errorf("%.1f mCPU at the announced peak, want 1100", at)
	}
}

func TestBadTraces(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "header"},
		{"columns", "vm,t,x\n", "cpu_pct"},
		{"no rows", "vm,t,cpu_pct\n", "no rows"},
		{"text", "vm,t,cpu_pct\na,0,much\n", "not a number"},
		{"infinite", "vm,t,cpu_pct\na,0,+Inf\n", "out of range"},
		{"negative time", "vm,t,cpu_pct\na,-1,5\n", "out of range"},
		{"far", "vm,t,cpu_pct\na,99999999,5\n", "at most"},
		{"short row", "vm,t,cpu_pct\na,1\n", "wrong number of fields"},
	} {
		if _, err := parseTrace(strings.NewReader(c.text), 10); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := ReadTrace("testdata/absent.csv", 1); err == nil {
		t.Error("a missing file is read")
	}
}
