package main

import (
	"fmt"
	"strings"
	"time"

	"context"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

func streamsCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "streams", Short: "The bus: its streams, buckets, consumers, and who may do what", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(
		changesCommand(at, "apply", "Create and update what the table says; safe to repeat", streams.Apply),
		changesCommand(at, "diff", "Say what apply would do, and do nothing", streams.Diff),
		authCommand(at),
		clusterCommand(at),
		&cobra.Command{Use: "subjects", Short: "Print the table as a page (docs/SUBJECTS.md)", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			return streams.WriteSubjects(c.OutOrStdout())
		}},
	)
	return c
}

func changesCommand(at *place, name, short string, do func(context.Context, *streams.Bus, streams.ApplyOptions) ([]streams.Change, error)) *cobra.Command {
	var hosts string
	var replicas int
	var placement bool
	c := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		o := streams.ApplyOptions{Replicas: replicas, Placement: placement}
		var err error
		if o.Hosts, err = hostList(hosts); err != nil {
			return err
		}
		if at.url == "" && at.context == "" {
			if _, err := streams.LoadState(at.state); err == nil {
				o.Scale = streams.ScaleEmbedded // as "up" made it
			}
		}
		ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
		defer cancel()
		bus, err := at.connect(ctx, "admin")
		if err != nil {
			return err
		}
		defer bus.Close()
		changes, err := do(ctx, bus, o)
		if err != nil {
			return err
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"changes": changes})
		}
		for _, x := range changes {
			fmt.Fprintln(c.OutOrStdout(), x)
		}
		if len(changes) == 0 {
			fmt.Fprintln(c.OutOrStdout(), "nothing to do: all is as the table says")
		}
		return nil
	}}
	c.Flags().StringVar(&hosts, "hosts", "", "comma-separated host ids that need a consumer for commands")
	c.Flags().IntVar(&replicas, "replicas", 1, "replicas of every stream")
	c.Flags().BoolVar(&placement, "placement", false, "put streams on servers by their tags, as `foreshift streams cluster` writes them: commands and audit on ctrl, telemetry on tel")
	return c
}

// hostList reads comma-separated host ids.
func hostList(s string) (out []schemas.HostID, err error) {
	for h := range strings.SplitSeq(s, ",") {
		if h == "" {
			continue
		}
		if err := schemas.CheckToken("host", h); err != nil {
			return nil, usageError{err}
		}
		out = append(out, schemas.HostID(h))
	}
	return out, nil
}
