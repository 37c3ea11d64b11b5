package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/internal/service"
	"github.com/foreshift/foreshift/internal/stack"
	"github.com/spf13/cobra"
)

func labCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "lab", Short: "Real libvirtd and QEMU in network namespaces of this machine (root)", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var level, agent string
	var days int
	var base time.Duration
	demo := &cobra.Command{Use: "demo", Short: "A guest's load recurs; Foreshift foresees it and moves a VM before the host's limit is crossed", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := service.Logger(os.Stderr, level, false)
			if err != nil {
				return usageError{err}
			}
			if agent == "" {
				if agent, err = stack.FindAgent(); err != nil {
					return err
				}
			}
			v, err := lab.Demo(c.Context(), lab.DemoConfig{Stack: stack.NewLab(agent, log), Out: c.OutOrStdout(), Base: base, Days: days})
			if err != nil {
				return err
			}
			if at.json {
				if err := object(c.OutOrStdout(), v); err != nil {
					return err
				}
			}
			if !v.OK {
				return errors.New("the demonstration did not show what it should; see the verdict above")
			}
			return nil
		}}
	f := demo.Flags()
	f.StringVar(&level, "log", "warn", "log level of the services: debug, info, warn or error")
	f.StringVar(&agent, "agent", "", "the foreshift-agent binary; default: beside this one, or on the PATH")
	f.IntVar(&days, "days", 2, "days that are only observed before Foreshift may act")
	f.DurationVar(&base, "base-step", 250*time.Millisecond, "length of a base step; a day is 288 of them")
	up := &cobra.Command{Use: "up", Short: "Three hosts with a guest, kept until Ctrl-C", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) (err error) {
		out := c.OutOrStdout()
		l, err := lab.Up(c.Context(), lab.Config{Progress: func(s string) { fmt.Fprintln(out, s) }})
		if err != nil {
			return err
		}
		if _, err := l.StartGuest(c.Context(), l.Hosts[0], lab.GuestSpec{Name: "vm1"}); err != nil {
			return errors.Join(err, l.Down(context.WithoutCancel(c.Context())))
		}
		for _, h := range l.Hosts {
			fmt.Fprintf(out, "%s: virsh -c '%s' list --all\n", h.ID, h.URI)
		}
		<-c.Context().Done()
		return l.Down(context.WithoutCancel(c.Context()))
	}}
	down := &cobra.Command{Use: "down", Short: "Remove what a killed lab has left behind", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		say := func(s string) { fmt.Fprintln(c.OutOrStdout(), s) }
		left, err := lab.Clean(c.Context(), true, say)
		if err == nil && len(left) == 0 {
			say("nothing was left behind")
		}
		return err
	}}
	c.AddCommand(demo, up, down, labMatrixCommand(at), labHandoverCommand(at), labCostsCommand(at), labPartCommand())
	return c
}
