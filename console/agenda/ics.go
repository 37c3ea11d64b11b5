package agenda

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	ics "github.com/arran4/golang-ical"
	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/schemas"
)

// Bounds of an imported file.
const (
	maxICS       = 16 << 20
	maxICSEvents = 2048
)

// ReadICS makes calendar entries of the events of an iCalendar file. Ids follow from
// the events' UIDs, so that a second import replaces the first. Changed instances of
// a recurring event (RECURRENCE-ID) become entries of their own and are taken out of
// it. What cannot be used is told in skipped.
func ReadICS(r io.Reader, defaults *schemas.Calendar, zone *time.Location) (entries []*schemas.Calendar, skipped []string, err error) {
	limited := &io.LimitedReader{R: r, N: maxICS + 1}
	file, err := ics.ParseCalendar(limited)
	if limited.N <= 0 {
		return nil, nil, fmt.Errorf("more than %d MiB", maxICS>>20)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("is not an iCalendar file: %w", err)
	}
	events := file.Events()
	if len(events) > maxICSEvents {
		return nil, nil, fmt.Errorf("%d events, at most %d are taken", len(events), maxICSEvents)
	}
	var recurring []string // UID of each entry that recurs, else empty
	changed := map[string][]time.Time{}
	for _, ev := range events {
		e, instead, err := entryOf(ev, defaults, zone)
		switch {
		case err != nil:
		case e.Removed:
			err = e.Validate()
		default:
			err = Check(e)
		}
		if err != nil {
			skipped = append(skipped, fmt.Sprintf("%s: %v", nameOf(ev), err))
			continue
		}
		uid := property(ev, ics.ComponentPropertyUniqueId)
		if !instead.IsZero() {
			changed[uid] = append(changed[uid], instead)
			uid = ""
		} else if e.Repeat == "" {
			uid = ""
		}
		entries, recurring = append(entries, e), append(recurring, uid)
	}
	for k, uid := range recurring {
		if uid == "" || entries[k].Removed || len(changed[uid]) == 0 {
			continue
		}
		for _, t := range changed[uid] {
			entries[k].Repeat += "\nEXDATE:" + t.UTC().Format("20060102T150405Z")
		}
		if err := Check(entries[k]); err != nil {
			return nil, nil, fmt.Errorf("event %s with %d changed instances: %w", entries[k].Name, len(changed[uid]), err)
		}
	}
	return entries, skipped, nil
}

func property(ev *ics.VEvent, p ics.ComponentProperty) string {
	if v := ev.GetProperty(p); v != nil {
		return v.Value
	}
	return ""
}

func nameOf(ev *ics.VEvent) string {
	if s := property(ev, ics.ComponentPropertySummary); s != "" {
		return ics.FromText(s)
	}
	return "event " + property(ev, ics.ComponentPropertyUniqueId)
}

// entryOf reads one event; instead is the instance of a recurring event that it
// stands for, if it does.
func entryOf(ev *ics.VEvent, defaults *schemas.Calendar, zone *time.Location) (e *schemas.Calendar, instead time.Time, err error) {
	uid := property(ev, ics.ComponentPropertyUniqueId)
	if uid == "" {
		return nil, instead, fmt.Errorf("has no UID")
	}
	out := *defaults
	e = &out
	e.Name = clipText(nameOf(ev), schemas.MaxName)
	start, day, where, err := icsTime(ev.GetProperty(ics.ComponentPropertyDtStart), zone)
	if err != nil {
		return nil, instead, fmt.Errorf("DTSTART: %w", err)
	}
	end := start
	if p := ev.GetProperty(ics.ComponentPropertyDtEnd); p != nil {
		if end, _, _, err = icsTime(p, where); err != nil {
			return nil, instead, fmt.Errorf("DTEND: %w", err)
		}
	} else if d := property(ev, ics.ComponentPropertyDuration); d != "" {
		days, rest, err := icsDuration(d)
		if err != nil {
			return nil, instead, err
		}
		end = start.In(where).AddDate(0, 0, days).Add(rest)
	} else if day {
		end = start.In(where).AddDate(0, 0, 1)
	}
	e.Start, e.End, e.Zone = schemas.At(start), schemas.At(end), where.String()
	id := uid
	if p := ev.GetProperty(ics.ComponentPropertyRecurrenceId); p != nil {
		if instead, _, _, err = icsTime(p, where); err != nil {
			return nil, instead, fmt.Errorf("RECURRENCE-ID: %w", err)
		}
		id += " " + instead.UTC().Format(time.RFC3339)
	} else {
		e.Repeat = property(ev, ics.ComponentPropertyRrule)
		if e.Repeat == "" && len(ev.GetProperties(ics.ComponentPropertyRdate)) > 0 {
			return nil, instead, fmt.Errorf("RDATE is not understood; give a rule or single events")
		}
		for _, p := range ev.GetProperties(ics.ComponentPropertyExdate) {
			for _, s := range strings.Split(p.Value, ",") {
				one := *p
				one.Value = s
				t, _, _, err := icsTime(&one, where)
				if err != nil {
					return nil, instead, fmt.Errorf("EXDATE: %w", err)
				}
				e.Repeat += "\nEXDATE:" + t.UTC().Format("20060102T150405Z")
			}
		}
	}
	e.ID = fmt.Sprintf("ics-%016x", xxhash.Sum64String(id))
	e.Removed = strings.EqualFold(property(ev, ics.ComponentPropertyStatus), "CANCELLED")
	return e, instead, own(ev, e)
}

