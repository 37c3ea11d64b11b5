package main

import (
	"fmt"
	"io"

	"github.com/foreshift/foreshift/benchmarks/tunnel"
	"github.com/spf13/cobra"
)

func benchTunnel() *cobra.Command {
	var opt tunnel.Options
	var out traceFlags
	c := &cobra.Command{
		Use:   "tunnel",
		Short: "Compare the share-out of a link with fixed equal shares and with no control",
		Long: `Simulates random sets of moves over one link, with other traffic on it, under three
policies: our share-out, a fixed equal share for each move, and no control, where TCP
shares the link. Printed are the total completion time and the missed deadlines of a
set, how much of its guarantee other traffic had, and the paired differences with 95 %
intervals by bootstrap over sets.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			begun := processCPU()
			res, err := tunnel.Run(c.Context(), opt)
			if err != nil {
				return usageError{err}
			}
			res.CPU = processCPU() - begun
			if err := out.keep(c, res); err != nil {
				return err
			}
			if out.json {
				return lastLine(c.OutOrStdout(), res)
			}
			return tunnelTable(c.OutOrStdout(), res)
		},
	}
	f := c.Flags()
	f.IntVar(&opt.Sets, "sets", 200, "`number` of random sets")
	f.IntVar(&opt.Moves, "moves", 3, "`number` of moves of a set")
	f.Float64Var(&opt.Writes, "writes", .45, "most that a guest writes, as a `share` of the link")
	f.Uint64Var(&opt.Seed, "seed", 1, "seed of the sets")
	f.BoolVar(&out.json, "json", false, "print one JSON object on the last line")
	f.StringVar(&out.record, "record", "", "append the figures as a line of JSON to this `file`")
	return c
}

func tunnelTable(w io.Writer, r *tunnel.Result) error {
	rows := [][]string{{"POLICY", "TOTAL COMPLETION", "95 %", "MISSED DEADLINES", "95 %", "NEVER ENDED", "OTHER TRAFFIC'S GUARANTEE KEPT"}}
	for _, name := range tunnel.Names {
		p := r.Policy[name]
		rows = append(rows, []string{name, fmt.Sprintf("%.1f s", p.Total), fmt.Sprintf("%.1f..%.1f", p.Range[0], p.Range[1]), fmt.Sprintf("%.2f of %d", p.Missed, r.Moves),
			fmt.Sprintf("%.2f..%.2f", p.MRange[0], p.MRange[1]), fmt.Sprint(p.Never), fmt.Sprintf("%.1f %%", 100*p.Other)})
	}
	if err := table(w, rows...); err != nil {
		return err
	}
	for _, name := range tunnel.Names[1:] {
		a := r.Against[name]
		if _, err := fmt.Fprintf(w, "ours against %s: %.2f of its total completion time (%.2f..%.2f), %+.2f missed deadlines a set (%+.2f..%+.2f); slower in %d of %d sets, later in %d\n",
			name, a.Ratio, a.RatioR[0], a.RatioR[1], a.Missed, a.MRange[0], a.MRange[1], a.Slower, r.Sets, a.MoreLate); err != nil {
			return err
		}
	}
	return nil
}
