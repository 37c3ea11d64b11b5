package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/internal/explain"
	"github.com/spf13/cobra"
)

func explainCommand(at *place) *cobra.Command {
	c := &cobra.Command{
		Use:   "explain [VM]",
		Short: "Why a VM moves or stays: this VM, this host, not that one, now; without a VM: why nothing moves",
		Long: `Tells from the placer's own records why a VM moves or stays: whether it runs short and
why, why this host and not each other one, why now, what happened before, and what a
person can do about it. Without a VM: what moves, or why nothing does. The console and
its API tell it in the same words.`,
		Example:           "foreshift explain",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: at.vmNames,
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		return at.show(c, func(ctx context.Context, w io.Writer) error {
			ctx, cancel := context.WithTimeout(ctx, loadLimit)
			defer cancel()
			bus, done, err := at.operator(ctx)
			if err != nil {
				return err
			}
			defer done()
			var story explain.Story
			if len(args) == 1 {
				v, err := console.LoadVM(ctx, bus, time.Now(), args[0])
				if err != nil {
					return whichVM(err)
				}
				m, err := pickVM(v, args[0])
				if err != nil {
					return err
				}
				story = v.Explain(&m)
			} else {
				v, err := console.LoadFleet(ctx, bus, time.Now())
				if err != nil {
					return err
				}
				story = v.ExplainFleet()
			}
			if at.json {
				return object(w, story)
			}
			_, err = fmt.Fprint(w, story)
			return err
		})
	}
	return at.watchable(c)
}
