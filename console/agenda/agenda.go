// Package agenda reads and writes the entries of the calendar as people do: on the
// command line, in a form, in an iCalendar file.
//
// What comes in: words such as "cpu=+40%" or "2026-11-27 09:00", and files of RFC 5545.
// What goes out: valid [schemas.Calendar] entries, or an error that says what was
// wanted. What is promised: an entry that passes [Check] is one the forecaster takes.
package agenda

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/forecaster/calendar"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/nats-io/nuid"
)

// ParseMatch reads label=value, such as tier=web, one each.
func ParseMatch(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range list {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("match %q: want label=value, such as tier=web", s)
		}
		out[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return out, nil
}

// ParseExpected reads "cpu=+40%", "memory=-.1" or "+40 %".
func ParseExpected(list []string) (map[string]schemas.Ratio, error) {
	out := map[string]schemas.Ratio{}
	for _, s := range list {
		name, text, ok := strings.Cut(s, "=")
		if !ok {
			name, text = schemas.CPU.String(), s
		}
		text = strings.TrimSpace(text)
		number, isPercent := strings.CutSuffix(text, "%")
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("expect %q: want resource=change, such as cpu=+40%% or cpu=.4", s)
		}
		if isPercent {
			v /= 100
		}
		if v < -1 {
			return nil, fmt.Errorf("expect %q: demand cannot fall by more than all of it", s)
		}
		name = strings.TrimSpace(name)
		known := slices.ContainsFunc(resources(), func(r schemas.Resource) bool { return r.String() == name })
		if !known {
			return nil, fmt.Errorf("expect %q: resource %q is none of cpu, memory, net, disk", s, name)
		}
		out[name] = schemas.Ratio(v)
	}
	return out, nil
}

func resources() []schemas.Resource {
	return []schemas.Resource{schemas.CPU, schemas.Memory, schemas.Net, schemas.Disk}
}

// When reads a time of the command line; one without a zone is in the one given.
func When(s string, zone *time.Location) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("time %q: want \"2026-11-27 09:00\" (in the zone) or 2026-11-27T09:00:00+01:00", s)
}

// IDOf makes a token of a name.
func IDOf(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	s := strings.Trim(b.String()[:min(48, b.Len())], "-")
	if s == "" {
		return "entry-" + schemas.HashJSON(name)
	}
	return s
}

// Check finds out here what the forecaster would refuse later.
func Check(e *schemas.Calendar) error {
	if err := e.Validate(); err != nil {
		return fmt.Errorf("calendar entry %s: %w", e.ID, err)
	}
	_, err := calendar.Compile(e)
	return err
}

// Next is when an entry takes place next; the largest time when never again.
func Next(e *schemas.Calendar, now schemas.Time) schemas.Time {
	if ev, err := calendar.Compile(e); err == nil {
		if s, ok := ev.Next(now); ok {
			return s.Start
		}
	}
	return math.MaxInt64
}

// NextText says when an entry takes place next, in its own zone.
func NextText(e *schemas.Calendar, now schemas.Time) string {
	ev, err := calendar.Compile(e)
	if err != nil {
		return "refused: " + err.Error()
	}
	s, ok := ev.Next(now)
	if !ok {
		return "over"
	}
	zone, err := time.LoadLocation(e.Zone)
	if err != nil {
		zone = time.UTC
	}
	text := s.Start.Std().In(zone).Format("Mon 2006-01-02 15:04 MST") + " for " + strings.TrimSuffix(s.End.Sub(s.Start).String(), "0s")
	if s.Start <= now {
		return "now, since " + text
	}
	return text
}

// MatchText writes labels as they are read; all when there are none.
func MatchText(m map[string]string) string {
	if len(m) == 0 {
		return "all"
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ",")
}

// ExpectedText writes what is expected, by resource.
func ExpectedText(m map[string]schemas.Ratio) string {
	var out []string
	for _, r := range resources() {
		if v, ok := m[r.String()]; ok {
			out = append(out, fmt.Sprintf("%s %+.0f %%", r, 100*float64(v)))
		}
	}
	if len(out) == 0 {
		return "to be learnt"
	}
	return strings.Join(out, ", ")
}

// Publish puts entries into the calendar, in the role of bus.
func Publish(ctx context.Context, bus *streams.Bus, entries []*schemas.Calendar) error {
	for k, e := range entries {
		if _, err := bus.Publish(ctx, streams.Out{Subject: streams.SubjectCalendar(e.ID), ID: nuid.Next(), Msg: e}); err != nil {
			return fmt.Errorf("entry %s (%d of %d; those before it are in force): %w", e.ID, k+1, len(entries), err)
		}
	}
	return nil
}
