package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/foreshift/foreshift/benchmarks/forecastaware"
	"github.com/foreshift/foreshift/benchmarks/rescheduling"
	"github.com/foreshift/foreshift/benchmarks/results"
	"github.com/foreshift/foreshift/benchmarks/roadef"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// processCPU is how many seconds of CPU this process has used, by all its threads.
func processCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// placeFlags are the flags of `bench place`. Exactly one of the instances is named.
type placeFlags struct {
	model, assignment   string
	snapshot, forecasts string
	moves               int
	legs                []int
	seconds             float64
	seed                uint64
	out, record         string
	json                bool
}

// benchPlaceCommand answers "how good are the placements?" on published instances.
func benchPlaceCommand() *cobra.Command {
	var o placeFlags
	c := &cobra.Command{
		Use:   "place --roadef MODEL --assignment FILE | --rescheduling SNAPSHOT --moves K | --forecast-aware INSTANCE",
		Short: "Search placements on published instances",
		Long: `Searches a placement for a published instance, checks it with an evaluator that
shares nothing with the search, and writes it: for the ROADEF/EURO Challenge 2012 one
line of machine indices, otherwise the moves in order of execution. Time is CPU time
of the whole process, reading included. The same seed with the counts of evaluations
that --json reports gives the same placement, however fast the machine.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(c.Flags().Changed("moves")); err != nil {
				return usageError{err}
			}
			report, err := o.run(c.Context(), c.OutOrStdout())
			if err != nil || o.record == "" {
				return err
			}
			return results.Append(o.record, results.Line{Bench: "foreshift bench place", Args: o.args(c), Figures: report})
		},
	}
	f := c.Flags()
	f.StringVar(&o.model, "roadef", "", "model `file` of the ROADEF/EURO Challenge 2012; .gz is read as it is")
	f.StringVar(&o.assignment, "assignment", "", "with --roadef: `file` of the first machine of each process")
	f.IntSliceVar(&o.legs, "legs", nil, "with --roadef: repeat a search by its counts of `evaluations` instead of time")
	f.StringVar(&o.snapshot, "rescheduling", "", "snapshot `file` of hosts and VMs, to make room for large VMs")
	f.IntVar(&o.moves, "moves", 0, "with --rescheduling: the most VMs that may move")
	f.StringVar(&o.forecasts, "forecast-aware", "", "instance `file` of hosts and VMs with demand ahead, to keep hosts under a threshold")
	f.Float64Var(&o.seconds, "cpu-seconds", 60, "`seconds` of CPU time to use")
	f.Uint64Var(&o.seed, "seed", 1, "seed of the search")
	f.StringVar(&o.out, "out", "", "write the placement to this `file`")
	f.BoolVar(&o.json, "json", false, "print one JSON object on the last line")
	f.StringVar(&o.record, "record", "", "append the figures as a line of JSON to this `file`, such as benchmarks/results.jsonl")
	return c
}

// args are the flags that say what was searched, files by their base names.
func (o *placeFlags) args(c *cobra.Command) string {
	var args []string
	c.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "record", "out", "json", "legs":
		case "roadef", "assignment", "rescheduling", "forecast-aware":
			args = append(args, "--"+f.Name+"="+filepath.Base(f.Value.String()))
		default:
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	})
	return strings.Join(args, " ")
}

func (o *placeFlags) check(moves bool) error {
	named := 0
	for _, file := range [...]string{o.model, o.snapshot, o.forecasts} {
		if file != "" {
			named++
		}
	}
	switch {
	case named != 1:
		return errors.New("name one instance: --roadef MODEL, --rescheduling SNAPSHOT or --forecast-aware INSTANCE")
	case o.model != "" && o.assignment == "":
		return errors.New("--assignment is missing: the file of the first machine of each process")
	case o.snapshot != "" && !moves:
		return errors.New("--moves is missing: the most VMs that may move")
	case !(o.seconds > 0) && len(o.legs) == 0:
		return fmt.Errorf("--cpu-seconds must be above 0, not %g", o.seconds)
	}
	for _, n := range o.legs {
		if n <= 0 {
			return fmt.Errorf("--legs are counts above 0, not %d", n)
		}
	}
	return nil
}

// run searches, prints what was reached, and returns it.
func (o *placeFlags) run(ctx context.Context, w io.Writer) (any, error) {
	var report any
	var text string
	switch {
	case o.model != "":
		r, err := roadef.Run(ctx, roadef.Options{Model: o.model, Assignment: o.assignment, CPUSeconds: o.seconds, CPU: processCPU, Legs: o.legs, Seed: o.seed, Out: o.out})
		if err != nil {
			return nil, err
		}
		report = r
		text = fmt.Sprintf("cost         %d, at first %d, never below %d\n  load       %d\n  balance    %d\n  moves      %d of processes, %d of services, %d of machines\nmoved        %d processes\nevaluations  %d, %.3g per CPU-second\n",
			r.Objective, r.Initial, r.LowerBound, r.Cost.Load, r.Cost.Balance, r.Cost.ProcessMove, r.Cost.ServiceMove, r.Cost.MachineMove, r.Moves, r.Evaluations, r.EvaluationsPerCPUSecond)
	case o.snapshot != "":
		r, err := rescheduling.Run(ctx, rescheduling.Options{Snapshot: o.snapshot, Moves: o.moves, CPUSeconds: o.seconds, CPU: processCPU, Seed: o.seed, Out: o.out})
		if err != nil {
			return nil, err
		}
		report = r
		text = fmt.Sprintf("slots        %d, at first %d, never above %d\nfragments    %.1f %% of free cores\nmoved        %d VMs of %d allowed\nevaluations  %d, %.3g per CPU-second\n",
			r.Objective, r.Initial, r.UpperBound, 100*r.FragmentRate, r.Moves, r.Limit, r.Evaluations, r.EvaluationsPerCPUSecond)
	default:
		r, err := forecastaware.Run(ctx, forecastaware.Options{Instance: o.forecasts, CPUSeconds: o.seconds, CPU: processCPU, Seed: o.seed, Out: o.out})
		if err != nil {
			return nil, err
		}
		report = r
		text = fmt.Sprintf("objective    %.3f, at first %.3f, never below %.3f\n  unserved   %.3f core-slots\nmoved        %d VMs\nevaluations  %d, %.3g per CPU-second\n",
			r.Objective, r.Initial, r.LowerBound, r.Unserved, r.Moves, r.Evaluations, r.EvaluationsPerCPUSecond)
	}
	if o.json {
		return report, lastLine(w, report)
	}
	_, err := io.WriteString(w, text)
	return report, err
}
