package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/foreshift/foreshift/placer"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

func replayCommand(at *place) *cobra.Command {
	return &cobra.Command{
		Use:   "replay PLAN",
		Short: "Make a recorded decision again from what it had seen, and compare (\"last\" is the newest plan)",
		Long: "Reads the streams of telemetry and the audit trail up to the plan's cut, folds them, and lets the\n" +
			"same code decide. Says whether the plan comes out the same; exits 1 when it does not. Forecasts\n" +
			"are kept for six hours: an older plan is refused. Nothing is published.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), 5*time.Minute)
			defer cancel()
			bus, err := at.connect(ctx, streams.RoleOperator)
			if err != nil {
				return err
			}
			defer bus.Close()
			rec, err := findPlan(ctx, bus, args[0])
			if err != nil {
				return err
			}
			events, err := readCut(ctx, bus, rec)
			if err != nil {
				return err
			}
			got, err := placer.Derive(rec, events)
			if err != nil {
				return err
			}
			diff := placer.Differences(rec, &got.Plan)
			if at.json {
				if err := object(c.OutOrStdout(), map[string]any{"plan": rec.ID, "equal": len(diff) == 0, "differences": append([]string{}, diff...), "events": len(events), "refused": got.Refused}); err != nil {
					return err
				}
			} else if len(diff) == 0 {
				fmt.Fprintf(c.OutOrStdout(), "plan %s: equal; derived again from %d events\n", rec.ID, len(events))
			} else {
				fmt.Fprintf(c.OutOrStdout(), "plan %s: differs; derived from %d events\n", rec.ID, len(events))
				for _, d := range diff {
					fmt.Fprintln(c.OutOrStdout(), "  "+d)
				}
			}
			if len(diff) > 0 {
				return fmt.Errorf("plan %s is not derived again: another version of the program (this is %s), or other events", rec.ID, versionText())
			}
			return nil
		},
	}
}

// readIdle is how long a stream may be silent before what is missing of it counts
// as not kept.
const readIdle = 3 * time.Second

// readCut reads all that a recorded plan had seen.
func readCut(ctx context.Context, bus *streams.Bus, rec *schemas.Plan) ([]streams.Event, error) {
	if rec.Basis.Base <= 0 {
		return nil, fmt.Errorf("plan %s was made by a version that did not record what it stood on", rec.ID)
	}
	var all []streams.Event
	for _, in := range placer.ReadWhat(rec, schemas.At(time.Now())) {
		last := rec.Cut.Seq[in.Stream]
		if last == 0 {
			continue // it had seen nothing of it
		}
		events, err := readTo(ctx, bus, in, last)
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", rec.ID, err)
		}
		all = append(all, events...)
	}
	return all, nil
}

// errNotKept: a stream no longer holds what a decision had seen.
var errNotKept = errors.New("no longer kept, or not recorded yet")

// readTo reads a stream up to a sequence, and refuses when its beginning or its end
// is missing.
func readTo(ctx context.Context, bus *streams.Bus, in streams.Input, last uint64) ([]streams.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(readIdle, cancel)
	defer idle.Stop()
	var out []streams.Event
	reached := false
	err := bus.Consume(ctx, "replay", in, func(e streams.Event) {
		idle.Reset(readIdle)
		if reached {
			return
		}
		if e.Seq <= last {
			out = append(out, e)
		}
		if e.Seq >= last {
			reached = true
			cancel()
		}
	})
	switch {
	case err != nil:
		return nil, err
	case len(out) == 0 || out[len(out)-1].Seq != last:
		return nil, fmt.Errorf("stream %s, message %d: %w", in.Stream, last, errNotKept)
	case in.From == streams.FromSeq && out[0].Seq != in.Seq:
		return nil, fmt.Errorf("stream %s, message %d: %w", in.Stream, in.Seq, errNotKept)
	}
	return out, nil
}
