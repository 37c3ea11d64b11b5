package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/foreshift/foreshift/benchmarks/placement"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
)

// benchPlan answers "how fast does it plan, and are its plans better?".
func benchPlan() *cobra.Command {
	o := placement.Options{}
	var fleet string
	var out traceFlags
	c := &cobra.Command{
		Use:   "plan --fleet HOSTSxVMS",
		Short: "Measure the placer on a made-up fleet, beside a balancer and an integer programme",
		Long: `Draws a fleet with a day ahead, lets the live placer plan on it, and scores its plan,
a plain balancer's and, with --ilp-seconds, that of an integer programme on futures that
none of them has seen; then ours once more for each of the others, with at most half of
its moves. With --settled it also carries plans out until nothing moves, and
plans that often again. Times are CPU-seconds of this process.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, v, ok := strings.Cut(fleet, "x")
			var err1, err2 error
			o.Hosts, err1 = strconv.Atoi(h)
			o.VMs, err2 = strconv.Atoi(v)
			if !ok || err1 != nil || err2 != nil || o.Hosts < 2 || o.VMs < o.Hosts {
				return usageError{fmt.Errorf("--fleet %q: want hosts x VMs, such as 500x10000", fleet)}
			}
			if o.LookAhead < 1 || o.LookAhead > schemas.StepsPerDay {
				return usageError{fmt.Errorf("--look-ahead %d: want 1 to %d base steps", o.LookAhead, schemas.StepsPerDay)}
			}
			r, err := placement.Run(c.Context(), o)
			if err != nil {
				return err
			}
			if err := out.keep(c, r); err != nil {
				return err
			}
			if out.json {
				return lastLine(c.OutOrStdout(), r)
			}
			return planTable(c.OutOrStdout(), r)
		},
	}
	f := c.Flags()
	f.StringVar(&fleet, "fleet", "500x10000", "`HOSTSxVMS` to draw")
	f.IntVar(&o.LookAhead, "look-ahead", 24, "horizon of the objective in base `steps`; 288 takes all 44 slots")
	f.IntVar(&o.Evaluations, "evaluations", 60000, "`count` of evaluations of the refined plan")
	f.Float64Var(&o.Trigger, "trigger", .05, "`chance` of a host to run short from which its VMs may move")
	f.Float64Var(&o.MinBenefit, "min-benefit", 300, "least benefit of a move in `core-seconds`")
	f.IntVar(&o.Settled, "settled", 0, "once nothing moves, plan this many `times` more")
	f.Float64Var(&o.Gap, "gap", .1, "the balancer's tolerated `gap` between the fullest and the emptiest host")
	f.Float64Var(&o.ILP, "ilp-seconds", 0, "CPU-`seconds` for the integer programme; 0 leaves it out")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of the fleet and of the search")
	f.BoolVar(&out.json, "json", false, "print one JSON object on the last line")
	f.StringVar(&out.record, "record", "", "append the figures as a line of JSON to this `file`")
	return c
}

func planTable(w io.Writer, r *placement.Result) error {
	_, err := fmt.Fprintf(w, "%d hosts, %d VMs, %d slots: first plan %.2f CPU-s, refined %.2f CPU-s (%d evaluations), heap %.0f MiB, peak %.0f MiB, folding %.2f CPU-s\n\n%-54s %14s %7s %10s %12s %14s\n",
		r.Hosts, r.VMs, r.Slots, r.First, r.Refined, r.Evaluations, float64(r.Heap)/(1<<20), float64(r.Peak)/(1<<20), r.Fold, "planner", "unmet core-h", "moves", "GiB", "over memory", "groups broken")
	for _, name := range r.Planners {
		if err != nil {
			return err
		}
		s := r.Scores[name]
		_, err = fmt.Fprintf(w, "%-54s %14.1f %7d %10.0f %12d %14d\n", name, s.Unmet, s.Moves, s.GiB, s.Over, s.Together)
	}
	if err == nil && r.Rounds > 0 {
		_, err = fmt.Fprintf(w, "\nsettled after %d plans; moves of the plans after that: %d\n", r.Rounds, r.Restless)
	}
	for _, n := range r.Notes {
		if err == nil {
			_, err = fmt.Fprintln(w, n)
		}
	}
	return err
}
