package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

// tunnelCommand is the tunnels between sites: their role, and what it says of them.
func tunnelCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "tunnel [list | show]", Short: "The links between sites: what they carry, and what each move may use", Args: cobra.NoArgs}
	list := func(c *cobra.Command, _ []string) error {
		links, _, err := at.tunnels(c.Context())
		if err != nil {
			return err
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"links": links})
		}
		return tunnelRows(c.OutOrStdout(), links)
	}
	show := func(c *cobra.Command, args []string) error {
		links, v, err := at.tunnels(c.Context())
		if err != nil {
			return err
		}
		for i := range links {
			if strings.EqualFold(links[i].Link, args[0]) {
				return links[i].show(c.OutOrStdout(), at.json, v)
			}
		}
		return fmt.Errorf("no link %q; `foreshift tunnel list` names them all", args[0])
	}
	c.RunE = list
	c.AddCommand(at.watchable(&cobra.Command{Use: "list", Short: "All links", Args: cobra.NoArgs, RunE: list}),
		at.watchable(&cobra.Command{Use: "show LINK", Short: "One link, and what each of its moves may use", Args: cobra.ExactArgs(1), RunE: show}))
	run := serviceCommand(at, "tunnel", &serviceOptions{})
	run.Use = "run"
	c.AddCommand(run, tunnelRotateCommand(at), tunnelRemoveCommand(at), tunnelHoldCommand())
	return c
}

// tunnelLine is a link as its tunnel role last told of it.
type tunnelLine struct {
	Link string `json:"link"`
	schemas.CapacityLink
	Stale bool `json:"stale"` // nobody has told of it lately
}

// tunnelSilent is how long a link's role may be silent: it speaks every 2 s.
const tunnelSilent = 15 * time.Second

// tunnels are the links, with the picture of the fleet that names their VMs.
func (p *place) tunnels(ctx context.Context) ([]tunnelLine, *console.View, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	bus, done, err := p.operator(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	v, err := console.Load(ctx, bus, time.Now())
	if err != nil {
		return nil, nil, err
	}
	links, err := linksOf(ctx, bus, v.Links, v.Time)
	return links, v, err
}

// linksOf are the links by their last word, which the tunnel role has where it spoke
// lately: an agent that measures the same link may have spoken after it.
func linksOf(ctx context.Context, bus *streams.Bus, last []schemas.CapacityLink, now schemas.Time) ([]tunnelLine, error) {
	known := map[string]*schemas.CapacityLink{}
	for i := range last {
		known[streams.LinkKey(last[i].A, last[i].B)] = &last[i]
	}
	events, err := bus.History(ctx, streams.Input{Stream: streams.Capacity, Filters: []string{"capacity.link.*.*"}, From: streams.FromSince, Since: tunnelSilent})
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if m, ok := e.Msg.(*schemas.CapacityLink); ok && m.Shared {
			known[streams.LinkKey(m.A, m.B)] = m
		}
	}
	links := make([]tunnelLine, 0, len(known))
	for key, m := range known {
		links = append(links, tunnelLine{key, *m, now.Sub(m.Time) > tunnelSilent})
	}
	slices.SortFunc(links, func(a, b tunnelLine) int { return strings.Compare(a.Link, b.Link) })
	return links, nil
}

func (l *tunnelLine) state() string {
	switch {
	case l.Loss >= 1:
		return "down"
	case l.Stale:
		return "silent"
	case !l.Shared:
		return "not shared out"
	}
	return "up"
}

func tunnelRows(w io.Writer, links []tunnelLine) error {
	if len(links) == 0 {
		_, err := fmt.Fprintln(w, "no link between two sites is measured; an agent with a link probe or `foreshift tunnel run` does that")
		return err
	}
	rows := [][]string{{"LINK", "STATE", "RTT", "LOSS", "RATE", "OTHER", "RESERVED", "MOVES", "THEY USE", "LEFT FOR ONE MORE", "BY"}}
	for i := range links {
		l := &links[i]
		var sum schemas.BytesPerSecond
		waits := 0
		for _, s := range l.Shares {
			if sum += s.Rate; s.Waits {
				waits++
			}
		}
		moves := fmt.Sprint(len(l.Shares))
		if waits > 0 {
			moves += fmt.Sprintf(", %d waiting", waits)
		}
		left, reserved := "-", "-"
		if l.Shared {
			left, reserved = rate(l.Left), rate(l.Reserved)
		}
		rows = append(rows, []string{l.Link, l.state(), fmt.Sprintf("%.1f ms", float64(l.RTT)), fmt.Sprintf("%.1f %%", 100*float64(l.Loss)), rate(l.Bandwidth), rate(l.Bandwidth - l.Free), reserved, moves, rate(sum), left, dash(l.By)})
	}
	return table(w, rows...)
}

func (l *tunnelLine) show(w io.Writer, asJSON bool, v *console.View) error {
	if asJSON {
		return object(w, map[string]any{"link": l})
	}
	if err := tunnelRows(w, []tunnelLine{*l}); err != nil {
		return err
	}
	if len(l.Shares) == 0 {
		_, err := fmt.Fprintln(w, "\nno move crosses it")
		return err
	}
	fmt.Fprintln(w)
	rows := [][]string{{"VM", "COMMAND", "MAY USE", "FLOOR", "FOR ITS DEADLINE", "WHY"}}
	for _, s := range l.Shares {
		name := s.VM.String()
		for i := range v.VMs {
			if v.VMs[i].ID == s.VM {
				name = v.VMs[i].Name
			}
		}
		may, why := rate(s.Rate), "-"
		if s.Waits {
			may = "waits"
		}
		if !s.Reason.OK() {
			why = s.Reason.String()
		}
		rows = append(rows, []string{name, string(s.Command), may, rate(s.Floor), rate(s.Need), why})
	}
	return table(w, rows...)
}
