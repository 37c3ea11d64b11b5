package main

import (
	"fmt"
	"os"
	"syscall"

	"github.com/foreshift/foreshift/internal/replay"
	"github.com/spf13/cobra"
)

func benchBacktest() *cobra.Command {
	var vms, days, workers int
	var asJSON bool
	c := &cobra.Command{
		Use:   "backtest",
		Short: "Time the backtest of a synthetic fleet from kept forecasts",
		Long: `Makes a synthetic fleet and forecasts of it in a temporary directory (3.6 GB for 1,000 VMs and 30
days), then times the predictive policy through all
days but the first eight from the file. Making them is not counted.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if vms < 8 || vms > 5000 || days < 9 || days > 60 {
				return usageError{fmt.Errorf("%d VMs and %d days: want 8 to 5000 VMs and 9 to 60 days", vms, days)}
			}
			dir, err := os.MkdirTemp("", "foreshift-backtest-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			res, err := replay.Speed(c.Context(), vms, days, workers, dir, func() (float64, int64) {
				var u syscall.Rusage
				if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
					return processCPU(), 0
				}
				return processCPU(), u.Maxrss >> 10
			})
			if err != nil {
				return err
			}
			if asJSON {
				return lastLine(c.OutOrStdout(), res)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d VMs on %d hosts, %d days with %d workers: %.1f s, %.1f CPU s: %.0f times real time, %.0f a CPU-second; %d decisions, %d moves, hash %s; %d MiB resident at the most\n",
				res.VMs, res.Hosts, res.Days, res.Workers, res.Wall, res.CPU, res.Times, res.PerCPU, res.Decided, res.Moves, res.Hash, res.Resident)
			return err
		},
	}
	f := c.Flags()
	f.IntVar(&vms, "vms", 1000, "VMs of the fleet")
	f.IntVar(&days, "days", 30, "days, the first eight of which are not played")
	f.IntVar(&workers, "workers", 2, "threads")
	f.BoolVar(&asJSON, "json", false, "print one JSON object on the last line")
	return c
}
