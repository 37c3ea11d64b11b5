package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/forecaster/calendar"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams/streamstest"
)

func TestCalendarCommands(t *testing.T) {
	srv := streamstest.Start(t)
	run := func(args ...string) (string, string, error) {
		t.Helper()
		c := root()
		var out, errs bytes.Buffer
		c.SetOut(&out)
		c.SetErr(&errs)
		c.SetArgs(append([]string{"--state", srv.Dir(), "--nats", srv.URL(), "calendar"}, args...))
		err := c.ExecuteContext(t.Context())
		return out.String(), errs.String(), err
	}
	ok := func(args ...string) string {
		t.Helper()
		out, _, err := run(args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}
	if out := ok("list"); !strings.Contains(out, "calendar is empty") {
		t.Errorf("%s", out)
	}
	out := ok("add", "Black Friday", "--start", "2099-11-27 08:00", "--for", "14h", "--zone", "Europe/Berlin", "--match", "tier=web", "--expect", "cpu=+40%", "--class", "campaign")
	if out != "black-friday: Fri 2099-11-27 08:00 CET for 14h0m\n" {
		t.Errorf("%s", out)
	}
	ok("add", "batch", "--id", "night", "--start", "2020-01-06T01:00", "--end", "2020-01-06T03:00:00Z", "--repeat", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU")
	out = ok("list")
	for _, want := range []string{"ID", "black-friday", "Black Friday", "tier=web", "cpu +40 %", "night", "to be learnt", "FREQ=WEEKLY"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	var listed struct {
		Entries []schemas.Calendar `json:"entries"`
	}
	if err := json.Unmarshal([]byte(ok("list", "--json")), &listed); err != nil {
		t.Fatal(err)
	}
	if len(listed.Entries) != 2 || listed.Entries[0].ID != "night" || listed.Entries[1].Expected["cpu"] != .4 || listed.Entries[1].Zone != "Europe/Berlin" ||
		listed.Entries[1].Start != schemas.At(time.Date(2099, 11, 27, 7, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", listed.Entries)
	}
	ok("remove", "night")
	if out := ok("list"); strings.Contains(out, "night") {
		t.Errorf("%s", out)
	}
	if _, _, err := run("remove", "night"); err == nil || !strings.Contains(err.Error(), "calendar list") {
		t.Errorf("%v", err)
	}

	// A dry run leaves everything as it is; importing twice is importing once.
	ok("import", "testdata/campaigns.ics", "--dry-run")
	if out := ok("list", "--json"); strings.Contains(out, "ics-") {
		t.Errorf("%s", out)
	}
	for range 2 {
		if _, errs, err := run("import", "testdata/campaigns.ics"); err != nil || !strings.Contains(errs, "Every working hour") || !strings.Contains(errs, "FREQ=DAILY") {
			t.Fatalf("%v\n%s", err, errs)
		}
	}
	if err := json.Unmarshal([]byte(ok("list", "--json")), &listed); err != nil {
		t.Fatal(err)
	}
	if len(listed.Entries) != 5 {
		t.Errorf("%d entries: %+v", len(listed.Entries), listed.Entries)
	}
}

func TestCalendarSaysWhatIsWrong(t *testing.T) {
	not := filepath.Join(t.TempDir(), "not.ics")
	if err := os.WriteFile(not, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args  []string
		say   string
		usage bool
	}{
		{[]string{"add"}, "--help", true},
		{[]string{"add", "x", "--start", "2026-11-27 08:00"}, "how long", true},
		{[]string{"add", "x", "--start", "tomorrow", "--for", "1h"}, "2026-11-27 09:00", true},
		{[]string{"add", "x", "--start", "2026-11-27", "--for", "1h", "--end", "2026-11-28"}, "one of them", true},
		{[]string{"add", "x", "--start", "2026-11-27", "--for", "1h", "--zone", "Berlin"}, "Europe/Berlin", true},
		{[]string{"add", "x", "--start", "2026-11-27", "--for", "1h", "--match", "web"}, "label=value", true},
		{[]string{"add", "x", "--start", "2026-11-27", "--for", "1h", "--expect", "gpu=+40%"}, "cpu, memory, net, disk", true},
		{[]string{"add", "x", "--start", "2026-11-27", "--for", "1h", "--expect", "cpu=lots"}, "cpu=+40%", true},
		{[]string{"add", "x", "--start", "2026-11-27", "--for", "1h", "--expect", "cpu=-140%"}, "cannot fall", true},
		{[]string{"add", "x", "--start", "2026-11-27", "--for", "1h", "--repeat", "daily"}, "RFC 5545", true},
		{[]string{"import", "nowhere.ics"}, "no such file", false},
		{[]string{"import", not}, "not an iCalendar file", false},
		{[]string{"list", "--state", t.TempDir()}, "foreshift up", false},
	} {
		r := root()
		r.SetOut(new(bytes.Buffer))
		r.SetErr(new(bytes.Buffer))
		r.SetArgs(append([]string{"calendar"}, c.args...))
		err := r.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.say) || errors.As(err, new(usageError)) != c.usage {
			t.Errorf("%v: %v, want it to say %q (usage %v)", c.args, err, c.say, c.usage)
		}
	}
}

func TestReadICS(t *testing.T) {
	f, err := os.Open("testdata/campaigns.ics")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries, skipped, err := readICS(f, &schemas.Calendar{Class: ""}, time.UTC)
	if err != nil || len(entries) != 5 || len(skipped) != 1 {
		t.Fatalf("%v, %d entries, skipped %v", err, len(entries), skipped)
	}
	friday, batch, early, holiday, gone := entries[0], entries[1], entries[2], entries[3], entries[4]
	if friday.Name != "Black Friday, all shops" || friday.Zone != "Europe/Berlin" || friday.Class != "campaign" || friday.Match["tier"] != "web" ||
		friday.Expected["cpu"] != .4 || friday.Expected["net"] != .6 || friday.Start != schemas.At(time.Date(2026, 11, 27, 7, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", friday)
	}
	if holiday.End.Sub(holiday.Start) != 24*time.Hour || holiday.Class != "holiday" {
		t.Errorf("%+v", holiday)
	}
	if !gone.Removed {
		t.Errorf("%+v", gone)
	}
	e, err := calendar.Compile(batch)
	if err != nil {
		t.Fatal(err)
	}
	day := func(d int) schemas.Time { return schemas.At(time.Date(2026, 12, d, 0, 0, 0, 0, time.UTC)) }
	spans, _ := e.Between(day(21), day(29), nil) // Monday to Monday, less the 24th and 25th
	if len(spans) != 4 || spans[2].Start.Std().Day() != 23 || spans[3].Start.Std().Day() != 28 || spans[0].End.Sub(spans[0].Start) != 2*time.Hour {
		t.Errorf("%v", spans)
	}
	if early.ID == batch.ID || early.Repeat != "" || early.Start.Std().Hour() != 20 {
		t.Errorf("%+v", early)
	}
}

// Files that were damaged on the way are read in part or refused; what is taken of
// them is in order.
func TestReadICSOfDamagedFiles(t *testing.T) {
	whole, err := os.ReadFile("testdata/campaigns.ics")
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	read := 0
	for range 500 {
		b := bytes.Clone(whole)
		for range 1 + r.IntN(8) {
			switch i := r.IntN(len(b)); r.IntN(3) {
			case 0:
				b[i] = byte(r.IntN(256))
			case 1:
				b = append(b[:i:i], b[min(len(b), i+r.IntN(40)):]...)
			default:
				b[i] = whole[r.IntN(len(whole))]
			}
		}
		entries, _, err := readICS(bytes.NewReader(b), &schemas.Calendar{}, time.UTC)
		if err != nil {
			continue
		}
		read++
		for _, e := range entries {
			if err := e.Validate(); err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
		}
	}
	if read == 0 || read == 500 {
		t.Errorf("%d of 500 were read", read)
	}
}

func FuzzReadICS(f *testing.F) {
	b, err := os.ReadFile("testdata/campaigns.ics")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART:20260101\nDURATION:P1W\nEND:VEVENT\nEND:VCALENDAR\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, _, err := readICS(bytes.NewReader(b), &schemas.Calendar{}, time.UTC)
		if err != nil {
			return
		}
		for _, e := range entries {
			if err := e.Validate(); err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
		}
	})
}
