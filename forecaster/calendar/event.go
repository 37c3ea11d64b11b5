package calendar

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a host without a zone database reads the same calendar

	"github.com/foreshift/foreshift/schemas"
	"github.com/teambition/rrule-go"
)

// Bounds of one event.
const (
	MaxLength      = 366 * 24 * time.Hour // of an occurrence
	MaxOccurrences = 4096                 // of an event in one range
	maxIterations  = 100_000              // occurrences passed over to reach a range
	maxExcluded    = 1024
)

// Span is one occurrence: from Start up to but not including End.
type Span struct{ Start, End schemas.Time }

// Event is a calendar entry ready to be expanded.
type Event struct {
	Entry  *schemas.Calendar
	length time.Duration
	zone   *time.Location

	rule     *rrule.ROption // nil: once, or every
	every    time.Duration  // > 0: at equal distances
	count    int            // of every; 0 = no end
	until    schemas.Time   // of every; 0 = no end
	excluded []int64        // s since the epoch, sorted: occurrences that do not take place
}

// Compile reads the zone and the recurrence rule of an entry. The rule is RFC 5545's
// (3.3.10), with or without "RRULE:"; lines "EXDATE:20261224T090000" (UTC with a Z,
// else in the entry's zone) may follow it. Frequencies below a day recur at equal
// distances and take no BY parts. The error says what to write instead.
func Compile(c *schemas.Calendar) (*Event, error) {
	e := &Event{Entry: c, length: c.End.Sub(c.Start)}
	fault := func(format string, a ...any) (*Event, error) {
		return nil, fmt.Errorf("calendar entry %s: %s", c.ID, fmt.Sprintf(format, a...))
	}
	if e.length <= 0 || e.length > MaxLength {
		return fault("lasts %v: want more than nothing and at most %v", e.length, MaxLength)
	}
	if c.Zone == "Local" {
		return fault("zone %q is another one on every machine: name it, such as Europe/Berlin", c.Zone)
	}
	var err error
	if e.zone, err = time.LoadLocation(c.Zone); err != nil {
		return fault("zone %q is not known: want a name of the IANA database, such as Europe/Berlin", c.Zone)
	}
	lines := strings.FieldsFunc(c.Repeat, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return e, nil
	}
	for _, l := range lines[1:] {
		if err := e.exclude(strings.TrimSpace(l)); err != nil {
			return fault("%v", err)
		}
	}
	slices.Sort(e.excluded)
	text := strings.TrimPrefix(strings.TrimSpace(lines[0]), "RRULE:")
	rule, err := rrule.StrToROptionInLocation(text, e.zone)
	if err != nil {
		return fault("repeat %q: %v; want a rule of RFC 5545, such as FREQ=WEEKLY;BYDAY=MO,FR", text, err)
	}
	if rule.Interval < 0 || rule.Interval > 1_000_000 || rule.Count < 0 {
		return fault("repeat %q: INTERVAL and COUNT must be above 0", text)
	}
	if err := e.begin(rule, text); err != nil {
		return fault("%v", err)
	}
	return e, nil
}

// exclude reads a line EXDATE[;TZID=...]:time,time.
func (e *Event) exclude(line string) error {
	head, list, ok := strings.Cut(line, ":")
	if !ok || !strings.HasPrefix(head, "EXDATE") {
		return fmt.Errorf("repeat: line %q: after the rule only EXDATE lines may follow", line)
	}
	zone := e.zone
	if _, name, ok := strings.Cut(head, "TZID="); ok {
		name, _, _ = strings.Cut(name, ";")
		z, err := time.LoadLocation(name)
		if err != nil || name == "Local" {
			return fmt.Errorf("repeat: line %q: zone %q is not known", line, name)
		}
		zone = z
	}
	for _, s := range strings.Split(list, ",") {
		t, err := stamp(strings.TrimSpace(s), zone)
		if err != nil {
			return fmt.Errorf("repeat: line %q: %w", line, err)
		}
		if len(e.excluded) == maxExcluded {
			return fmt.Errorf("repeat: more than %d excluded dates", maxExcluded)
		}
		e.excluded = append(e.excluded, t.Unix())
	}
	return nil
}

// stamp reads a date-time of RFC 5545 (3.3.5).
func stamp(s string, zone *time.Location) (time.Time, error) {
	if t, err := time.Parse("20060102T150405Z", s); err == nil {
		return t, nil
	}
	t, err := time.ParseInLocation("20060102T150405", s, zone)
	if err != nil {
		return t, fmt.Errorf("%q is not a time such as 20261224T090000Z", s)
	}
	return t, nil
}

