package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
	ok("import", "../../console/agenda/testdata/campaigns.ics", "--dry-run")
	if out := ok("list", "--json"); strings.Contains(out, "ics-") {
		t.Errorf("%s", out)
	}
	for range 2 {
		if _, errs, err := run("import", "../../console/agenda/testdata/campaigns.ics"); err != nil || !strings.Contains(errs, "Every working hour") || !strings.Contains(errs, "FREQ=DAILY") {
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
