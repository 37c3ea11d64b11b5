package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/foreshift/foreshift/placer"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

func planCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "plan", Short: "Plans: what moves, when and why, and what does not", Args: cobra.NoArgs}
	list := func(c *cobra.Command, _ []string) error {
		return at.show(c, func(ctx context.Context, w io.Writer) error {
			v, err := at.view(ctx)
			switch {
			case err != nil:
				return err
			case at.json:
				return object(w, map[string]any{"plans": v.Plans, "moves": v.Count()})
			case len(v.Plans) == 0:
				_, err := fmt.Fprintln(w, "no plan within the last hour; `foreshift explain` says why")
				return err
			}
			return table(w, planRows(v)...)
		})
	}
	c.RunE = list
	c.AddCommand(at.watchable(&cobra.Command{Use: "list", Short: "The newest plans", Args: cobra.NoArgs, RunE: list}), planShowCommand(at),
		planAct(at, "approve PLAN", "Approve a plan, or one action of it, in mode approve"), planAct(at, "skip PLAN", "Skip a plan, or one action of it"))
	return at.watchable(c)
}

func planShowCommand(at *place) *cobra.Command {
	var compare bool
	c := &cobra.Command{Use: "show PLAN", Short: "One plan whole, with every reason (\"last\" is the newest)", Args: cobra.ExactArgs(1), ValidArgsFunction: at.planNames, Example: "foreshift plan show last\nforeshift plan show last --compare", RunE: func(c *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
		defer cancel()
		bus, err := at.connect(ctx, streams.RoleOperator)
		if err != nil {
			return err
		}
		defer bus.Close()
		p, err := findPlan(ctx, bus, args[0])
		if err != nil {
			return err
		}
		now := schemas.At(time.Now())
		if !compare {
			if at.json {
				return object(c.OutOrStdout(), p)
			}
			v, err := at.view(ctx)
			if err != nil {
				return err
			}
			return planText(c.OutOrStdout(), p, now, v.NameOf)
		}
		events, err := readCut(ctx, bus, p)
		if err != nil {
			return err
		}
		alone, err := placer.Without(p, events)
		if err != nil {
			return err
		}
		return comparePlans(c.OutOrStdout(), at.json, p, &alone.Plan, now)
	}}
	c.Flags().BoolVar(&compare, "compare", false, "beside it, what would have been decided without a forecast, every VM going on as it is now")
	return c
}

// findPlan reads one plan; "last" is the newest.
func findPlan(ctx context.Context, bus *streams.Bus, name string) (*schemas.Plan, error) {
	var events []streams.Event
	var err error
	if name == "last" {
		events, err = bus.History(ctx, streams.Input{Stream: streams.Plans, From: streams.FromSince, Since: 24 * time.Hour})
	} else {
		if err := schemas.CheckToken("plan", name); err != nil {
			return nil, usageError{err}
		}
		events, err = bus.Last(ctx, streams.Plans, streams.SubjectPlan(schemas.PlanID(name)))
	}
	if err != nil {
		return nil, err
	}
	for i := len(events) - 1; i >= 0; i-- {
		if p, ok := events[i].Msg.(*schemas.Plan); ok {
			return p, nil
		}
	}
	if name == "last" {
		return nil, errors.New("no plan was published within a day; `foreshift explain` says why nothing moves")
	}
	return nil, fmt.Errorf("no plan %q; `foreshift plan list` names the newest", name)
}

// comparePlans shows what the forecast is worth: the plan, and the one that would
// have been made without it.
func comparePlans(w io.Writer, asJSON bool, with, without *schemas.Plan, now schemas.Time) error {
	if asJSON {
		return object(w, map[string]any{"forecast": with, "no_forecast": without})
	}
	fmt.Fprintf(w, "plan %s of %s\n\n", with.ID, with.Time)
	rows := [][]string{{"", "FORECAST", "NO FORECAST"}}
	rows = append(rows, []string{"unmet demand that it sees coming, core-s", fmt.Sprintf("%.0f", with.Before), fmt.Sprintf("%.0f", without.Before)},
		[]string{"the same with its moves", fmt.Sprintf("%.0f", with.After), fmt.Sprintf("%.0f", without.After)},
		[]string{"moves", fmt.Sprint(len(with.Actions)), fmt.Sprint(len(without.Actions))})
	if err := table(w, rows...); err != nil {
		return err
	}
	for _, x := range []struct {
		title string
		plan  *schemas.Plan
	}{{"with the forecast", with}, {"without it", without}} {
		fmt.Fprintf(w, "\n%s:\n", x.title)
		if len(x.plan.Actions) == 0 {
			fmt.Fprintln(w, "  nothing moves")
			for _, d := range x.plan.Declined {
				if d.VM.IsZero() {
					fmt.Fprintf(w, "  %s\n", d.Reason)
				}
			}
		}
		for i := range x.plan.Actions {
			a := &x.plan.Actions[i]
			fmt.Fprintf(w, "  %s from %s to %s, due %s: %s\n", a.Name, a.Source, a.Destination, ahead(a.Due, now), a.Reason.Detail)
		}
	}
	return nil
}