// begin checks a rule by its first occurrence.
func (e *Event) begin(rule *rrule.ROption, text string) error {
	rule.Dtstart = e.Entry.Start.Std().In(e.zone)
	unit := map[rrule.Frequency]time.Duration{rrule.HOURLY: time.Hour, rrule.MINUTELY: time.Minute, rrule.SECONDLY: time.Second}[rule.Freq]
	if unit > 0 {
		if len(rule.Bysetpos)+len(rule.Bymonth)+len(rule.Bymonthday)+len(rule.Byyearday)+len(rule.Byweekno)+len(rule.Byweekday)+
			len(rule.Byhour)+len(rule.Byminute)+len(rule.Bysecond)+len(rule.Byeaster) > 0 {
			return fmt.Errorf("repeat %q: a frequency below a day takes no BY parts; write FREQ=DAILY with BYHOUR and BYMINUTE", text)
		}
		e.every, e.count = time.Duration(max(1, rule.Interval))*unit, rule.Count
		if !rule.Until.IsZero() {
			e.until = schemas.At(rule.Until)
		}
		return nil
	}
	// A rule that no day matches is sought for to the year 9999, in up to a second,
	// once: the commonest is told by looking at it.
	if len(rule.Bymonthday) > 0 && len(rule.Bymonth) > 0 && !anyDay(rule.Bymonth, rule.Bymonthday) {
		return fmt.Errorf("repeat %q: never occurs: there is no such day of the month", text)
	}
	r, err := rrule.NewRRule(*rule)
	if err != nil {
		return fmt.Errorf("repeat %q: %v", text, err)
	}
	if _, ok := r.Iterator()(); !ok {
		return fmt.Errorf("repeat %q: never occurs", text)
	}
	e.rule = rule
	return nil
}

// anyDay reports whether some month has one of the days.
func anyDay(months, days []int) bool {
	length := [13]int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
	for _, m := range months {
		for _, d := range days {
			if m >= 1 && m <= 12 && (max(d, -d)) <= length[m] {
				return true
			}
		}
	}
	return false
}

// Between appends the occurrences that overlap from..to, in order, to dst. It gives
// at most MaxOccurrences; complete is false when there were more.
func (e *Event) Between(from, to schemas.Time, dst []Span) (spans []Span, complete bool) {
	n := len(dst)
	add := func(t schemas.Time) bool {
		if t >= to {
			return false
		}
		if end := t.Add(e.length); end > from && !e.isExcluded(t) {
			if len(dst)-n == MaxOccurrences {
				complete = false
				return false
			}
			dst = append(dst, Span{t, end})
		}
		return true
	}
	complete = true
	start := e.Entry.Start
	switch {
	case e.every > 0:
		k := max(0, int64(from.Add(-e.length)-start)/int64(e.every))
		for ; e.count == 0 || k < int64(e.count); k++ {
			t := start.Add(time.Duration(k) * e.every)
			if e.until != 0 && t > e.until || !add(t) {
				break
			}
		}
	case e.rule != nil:
		next, err := e.iterate(from)
		if err != nil {
			return dst, false
		}
		for k := 0; ; k++ {
			t, ok := next()
			if !ok || !add(schemas.At(t)) {
				break
			}
			if k == maxIterations {
				return dst, false
			}
		}
	default:
		add(start)
	}
	return dst, complete
}

// iterate begins at the first occurrence or, where the rule has the same pattern from
// any of its days or weeks on, shortly before from.
func (e *Event) iterate(from schemas.Time) (rrule.Next, error) {
	o := *e.rule
	stride := map[rrule.Frequency]int{rrule.DAILY: 1, rrule.WEEKLY: 7}[o.Freq] * max(1, o.Interval)
	if stride > 0 && o.Count == 0 {
		days := int(from.Add(-e.length).Sub(e.Entry.Start) / (24 * time.Hour))
		if k := days/stride - 1; k > 0 {
			o.Dtstart = o.Dtstart.AddDate(0, 0, k*stride)
		}
	}
	r, err := rrule.NewRRule(o)
	if err != nil {
		return nil, err
	}
	return r.Iterator(), nil
}

func (e *Event) isExcluded(t schemas.Time) bool {
	_, found := slices.BinarySearch(e.excluded, t.Std().Unix())
	return found
}

// Next is the first occurrence that ends after now, within 400 days from now or from
// the first one.
func (e *Event) Next(now schemas.Time) (Span, bool) {
	now = max(now, e.Entry.Start)
	for _, d := range []time.Duration{24 * time.Hour, 32 * 24 * time.Hour, 400 * 24 * time.Hour} {
		if spans, _ := e.Between(now, now.Add(d), nil); len(spans) > 0 {
			return spans[0], true
		}
	}
	return Span{}, false
}
