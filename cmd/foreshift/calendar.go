package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/console/agenda"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
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
	if out.Match, err = agenda.ParseMatch(e.match); err != nil {
		return nil, nil, usageError{err}
	}
	if out.Expected, err = agenda.ParseExpected(e.expect); err != nil {
		return nil, nil, usageError{err}
	}
	zone, err := time.LoadLocation(e.zone)
	if err != nil || e.zone == "Local" {
		return nil, nil, usageError{fmt.Errorf("--zone %q is not known: give a name of the IANA database, such as Europe/Berlin", e.zone)}
	}
	return out, zone, nil
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
			begin, err := agenda.When(start, zone)
			if err != nil {
				return usageError{fmt.Errorf("--start: %w", err)}
			}
			finish := begin.Add(length)
			switch {
			case end != "" && length != 0:
				return usageError{fmt.Errorf("--end and --for say the same: give one of them")}
			case end != "":
				if finish, err = agenda.When(end, zone); err != nil {
					return usageError{fmt.Errorf("--end: %w", err)}
				}
			case length == 0:
				return usageError{fmt.Errorf("how long? give --for 3h or --end \"2026-11-27 12:00\"")}
			}
			entry.ID, entry.Name, entry.Repeat = id, args[0], repeat
			if entry.ID == "" {
				entry.ID = agenda.IDOf(args[0])
			}
			entry.Start, entry.End = schemas.At(begin), schemas.At(finish)
			if err := agenda.Check(entry); err != nil {
				return usageError{err}
			}
			if err := publishCalendar(c.Context(), at, []*schemas.Calendar{entry}); err != nil {
				return err
			}
			if at.json {
				return object(c.OutOrStdout(), entry)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", entry.ID, agenda.NextText(entry, schemas.At(time.Now())))
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

func publishCalendar(ctx context.Context, at *place, entries []*schemas.Calendar) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	bus, err := at.connect(ctx, streams.RoleOperator)
	if err != nil {
		return err
	}
	defer bus.Close()
	return agenda.Publish(ctx, bus, entries)
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
		if x, y := agenda.Next(a, now), agenda.Next(b, now); x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out, nil
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
			n := agenda.Next(e, now)
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
		rows = append(rows, []string{e.ID, e.Name, orDash(e.Class), agenda.MatchText(e.Match), agenda.ExpectedText(e.Expected), agenda.NextText(e, now), orDash(rule)})
	}
	return table(c.OutOrStdout(), rows...)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
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
			entries, skipped, err := agenda.ReadICS(f, defaults, zone)
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
					next = agenda.NextText(e, now)
				}
				rows = append(rows, []string{e.ID, e.Name, orDash(e.Class), agenda.MatchText(e.Match), agenda.ExpectedText(e.Expected), next})
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
