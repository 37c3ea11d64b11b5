package calendar

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/foreshift/foreshift/forecaster/model"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

const base = schemas.DefaultBase

func put(t testing.TB, b *Book, entries ...*schemas.Calendar) {
	t.Helper()
	for _, e := range entries {
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		if err := b.Put(e); err != nil {
			t.Fatal(err)
		}
	}
}

func campaignEntry(id string, start string, length time.Duration, expected schemas.Ratio, match map[string]string) *schemas.Calendar {
	return &schemas.Calendar{ID: id, Name: id, Class: "campaign", Start: at(start), End: at(start).Add(length), Match: match,
		Expected: map[string]schemas.Ratio{"cpu": expected}}
}

var (
	web  = schemas.VMID{1}
	data = schemas.VMID{2}
)

func TestSheetSpeaksOfWhomItConcerns(t *testing.T) {
	b := NewBook(base)
	b.PutVM(web, map[string]string{"tier": "web", "zone": "a"})
	b.PutVM(data, map[string]string{"tier": "db"})
	put(t, b,
		campaignEntry("b", "2026-11-27T08:02:30Z", 10*time.Minute, .4, map[string]string{"tier": "web"}),
		campaignEntry("a", "2026-11-27T08:10:00Z", 10*time.Minute, .2, map[string]string{"tier": "web"}),
		&schemas.Calendar{ID: "h", Name: "holiday", Start: at("2026-11-27T00:00:00Z"), End: at("2026-11-28T00:00:00Z")})
	if err := b.PutExternal(&schemas.External{ID: "traffic", Start: at("2026-11-27T08:00:00Z"), Every: 600, Value: []float64{10, 20}}); err != nil {
		t.Fatal(err)
	}
	from := schemas.StepAt(at("2026-11-27T08:00:00Z"), base)
	s := b.Sheet(from, 6)
	terms := s.Terms(web, schemas.CPU)
	want := [][]float32{
		{.2, .4, .4, .2, 0, 0}, // 08:02:30 to 08:12:30 at .4 and 08:10 to 08:20 at .2: see below
		{1, 1, 1, 1, 1, 1},
		{10, 10, 20, 20, schemas.NaN(), schemas.NaN()},
	}
	want[0][2] = .4*.5 + .2
	if len(terms) != 3 || terms[0].Mean != 1 || terms[1].Mean != 0 || !terms[2].Numeric {
		t.Fatalf("%+v", terms)
	}
	for k, x := range want {
		got := s.X[terms[k].X]
		for n := range x {
			if d := math.Abs(float64(got[n] - x[n])); d > 1e-6 || math.IsNaN(float64(got[n])) != math.IsNaN(float64(x[n])) {
				t.Errorf("term %d: %v, want %v", k, got, x)
				break
			}
		}
	}
	// Nobody said what the campaign does to memory: an indicator, learnt by itself.
	if m := s.Terms(web, schemas.Memory); len(m) != 3 || m[0].Mean != 0 || m[0].Class == terms[0].Class || s.X[m[0].X][1] != 1 {
		t.Errorf("memory: %+v", m)
	}
	// The database has no campaign, nor has a VM of which nothing is known.
	for _, v := range []schemas.VMID{data, {77}} {
		if d := s.Terms(v, schemas.CPU); len(d) != 2 || d[0].Class != Class("entry h", schemas.CPU, false) {
			t.Errorf("%+v", d)
		}
	}
	// Classes are the same next year, for other VMs, whatever the ids.
	again := NewBook(base)
	put(t, again, campaignEntry("x", "2027-11-27T08:00:00Z", time.Hour, .1, nil))
	if c := again.Sheet(schemas.StepAt(at("2027-11-27T08:00:00Z"), base), 6).Terms(data, schemas.CPU); c[0].Class != terms[0].Class {
		t.Errorf("%+v", c)
	}
}

func TestEntriesComeAndGo(t *testing.T) {
	b := NewBook(base)
	from := schemas.StepAt(at("2026-11-27T08:00:00Z"), base)
	e := campaignEntry("c", "2026-11-27T08:00:00Z", time.Hour, .4, map[string]string{"tier": "web"})
	put(t, b, e)
	if n := len(b.Sheet(from, 12).Terms(web, schemas.CPU)); n != 0 {
		t.Errorf("%d terms for a VM without labels", n)
	}
	v := b.Version()
	b.PutVM(web, map[string]string{"tier": "web"})
	if b.Version() == v {
		t.Error("the version stayed")
	}
	if n := len(b.Sheet(from, 12).Terms(web, schemas.CPU)); n != 1 {
		t.Errorf("%d terms", n)
	}
	v = b.Version()
	b.PutVM(web, map[string]string{"tier": "web"})
	if b.Version() != v {
		t.Error("nothing changed and the version did")
	}
	if n := len(b.Sheet(from+1000, 12).Terms(web, schemas.CPU)); n != 0 {
		t.Errorf("%d terms where nothing takes place", n)
	}
	b.PutVM(web, map[string]string{"tier": "db"})
	if n := len(b.Sheet(from, 12).Terms(web, schemas.CPU)); n != 0 {
		t.Errorf("%d terms for what is no web VM any more", n)
	}
	for k := range 3 * MaxKinds { // labels that always change take no room
		b.PutVM(web, map[string]string{"build": fmt.Sprint(k)})
	}
	if b.Counts.Dropped != 0 || len(b.kinds) > 4 {
		t.Errorf("%d kinds, %+v", len(b.kinds), b.Counts)
	}
	gone := *e
	gone.Removed = true
	put(t, b, &gone)
	bad := *e
	put(t, b, e)
	bad.Repeat = "often"
	if err := b.Put(&bad); err == nil || b.Len() != 0 || b.Counts.Refused != 1 {
		t.Errorf("%v, %d entries, %+v", err, b.Len(), b.Counts)
	}
}

