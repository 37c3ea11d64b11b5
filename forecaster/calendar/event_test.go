package calendar

import (
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

func at(s string) schemas.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return schemas.At(t)
}

func entry(start, end, repeat, zone string) *schemas.Calendar {
	return &schemas.Calendar{ID: "e", Name: "e", Start: at(start), End: at(end), Repeat: repeat, Zone: zone}
}

func TestOccurrences(t *testing.T) {
	for _, c := range []struct {
		name     string
		entry    *schemas.Calendar
		from, to string
		want     []string // starts
	}{
		{"once", entry("2026-11-27T08:00:00Z", "2026-11-27T20:00:00Z", "", ""), "2026-11-27T19:00:00Z", "2026-11-28T00:00:00Z", []string{"2026-11-27T08:00:00Z"}},
		{"once, over", entry("2026-11-27T08:00:00Z", "2026-11-27T20:00:00Z", "", ""), "2026-11-27T20:00:00Z", "2026-11-28T00:00:00Z", nil},
		{"weekly", entry("2026-01-05T01:00:00Z", "2026-01-05T03:00:00Z", "FREQ=WEEKLY;BYDAY=MO,FR", ""), "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z",
			[]string{"2026-11-23T01:00:00Z", "2026-11-27T01:00:00Z"}},
		{"every other week, in step with the first", entry("2026-01-05T01:00:00Z", "2026-01-05T03:00:00Z", "RRULE:FREQ=WEEKLY;INTERVAL=2", ""), "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z",
			[]string{"2026-11-09T01:00:00Z", "2026-11-23T01:00:00Z"}},
		{"nine o'clock in Berlin across the change of the clocks", entry("2026-10-23T09:00:00+02:00", "2026-10-23T10:00:00+02:00", "FREQ=DAILY", "Europe/Berlin"), "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z",
			[]string{"2026-10-24T07:00:00Z", "2026-10-25T08:00:00Z", "2026-10-26T08:00:00Z"}},
		{"last Friday of the month", entry("2026-01-30T12:00:00Z", "2026-01-30T13:00:00Z", "FREQ=MONTHLY;BYDAY=-1FR", ""), "2026-11-01T00:00:00Z", "2027-01-01T00:00:00Z",
			[]string{"2026-11-27T12:00:00Z", "2026-12-25T12:00:00Z"}},
		{"so many times", entry("2026-11-20T12:00:00Z", "2026-11-20T13:00:00Z", "FREQ=DAILY;COUNT=3", ""), "2026-11-01T00:00:00Z", "2027-01-01T00:00:00Z",
			[]string{"2026-11-20T12:00:00Z", "2026-11-21T12:00:00Z", "2026-11-22T12:00:00Z"}},
		{"until, and not on one day", entry("2026-11-20T12:00:00Z", "2026-11-20T13:00:00Z", "FREQ=DAILY;UNTIL=20261122T120000Z\nEXDATE:20261121T120000Z", ""), "2026-11-01T00:00:00Z", "2027-01-01T00:00:00Z",
			[]string{"2026-11-20T12:00:00Z", "2026-11-22T12:00:00Z"}},
		{"excluded in the entry's zone", entry("2026-11-20T12:00:00+01:00", "2026-11-20T13:00:00+01:00", "FREQ=DAILY;COUNT=2\nEXDATE:20261121T120000", "Europe/Berlin"), "2026-11-01T00:00:00Z", "2027-01-01T00:00:00Z",
			[]string{"2026-11-20T11:00:00Z"}},
		{"every 288 seconds, a day of a fast fleet", entry("2020-01-01T00:00:00Z", "2020-01-01T00:00:10Z", "FREQ=SECONDLY;INTERVAL=288", ""), "2026-11-01T00:00:00Z", "2026-11-01T00:05:00Z",
			[]string{"2026-11-01T00:00:00Z", "2026-11-01T00:04:48Z"}},
		{"every 6 hours, twice", entry("2026-11-20T00:00:00Z", "2026-11-20T01:00:00Z", "FREQ=HOURLY;INTERVAL=6;COUNT=2", ""), "2026-11-19T00:00:00Z", "2027-01-01T00:00:00Z",
			[]string{"2026-11-20T00:00:00Z", "2026-11-20T06:00:00Z"}},
		{"longer than its distance", entry("2026-11-20T00:00:00Z", "2026-11-22T00:00:00Z", "FREQ=DAILY", ""), "2026-11-25T00:00:00Z", "2026-11-25T01:00:00Z",
			[]string{"2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"}},
	} {
		e, err := Compile(c.entry)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		spans, complete := e.Between(at(c.from), at(c.to), nil)
		var got []string
		for _, s := range spans {
			got = append(got, s.Start.String())
		}
		if !complete || strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s: %v, want %v (complete %v)", c.name, got, c.want, complete)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, c := range []struct {
		entry *schemas.Calendar
		say   string
	}{
		{entry("2026-11-27T08:00:00Z", "2026-11-27T08:00:00Z", "", ""), "lasts"},
		{entry("2026-11-27T08:00:00Z", "2028-11-27T08:00:00Z", "", ""), "lasts"},
		{entry("2026-11-27T08:00:00Z", "2026-11-27T09:00:00Z", "", "Mars/Olympus"), "Europe/Berlin"},
		{entry("2026-11-27T08:00:00Z", "2026-11-27T09:00:00Z", "", "Local"), "name it"},
		{entry("2026-11-27T08:00:00Z", "2026-11-27T09:00:00Z", "every day", ""), "RFC 5545"},
		{entry("2026-11-27T08:00:00Z", "2026-11-27T09:00:00Z", "FREQ=HOURLY;BYDAY=MO", ""), "FREQ=DAILY"},
		{entry("2026-11-27T08:00:00Z", "2026-11-27T09:00:00Z", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", ""), "never occurs"},
		{entry("2026-11-27T08:00:00Z", "2026-11-27T09:00:00Z", "FREQ=DAILY;UNTIL=20200101T000000Z", ""), "never occurs"},
		{entry("2026-11-27T08:00:00Z", "2026-11-27T09:00:00Z", "FREQ=DAILY\nRDATE:20261201T000000Z", ""), "EXDATE"},
		{entry("2026-11-27T08:00:00Z", "2026-11-27T09:00:00Z", "FREQ=DAILY\nEXDATE:tomorrow", ""), "not a time"},
	} {
		if _, err := Compile(c.entry); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%+v: %v, want it to say %q", c.entry, err, c.say)
		}
	}
}

// Beginning near the range gives what beginning at the first occurrence gives.
func TestFastForwardChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := rapid.SampledFrom([]string{"FREQ=DAILY", "FREQ=DAILY;INTERVAL=3", "FREQ=WEEKLY;BYDAY=TU,TH,SU", "FREQ=WEEKLY;INTERVAL=3;BYDAY=MO,SA;WKST=SU",
			"FREQ=DAILY;BYHOUR=2,14", "FREQ=DAILY;BYMONTH=3,10", "FREQ=WEEKLY"}).Draw(t, "rule")
		zone := rapid.SampledFrom([]string{"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}).Draw(t, "zone")
		c := entry("2025-01-05T01:30:00Z", "2025-01-05T03:00:00Z", rule, zone)
		c.Start += schemas.Time(rapid.Int64Range(0, 300).Draw(t, "hours")) * schemas.Time(time.Hour)
		c.End = c.Start.Add(time.Duration(rapid.Int64Range(1, 3000).Draw(t, "minutes")) * time.Minute)
		from := c.Start.Add(time.Duration(rapid.Int64Range(0, 700*24).Draw(t, "after")) * time.Hour)
		to := from.Add(9 * 24 * time.Hour)
		e, err := Compile(c)
		if err != nil {
			t.Fatal(err)
		}
		fast, _ := e.Between(from, to, nil)
		e.rule.Count = 100000 // a count forbids to begin later
		slow, _ := e.Between(from, to, nil)
		if len(fast) != len(slow) {
			t.Fatalf("%d occurrences, %d from the first on", len(fast), len(slow))
		}
		for k := range fast {
			if fast[k] != slow[k] || fast[k].End <= from || fast[k].Start >= to {
				t.Fatalf("%v and %v in %v..%v", fast[k], slow[k], from, to)
			}
		}
	})
}