// own takes what an event says itself of class, VMs and effect.
func own(ev *ics.VEvent, e *schemas.Calendar) (err error) {
	if c := property(ev, "X-FORESHIFT-CLASS"); c != "" {
		e.Class = c
	} else if c, _, _ := strings.Cut(property(ev, ics.ComponentPropertyCategories), ","); c != "" && e.Class == "" {
		e.Class = strings.ToLower(strings.TrimSpace(c))
	}
	if m := property(ev, "X-FORESHIFT-MATCH"); m != "" {
		if e.Match, err = ParseMatch(strings.Split(m, ",")); err != nil {
			return fmt.Errorf("X-FORESHIFT-MATCH: %w", err)
		}
	}
	if x := property(ev, "X-FORESHIFT-EXPECTED"); x != "" {
		if e.Expected, err = ParseExpected(strings.Split(x, ",")); err != nil {
			return fmt.Errorf("X-FORESHIFT-EXPECTED: %w", err)
		}
	}
	return nil
}

// icsTime reads a date or date-time of RFC 5545 (3.3.4, 3.3.5) and says whether it is
// a whole day, and in which zone it was meant.
func icsTime(p *ics.IANAProperty, zone *time.Location) (t time.Time, day bool, where *time.Location, err error) {
	if p == nil {
		return t, false, zone, fmt.Errorf("is missing")
	}
	where = zone
	if id := p.ICalParameters["TZID"]; len(id) > 0 {
		if where, err = time.LoadLocation(strings.Trim(id[0], `"/`)); err != nil || id[0] == "Local" {
			return t, false, zone, fmt.Errorf("zone %q is not one of the IANA database; export the calendar with IANA zones", id[0])
		}
	}
	if t, err = time.Parse("20060102T150405Z", p.Value); err == nil {
		if len(p.ICalParameters["TZID"]) == 0 {
			where = time.UTC
		}
		return t, false, where, nil
	}
	if t, err = time.ParseInLocation("20060102T150405", p.Value, where); err == nil {
		return t, false, where, nil
	}
	if t, err = time.ParseInLocation("20060102", p.Value, where); err == nil {
		return t, true, where, nil
	}
	return t, false, where, fmt.Errorf("%q is not a time such as 20261224T090000Z", p.Value)
}

var icsPeriod = regexp.MustCompile(`^\+?P(?:(\d{1,4})W)?(?:(\d{1,4})D)?(?:T(?:(\d{1,5})H)?(?:(\d{1,6})M)?(?:(\d{1,8})S)?)?$`)

// icsDuration reads a duration of RFC 5545 (3.3.6): days, which are as long as the
// calendar says, and time.
func icsDuration(s string) (days int, rest time.Duration, err error) {
	m := icsPeriod.FindStringSubmatch(s)
	if m == nil {
		return 0, 0, fmt.Errorf("DURATION %q: want one such as PT3H or P1D", s)
	}
	n := [6]int{}
	for k := 1; k < 6; k++ {
		if m[k] != "" {
			if n[k], err = strconv.Atoi(m[k]); err != nil {
				return 0, 0, fmt.Errorf("DURATION %q: %w", s, err)
			}
		}
	}
	return 7*n[1] + n[2], time.Duration(n[3])*time.Hour + time.Duration(n[4])*time.Minute + time.Duration(n[5])*time.Second, nil
}

// clipText shortens text to n bytes, between characters.
func clipText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
