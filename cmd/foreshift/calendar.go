package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/forecaster/calendar"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/nats-io/nuid"
	"github.com/spf13/cobra"
)

// calendarCommand tells the forecaster what people know of the future.
func calendarCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "calendar [list | add | import | remove]", Short: "Campaigns, batch windows, holidays: what forecasts cannot know by themselves", Args: cobra.NoArgs}
	list := func(c *cobra.Command, _ []string) error { return calendarList(c, at) }
	c.RunE = list
	c.AddCommand(&cobra.Command{Use: "list", Short: "Entries in force, the next one first", Args: cobra.NoArgs, RunE: list},
		calendarAdd(at), calendarImport(at), calendarRemove(at))
	return c
}

// entryFlags say whom events concern and what to expect of them.
type entryFlags struct {
	class, zone string
	match       []string
	expect      []string
}

func (e *entryFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&e.class, "class", "", "`name` under which effects are learnt together: campaign, batch, holiday, ...")
	f.StringVar(&e.zone, "zone", "UTC", "IANA time `zone` of times without one and of the recurrence, such as Europe/Berlin")
	f.StringArrayVar(&e.match, "match", nil, "`label=value` of the VMs concerned; may be repeated, all must hold; none: all VMs")
	f.StringArrayVar(&e.expect, "expect", nil, "expected change of demand, `resource=+40%` (cpu, memory, net, disk; cpu when none is named); may be repeated; none: learn it")
}

// entry makes an entry of the flags.
func (e *entryFlags) entry() (*schemas.Calendar, *time.Location, error) {
	out := &schemas.Calendar{Class: e.class, Zone: e.zone}
	var err error
	if out.Match, err = parseMatch(e.match); err != nil {
		return nil, nil, usageError{err}
	}
	if out.Expected, err = parseExpected(e.expect); err != nil {
		return nil, nil, usageError{err}
	}
	zone, err := time.LoadLocation(e.zone)
	if err != nil || e.zone == "Local" {
		return nil, nil, usageError{fmt.Errorf("--zone %q is not known: give a name of the IANA database, such as Europe/Berlin", e.zone)}
	}
	return out, zone, nil
}