func TestBooksAreBounded(t *testing.T) {
	b := NewBook(base)
	for k := range MaxEntries {
		put(t, b, campaignEntry(fmt.Sprint("c", k), "2026-11-27T08:00:00Z", time.Hour, .4, map[string]string{"n": fmt.Sprint(k)}))
	}
	if b.Put(campaignEntry("more", "2026-11-27T08:00:00Z", time.Hour, .4, nil)) == nil {
		t.Error("one entry too many was taken")
	}
	for k := range MaxSeries + 5 {
		b.PutVM(schemas.VMID{byte(k), byte(k >> 8)}, map[string]string{"n": fmt.Sprint(k)})
	}
	s := b.Sheet(schemas.StepAt(at("2026-11-27T08:00:00Z"), base), 4)
	if len(s.X) != MaxSeries || b.Counts.Dropped == 0 {
		t.Errorf("%d series, %+v", len(s.X), b.Counts)
	}
	crowd := NewBook(base)
	for k := range 2 * model.MaxTerms {
		e := campaignEntry(fmt.Sprint("c", k), "2026-11-27T08:00:00Z", time.Hour, .4, nil)
		e.Class = e.ID
		put(t, crowd, e)
	}
	if n := len(crowd.Sheet(schemas.StepAt(at("2026-11-27T08:00:00Z"), base), 4).Terms(web, schemas.CPU)); n != model.MaxTerms || crowd.Counts.Crowded == 0 {
		t.Errorf("%d terms, %+v", n, crowd.Counts)
	}
}

// A new version of a numeric series keeps the past of the old one.
func TestExternalKeepsItsPast(t *testing.T) {
	b := NewBook(base)
	old := &schemas.External{ID: "x", Start: at("2026-11-27T08:00:00Z"), Every: 300, Value: []float64{1, 2, 3, 4}}
	next := &schemas.External{ID: "x", Start: at("2026-11-27T08:10:00Z"), Every: 300, Value: []float64{30, 40, 50}}
	for _, x := range []*schemas.External{old, next} {
		if err := b.PutExternal(x); err != nil {
			t.Fatal(err)
		}
	}
	s := b.Sheet(schemas.StepAt(old.Start, base)-1, 7)
	want := []float32{schemas.NaN(), 1, 2, 30, 40, 50, schemas.NaN()}
	for k, v := range s.X[0] {
		if v != want[k] && want[k] == want[k] {
			t.Fatalf("%v, want %v", s.X[0], want)
		}
	}
	for k := range 2000 { // a forecast of a day, every step, for a week
		x := &schemas.External{ID: "x", Start: next.Start.Add(time.Duration(k) * base), Every: 300, Value: make([]float64, 288)}
		if err := b.PutExternal(x); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.external["x"].Value); n > MaxValues || n < 2000 {
		t.Errorf("%d values", n)
	}
}

// The value at a step does not depend on the range it is asked in.
func TestSheetsAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBook(base)
		for k := range rapid.IntRange(1, 4).Draw(t, "entries") {
			e := campaignEntry(fmt.Sprint("c", k), "2026-11-20T08:00:00Z", time.Duration(rapid.IntRange(1, 600).Draw(t, "minutes"))*time.Minute, .4, nil)
			e.Start += schemas.Time(rapid.IntRange(0, 9000).Draw(t, "s")) * 1e9
			e.End += schemas.Time(9000e9)
			e.Repeat = rapid.SampledFrom([]string{"", "FREQ=DAILY", "FREQ=HOURLY;INTERVAL=5", "FREQ=WEEKLY;BYDAY=MO"}).Draw(t, "repeat")
			if err := b.Put(e); err != nil {
				t.Fatal(err)
			}
		}
		from := schemas.StepAt(at("2026-11-19T00:00:00Z"), base)
		wide := b.Sheet(from, 2000)
		lo := rapid.IntRange(0, 1900).Draw(t, "lo")
		narrow := b.Sheet(from+schemas.Step(lo), 100)
		value := func(s *Sheet, step schemas.Step) float32 {
			terms := s.Terms(web, schemas.CPU)
			if len(terms) == 0 {
				return 0
			}
			return s.X[terms[0].X][step-s.From]
		}
		for k := range schemas.Step(100) {
			if a, c := value(wide, narrow.From+k), value(narrow, narrow.From+k); math.Abs(float64(a-c)) > 1e-6 {
				t.Fatalf("step %d: %v and %v", k, a, c)
			}
		}
	})
}

func BenchmarkSheet(b *testing.B) {
	book := NewBook(base)
	for k := range 50 {
		e := campaignEntry(fmt.Sprint("c", k), "2026-01-05T08:00:00Z", time.Hour, .4, map[string]string{"tier": fmt.Sprint(k % 10)})
		e.Class, e.Repeat, e.Zone = fmt.Sprint(k%5), "FREQ=WEEKLY;BYDAY=MO,TU,FR", "Europe/Berlin"
		if err := book.Put(e); err != nil {
			b.Fatal(err)
		}
	}
	for k := range 20000 {
		book.PutVM(schemas.VMID{byte(k), byte(k >> 8)}, map[string]string{"tier": fmt.Sprint(k % 10)})
	}
	from := schemas.StepAt(at("2026-11-19T00:00:00Z"), base)
	for b.Loop() {
		book.Sheet(from, 2880)
	}
}
