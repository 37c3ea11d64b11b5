package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/foreshift/foreshift/benchmarks/shift"
	"github.com/spf13/cobra"
)

func benchShift() *cobra.Command {
	var seed uint64
	var plot string
	var json bool
	c := &cobra.Command{
		Use:   "shift",
		Short: "Show how forecasts recover when a pattern changes",
		Long: `Walks the ensemble and its models through a made-up stream that has a daily wave for a
week and then wanders without one, and prints the loss one to four hours ahead on the
last day before the change, the first and the third after it. --plot draws it by the
hour, and the experts' weights beside it.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			res, err := shift.Run(c.Context(), seed, 0)
			if err != nil {
				return err
			}
			if plot != "" {
				loss, weights := res.Plot()
				if err := os.WriteFile(plot, loss, 0o644); err != nil {
					return fmt.Errorf("--plot: %w", err)
				}
				if weights != nil {
					if err := os.WriteFile(strings.TrimSuffix(plot, ".svg")+"-weights.svg", weights, 0o644); err != nil {
						return fmt.Errorf("--plot: %w", err)
					}
				}
			}
			type days struct {
				Before float64 `json:"before"`
				First  float64 `json:"first_day"`
				Third  float64 `json:"third_day"`
			}
			all := map[string]days{}
			for _, m := range shift.Models {
				d := days{res.Mean(m, -24, 0), res.Mean(m, 0, 24), res.Mean(m, 48, 72)}
				all[m] = d
				if !json {
					fmt.Fprintf(c.OutOrStdout(), "%-16s before %6.3f  first day %6.3f  third day %6.3f\n", m, d.Before, d.First, d.Third)
				}
			}
			if json {
				return lastLine(c.OutOrStdout(), map[string]any{"seed": seed, "models": all})
			}
			return nil
		},
	}
	c.Flags().Uint64Var(&seed, "seed", 1, "of the stream")
	c.Flags().StringVar(&plot, "plot", "", "draw the losses into this SVG `file`, and weights into FILE-weights.svg")
	c.Flags().BoolVar(&json, "json", false, "print one JSON object on the last line")
	return c
}