func parseMatch(list []string) (map[string]string, error) {
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

// parseExpected reads "cpu=+40%", "memory=-.1" or "+40 %".
func parseExpected(list []string) (map[string]schemas.Ratio, error) {
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

// when reads a time of the command line; one without a zone is in the one given.
func when(s string, zone *time.Location) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("time %q: want \"2026-11-27 09:00\" (in --zone) or 2026-11-27T09:00:00+01:00", s)
}

func calendarAdd(at *place) *cobra.Command {
	var e entryFlags
	var id, start, end, repeat string
	var length time.Duration
	c := &cobra.Command{Use: "add NAME", Short: "Tell of an event: when, whom it concerns, what to expect", Args: cobra.ExactArgs(1),
		Example: "  foreshift calendar add \"Black Friday\" --start \"2026-11-27 08:00\" --for 14h --zone Europe/Berlin --match tier=web --expect cpu=+40% --class campaign\n" +
			"  foreshift calendar add \"nightly batch\" --start \"2026-01-05 01:00\" --for 2h --repeat \"FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR\" --match job=batch",
		RunE: func(c *cobra.Command, args []string) error {
			entry, zone, err := e.entry()
			if err != nil {
				return err
			}
			begin, err := when(start, zone)
			if err != nil {
				return usageError{fmt.Errorf("--start: %w", err)}
			}
			finish := begin.Add(length)
			switch {
			case end != "" && length != 0:
				return usageError{fmt.Errorf("--end and --for say the same: give one of them")}
			case end != "":
				if finish, err = when(end, zone); err != nil {
					return usageError{fmt.Errorf("--end: %w", err)}
				}
			case length == 0:
				return usageError{fmt.Errorf("how long? give --for 3h or --end \"2026-11-27 12:00\"")}
			}
			entry.ID, entry.Name, entry.Repeat = id, args[0], repeat
			if entry.ID == "" {
				entry.ID = idOf(args[0])
			}
			entry.Start, entry.End = schemas.At(begin), schemas.At(finish)
			if err := checkEntry(entry); err != nil {
				return usageError{err}
			}
			if err := publishCalendar(c.Context(), at, []*schemas.Calendar{entry}); err != nil {
				return err
			}
			if at.json {
				return object(c.OutOrStdout(), entry)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", entry.ID, nextText(entry, schemas.At(time.Now())))
			return nil
		}}
	e.add(c)
	f := c.Flags()
	f.StringVar(&start, "start", "", "`time` at which it (first) starts")
	f.StringVar(&end, "end", "", "`time` at which it (first) ends")
	f.DurationVar(&length, "for", 0, "how long it takes, instead of --end")
	f.StringVar(&repeat, "repeat", "", "`rule` of recurrence after RFC 5545, such as FREQ=WEEKLY;BYDAY=MO,FR")
	f.StringVar(&id, "id", "", "id; an entry with the same id is replaced (default: made of the name)")
	return c
}

// idOf makes a token of a name.
func idOf(name string) string {
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

// checkEntry finds out here what the forecaster would refuse later.
func checkEntry(e *schemas.Calendar) error {
	if err := e.Validate(); err != nil {
		return fmt.Errorf("calendar entry %s: %w", e.ID, err)
	}
	_, err := calendar.Compile(e)
	return err
}

func publishCalendar(ctx context.Context, at *place, entries []*schemas.Calendar) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	bus, err := at.connect(ctx, streams.RoleOperator)
	if err != nil {
		return err
	}
	defer bus.Close()
	for k, e := range entries {
		if _, err := bus.Publish(ctx, streams.Out{Subject: streams.SubjectCalendar(e.ID), ID: nuid.Next(), Msg: e}); err != nil {
			return fmt.Errorf("entry %s (%d of %d; those before it are in force): %w", e.ID, k+1, len(entries), err)
		}
	}
	return nil
}

// readCalendar gives the entries in force, in order of their next occurrence, and
// then those that are over.
func readCalendar(ctx context.Context, at *place, now schemas.Time) ([]*schemas.Calendar, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	bus, err := at.connect(ctx, streams.RoleOperator)
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	last, err := bus.Last(ctx, streams.External, "calendar.*")
	if err != nil {
		return nil, err
	}
	var out []*schemas.Calendar
	for _, m := range last {
		if e, ok := m.Msg.(*schemas.Calendar); ok && !e.Removed {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b *schemas.Calendar) int {
		if x, y := nextStart(a, now), nextStart(b, now); x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, nil
}

func nextStart(e *schemas.Calendar, now schemas.Time) schemas.Time {
	if ev, err := calendar.Compile(e); err == nil {
		if s, ok := ev.Next(now); ok {
			return s.Start
		}
	}
	return math.MaxInt64
}

// nextText says when an entry takes place next, in its own zone.
func nextText(e *schemas.Calendar, now schemas.Time) string {
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

func calendarList(c *cobra.Command, at *place) error {
	now := schemas.At(time.Now())
	entries, err := readCalendar(c.Context(), at, now)
	if err != nil {
		return err
	}
	if at.json {
		type row struct {
			*schemas.Calendar
			Next schemas.Time `json:"next"`
		}
		rows := []row{}
		for _, e := range entries {
			n := nextStart(e, now)
			if n == math.MaxInt64 {
				n = 0
			}
			rows = append(rows, row{e, n})
		}
		return object(c.OutOrStdout(), map[string]any{"entries": rows})
	}
	if len(entries) == 0 {
		fmt.Fprintln(c.OutOrStdout(), "The calendar is empty; `foreshift calendar add --help` shows how to fill it.")
		return nil
	}
	rows := [][]string{{"ID", "NAME", "CLASS", "VMS", "EXPECTED", "NEXT", "REPEAT"}}
	for _, e := range entries {
		rule, _, _ := strings.Cut(e.Repeat, "\n")
		rows = append(rows, []string{e.ID, e.Name, orDash(e.Class), matchText(e.Match), expectedText(e.Expected), nextText(e, now), orDash(rule)})
	}
	return table(c.OutOrStdout(), rows...)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func matchText(m map[string]string) string {
	if len(m) == 0 {
		return "all"
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ",")
}

func expectedText(m map[string]schemas.Ratio) string {
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

func calendarRemove(at *place) *cobra.Command {
	return &cobra.Command{Use: "remove ID...", Short: "Take entries back", Args: cobra.MinimumNArgs(1), RunE: func(c *cobra.Command, args []string) error {
		entries, err := readCalendar(c.Context(), at, schemas.At(time.Now()))
		if err != nil {
			return err
		}
		var out []*schemas.Calendar
		for _, id := range args {
			k := slices.IndexFunc(entries, func(e *schemas.Calendar) bool { return e.ID == id })
			if k < 0 {
				return fmt.Errorf("no entry %q is in force; `foreshift calendar list` names them", id)
			}
			gone := *entries[k]
			gone.Removed = true
			out = append(out, &gone)
		}
		if err := publishCalendar(c.Context(), at, out); err != nil {
			return err
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"removed": args})
		}
		fmt.Fprintf(c.OutOrStdout(), "removed %s\n", strings.Join(args, ", "))
		return nil
	}}
}

func calendarImport(at *place) *cobra.Command {
	var e entryFlags
	var dry bool
	c := &cobra.Command{Use: "import FILE.ics", Short: "Take the events of an iCalendar file; again, to update them", Args: cobra.ExactArgs(1),
		Long: "Takes the events of an iCalendar file (RFC 5545). Flags fill in what an event does not say itself in\n" +
			"X-FORESHIFT-CLASS, X-FORESHIFT-MATCH (tier=web,site=a) and X-FORESHIFT-EXPECTED (cpu=+40%,net=+60%);\n" +
			"without a class, the first of its CATEGORIES is taken. Importing a file again replaces its entries.",
		RunE: func(c *cobra.Command, args []string) error {
			defaults, zone, err := e.entry()
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("%w; give the path of an .ics file", err)
			}
			defer f.Close()
			entries, skipped, err := readICS(f, defaults, zone)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if len(entries) == 0 {
				return fmt.Errorf("%s: no event could be used of %d%s", args[0], len(skipped), firstOf(skipped))
			}
			if !dry {
				if err := publishCalendar(c.Context(), at, entries); err != nil {
					return err
				}
			}
			if at.json {
				if skipped == nil {
					skipped = []string{}
				}
				return object(c.OutOrStdout(), map[string]any{"imported": entries, "skipped": skipped, "dry_run": dry})
			}
			w := c.OutOrStdout()
			now := schemas.At(time.Now())
			rows := [][]string{{"ID", "NAME", "CLASS", "VMS", "EXPECTED", "NEXT"}}
			for _, e := range entries {
				next := "cancelled: removed"
				if !e.Removed {
					next = nextText(e, now)
				}
				rows = append(rows, []string{e.ID, e.Name, orDash(e.Class), matchText(e.Match), expectedText(e.Expected), next})
			}
			if err := table(w, rows...); err != nil {
				return err
			}
			for _, s := range skipped {
				fmt.Fprintln(c.ErrOrStderr(), "skipped:", s)
			}
			return nil
		}}
	e.add(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "show what would be imported")
	return c
}

func firstOf(skipped []string) string {
	if len(skipped) == 0 {
		return ""
	}
	return "; the first: " + skipped[0]
}
