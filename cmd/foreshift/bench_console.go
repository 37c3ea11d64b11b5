package main

import (
	"fmt"
	"os"

	"github.com/foreshift/foreshift/benchmarks/console"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
)

func benchConsole() *cobra.Command {
	var opt console.Options
	var out traceFlags
	c := &cobra.Command{
		Use:   "console --hosts H --vms V",
		Short: "Measure the console with a fleet of that size: memory, pages, updates",
		Long: `Fills an embedded bus with the messages of an invented fleet, starts the console on it
as a process of its own, and measures its memory, the size of its fleet page, how long
pages take, how long a host's report needs until it stands on an open page, and, where
a Chromium is installed, how long until it has painted the fleet page.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if opt.Hosts < 1 || opt.VMs < opt.Hosts {
				return usageError{fmt.Errorf("--hosts %d --vms %d: want at least one VM a host", opt.Hosts, opt.VMs)}
			}
			if opt.Binary, err = os.Executable(); err != nil {
				return err
			}
			opt.Base = schemas.DefaultBase
			res, err := console.Run(c.Context(), opt)
			if err != nil {
				return err
			}
			if err := out.keep(c, res); err != nil {
				return err
			}
			if out.json {
				return lastLine(c.OutOrStdout(), res)
			}
			paint := fmt.Sprintf("first paint after %.0f ms (at most %.0f)", res.PaintMS, res.PaintMaxMS)
			if res.NoPaint != "" {
				paint = "first paint not measured: " + res.NoPaint
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d hosts, %d VMs: resident %.0f MB (at most %.0f); fleet page %.0f KB in %.0f ms; %s; a change is on the open page after %.0f ms (at most %.0f); all read after %.1f s\n",
				res.Hosts, res.VMs, res.RSSMB, res.PeakMB, float64(res.Fleet)/1000, res.PageMS["/"], paint, res.UpdateMS, res.UpdateMaxMS, res.ReadyS)
			return err
		},
	}
	f := c.Flags()
	f.IntVar(&opt.Hosts, "hosts", 1000, "`number` of hosts")
	f.IntVar(&opt.VMs, "vms", 20000, "`number` of VMs")
	f.Float64Var(&opt.Days, "days", 1, "days of closed steps that are there before")
	f.BoolVar(&out.json, "json", false, "print one JSON object on the last line")
	f.StringVar(&out.record, "record", "", "append the figures as a line of JSON to this `file`")
	return c
}
