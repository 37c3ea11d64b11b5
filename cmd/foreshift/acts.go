package main

import (
	"context"
	"fmt"
	"os/user"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/nats-io/nuid"
	"github.com/spf13/cobra"
)

// actCommand makes the command of an act without further fields.
func actCommand(at *place, kind string) *cobra.Command {
	short := map[string]string{"pause": "Stop new moves at once; moves under way finish", "resume": "Allow new moves again"}[kind]
	var why string
	c := &cobra.Command{Use: kind, Short: short, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		seq, err := act(c.Context(), at, &schemas.Act{Act: schemas.ActKind(kind), Why: why})
		if err != nil {
			return err
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"act": kind, "sequence": seq})
		}
		fmt.Fprintf(c.OutOrStdout(), "%s: recorded as act %d\n", kind, seq)
		return nil
	}}
	c.Flags().StringVar(&why, "why", "", "reason, for the record")
	return c
}

// act publishes a signed act of the person at the terminal.
func act(ctx context.Context, at *place, a *schemas.Act) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	bus, err := at.connect(ctx, "operator")
	if err != nil {
		return 0, err
	}
	defer bus.Close()
	a.ID, a.By, a.Time = nuid.Next(), "operator", schemas.At(time.Now())
	if u, err := user.Current(); err == nil {
		a.By = u.Username
	}
	return bus.Publish(ctx, streams.Out{Subject: streams.SubjectAct(a.Act), ID: a.ID, Msg: a})
}
