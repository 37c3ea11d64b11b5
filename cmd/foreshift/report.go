package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/foreshift/foreshift/internal/replay"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

// reportOptions are the flags of `report`.
type reportOptions struct {
	days       int
	whatIf     bool
	u          float64
	placements int
	page       string
	forecasts  string
}

func reportCommand(at *place) *cobra.Command {
	var o reportOptions
	c := &cobra.Command{Use: "report", Short: "What happened in the last days, what Foreshift did or would have done, and what that gained", Args: cobra.NoArgs,
		Long: `Tells from the history, the plans and the audit trail: demand that went unserved, moves made
and what they achieved, moves planned and not made (in modes observe and recommend, and
beside another balancer), and VMs that somebody else moved.

--what-if plays the recorded demand through the backtest as well: the last days, after
eight to learn from. It says what moving ahead would have saved on hosts of one size at
a utilisation, also where nothing but imported history is there.`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c, at) }}
	f := c.Flags()
	f.IntVar(&o.days, "days", 7, "how many days of base steps")
	f.BoolVar(&o.whatIf, "what-if", false, "play the recorded demand through the backtest as well")
	f.Float64VarP(&o.u, "utilisation", "u", .92, "what-if: share of the hosts' cores that demand takes at its .999 quantile")
	f.IntVar(&o.placements, "placements", 4, "what-if: random placements to start from")
	f.StringVar(&o.page, "report", "", "what-if: write its page to this HTML `file`")
	f.StringVar(&o.forecasts, "forecasts", "", "what-if: keep the forecasts in this `file`")
	return c
}

func (o *reportOptions) run(c *cobra.Command, at *place) error {
	if o.days < 1 || o.days > 80 {
		return usageError{fmt.Errorf("--days %d: want 1 to 80", o.days)}
	}
	ctx := c.Context()
	in, err := at.week(ctx, o.days)
	if err != nil {
		return err
	}
	if len(in.Steps) == 0 {
		return errors.New("the history is empty; `foreshift history import` fills it, or wait for the agents")
	}
	w := replay.Tell(*in)
	if o.whatIf {
		if w.WhatIf, err = o.play(c, at); err != nil {
			return err
		}
	}
	if at.json {
		return object(c.OutOrStdout(), w)
	}
	return w.Table(c.OutOrStdout())
}

// play runs the backtest on the recorded demand.
func (o *reportOptions) play(c *cobra.Command, at *place) (*replay.Result, error) {
	const warm = 8
	b := backtestFlags{stream: o.days + warm}
	b.U, b.Placements, b.Forecasts = o.u, o.placements, o.forecasts
	b.World = "rich"
	b.Policies = []string{"none", "react", "balancer", "persist", "predictive"}
	if err := b.Check(); err != nil {
		return nil, usageError{err}
	}
	h, err := b.history(c.Context(), at)
	if err != nil {
		return nil, err
	}
	bar := newBar(c.ErrOrStderr())
	b.Progress = bar.show
	begun := processCPU()
	res, err := replay.Run(c.Context(), h, b.Options)
	bar.end()
	if err != nil {
		return nil, err
	}
	res.CPU = processCPU() - begun
	if o.page != "" {
		if err := writeWhole(o.page, res.HTML()); err != nil {
			return nil, fmt.Errorf("--report: %w", err)
		}
	}
	return res, nil
}

// week reads what a fleet recorded in the last days of base steps.
func (p *place) week(ctx context.Context, days int) (*replay.WeekInput, error) {
	steps, base, err := p.steps(ctx, days)
	if err != nil {
		return nil, err
	}
	bus, err := p.connect(ctx, streams.RoleOperator)
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	in := &replay.WeekInput{Base: base, Steps: steps, Capacity: map[schemas.HostID]float64{}}
	span := time.Duration(days*schemas.StepsPerDay) * base
	moves, err := bus.History(ctx, streams.Input{Stream: streams.Migrations, From: streams.FromSince, Since: span})
	if err != nil {
		return nil, err
	}
	plans, err := bus.History(ctx, streams.Input{Stream: streams.Plans, From: streams.FromSince, Since: span})
	if err != nil {
		return nil, err
	}
	reports, err := bus.Last(ctx, streams.Capacity)
	if err != nil {
		return nil, err
	}
	for _, e := range reports {
		if m, ok := e.Msg.(*schemas.CapacityHost); ok {
			in.Capacity[m.Host] = float64(m.Capacity.CPU)
		}
	}
	for _, e := range moves {
		switch m := e.Msg.(type) {
		case *schemas.Command:
			in.Commands = append(in.Commands, m)
		case *schemas.Outcome:
			in.Outcomes = append(in.Outcomes, m)
		case *schemas.Effect:
			in.Effects = append(in.Effects, m)
		}
	}
	for _, e := range plans {
		if m, ok := e.Msg.(*schemas.Plan); ok {
			in.Plans = append(in.Plans, m)
		}
	}
	in.Ladder = *judgeShadow(plans, moves, steps, in.Capacity, base)
	return in, nil
}