func TestNext(t *testing.T) {
	e, err := Compile(entry("2024-12-24T00:00:00Z", "2024-12-25T00:00:00Z", "FREQ=YEARLY", ""))
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := e.Next(at("2026-01-01T00:00:00Z")); !ok || s.Start != at("2026-12-24T00:00:00Z") {
		t.Errorf("%v %v", s, ok)
	}
	e, err = Compile(entry("2024-12-24T00:00:00Z", "2024-12-25T00:00:00Z", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := e.Next(at("2026-01-01T00:00:00Z")); ok {
		t.Errorf("what is over comes again: %v", s)
	}
}

// Whatever stands in a rule, it is read or refused, and expanded in bounds.
func FuzzCompile(f *testing.F) {
	for _, s := range []string{"FREQ=DAILY", "FREQ=WEEKLY;BYDAY=MO,-1FR", "FREQ=YEARLY;BYWEEKNO=53\nEXDATE:20261221T000000Z", "FREQ=SECONDLY;INTERVAL=0", "FREQ=MONTHLY;BYSETPOS=-1;BYDAY=MO,TU"} {
		f.Add(s, "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, repeat, zone string) {
		c := entry("2026-11-27T08:00:00Z", "2026-11-27T09:00:00Z", repeat, zone)
		if c.Validate() != nil {
			return
		}
		e, err := Compile(c)
		if err != nil {
			return
		}
		if spans, _ := e.Between(at("2027-01-01T00:00:00Z"), at("2027-01-10T00:00:00Z"), nil); len(spans) > MaxOccurrences {
			t.Fatalf("%d occurrences", len(spans))
		}
	})
}
