package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

// place is where a running Foreshift is found.
type place struct {
	state string // state directory of a running "up"
	url   string // of NATS; empty: as the state directory says
	json  bool
}

func (p *place) flags(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&p.state, "state", defaultState(), "state directory: keys and the address of a running one")
	f.StringVar(&p.url, "nats", "", "address of NATS, when it is not the one of the state directory")
	f.BoolVar(&p.json, "json", false, "print one JSON object on the last line")
}

// defaultState follows the XDG base directory specification.
func defaultState() string {
	if d := os.Getenv("XDG_STATE_HOME"); d != "" {
		return filepath.Join(d, "foreshift")
	}
	if h, err := os.UserHomeDir(); err == nil {
		return filepath.Join(h, ".local", "state", "foreshift")
	}
	return filepath.Join(os.TempDir(), "foreshift")
}

// connect opens the bus in a role.
func (p *place) connect(ctx context.Context, role string) (*streams.Bus, error) {
	c := streams.Credentials{URL: p.url, Role: role, Dir: p.state}
	if c.URL == "" {
		s, err := streams.LoadState(p.state)
		if err != nil {
			return nil, err
		}
		c = s.Credentials(role)
	}
	return streams.Connect(ctx, c)
}

// view reads the fleet once.
func (p *place) view(ctx context.Context) (*console.View, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	bus, err := p.connect(ctx, "operator")
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	return console.Load(ctx, bus, time.Now())
}

func statusCommand(at *place) *cobra.Command {
	return &cobra.Command{Use: "status", Short: "What runs, what is under pressure, what moved", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		v, err := at.view(c.Context())
		if err != nil {
			return err
		}
		n := v.Count()
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"hosts": len(v.Hosts), "vms": len(v.VMs), "sites": v.Sites, "mode": v.Policy.Mode, "paused": v.Paused,
				"moves": n, "pressured_hosts": pressured(v), "shortfalls": len(v.Shortfalls), "time": v.Time})
		}
		w := c.OutOrStdout()
		mode := string(v.Policy.Mode)
		if v.Paused {
			mode += ", PAUSED"
		}
		fmt.Fprintf(w, "%d hosts in %d sites, %d VMs; mode %s\n", len(v.Hosts), len(v.Sites), len(v.VMs), mode)
		fmt.Fprintf(w, "moves: %d succeeded (%d before the trouble), %d failed, %d refused, %d unknown, %d under way\n", n.Succeeded, n.Predicted, n.Failed, n.Refused, n.Unknown, n.Running)
		for _, s := range v.Shortfalls {
			fmt.Fprintf(w, "SHORTFALL at %s: %s, %s; no placement can serve it\n", s.Site, s.Resource, ahead(s.Onset, v.Time))
		}
		fmt.Fprintln(w)
		if err := table(w, hostRows(v)...); err != nil {
			return err
		}
		if len(v.Moves) == 0 {
			return nil
		}
		fmt.Fprintln(w)
		return table(w, moveRows(v, 10)...)
	}}
}

// pressured counts the hosts that will rather run short than not.
func pressured(v *console.View) (n int) {
	for i := range v.Hosts {
		if p := v.Hosts[i].Pressure; p != nil && p.Score >= .5 {
			n++
		}
	}
	return n
}

func hostCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "host [list | show | cordon | uncordon]", Short: "Hosts: load, forecast pressure, VMs", Args: cobra.NoArgs}
	list := func(c *cobra.Command, _ []string) error {
		v, err := at.view(c.Context())
		if err != nil {
			return err
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"hosts": v.Hosts})
		}
		return table(c.OutOrStdout(), hostRows(v)...)
	}
	show := func(c *cobra.Command, args []string) error {
		v, err := at.view(c.Context())
		if err != nil {
			return err
		}
		one := *v
		one.Hosts, one.VMs = nil, nil
		for _, h := range v.Hosts {
			if string(h.ID) == args[0] {
				one.Hosts = append(one.Hosts, h)
			}
		}
		if len(one.Hosts) == 0 {
			return fmt.Errorf("no host %q; `foreshift host list` names them", args[0])
		}
		for _, m := range v.VMs {
			if string(m.Host) == args[0] {
				one.VMs = append(one.VMs, m)
			}
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"host": one.Hosts[0], "vms": one.VMs})
		}
		w := c.OutOrStdout()
		if err := table(w, hostRows(&one)...); err != nil {
			return err
		}
		if p := one.Hosts[0].Pressure; p != nil {
			why(w, p.Why)
		}
		fmt.Fprintln(w)
		return table(w, vmRows(&one)...)
	}
	c.RunE = list
	c.AddCommand(&cobra.Command{Use: "list", Short: "All hosts", Args: cobra.NoArgs, RunE: list},
		&cobra.Command{Use: "show HOST", Short: "One host and its VMs", Args: cobra.ExactArgs(1), RunE: show},
		cordonCommand(at, "cordon HOST", "No VM moves to the host until it is uncordoned"), cordonCommand(at, "uncordon HOST", "VMs may move to the host again"))
	return c
}

func vmCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "vm [list | show VM]", Short: "VMs: place, pressure and its cause, best move", Args: cobra.NoArgs}
	list := func(c *cobra.Command, _ []string) error {
		v, err := at.view(c.Context())
		if err != nil {
			return err
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"vms": v.VMs})
		}
		return table(c.OutOrStdout(), vmRows(v)...)
	}
	show := func(c *cobra.Command, args []string) error {
		v, err := at.view(c.Context())
		if err != nil {
			return err
		}
		one := *v
		m, err := pickVM(v, args[0])
		if err != nil {
			return err
		}
		one.VMs, one.Moves = []console.VM{m}, nil
		for _, x := range v.Moves {
			if x.Command.VM == m.ID {
				one.Moves = append(one.Moves, x)
			}
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"vm": m, "moves": one.Moves})
		}
		w := c.OutOrStdout()
		if err := table(w, vmRows(&one)...); err != nil {
			return err
		}
		for _, p := range []*schemas.PressureVM{m.OwnLimit, m.Contention} {
			if p != nil && p.Score > 0 {
				ch := p.Chances[p.Resource]
				fmt.Fprintf(w, "\n%s of %s: %s within 1 h, %s within 6 h, %s within 24 h; onset %s; peak %.0f against a limit of %.0f\n",
					p.Cause, p.Resource, percent(ch.H1), percent(ch.H6), percent(ch.H24), ahead(p.Onset, v.Time), p.Peak, p.Limit)
				why(w, p.Why)
			}
		}
		if b := m.Benefit; b != nil && len(b.WhyNot) > 0 {
			fmt.Fprintln(w, "\nwhy not elsewhere:")
			for _, d := range b.WhyNot {
				fmt.Fprintf(w, "  %s: %s\n", d.Host, d.Reason)
			}
		}
		if len(one.Moves) > 0 {
			fmt.Fprintln(w)
			return table(w, moveRows(&one, 20)...)
		}
		return nil
	}
	c.RunE = list
	c.AddCommand(&cobra.Command{Use: "list", Short: "All VMs, the most pressed first", Args: cobra.NoArgs, RunE: list},
		&cobra.Command{Use: "show VM", Short: "One VM, by name or UUID", Args: cobra.ExactArgs(1), RunE: show})
	return c
}

func planCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "plan [list | show | approve | skip]", Short: "Plans: what moves, when and why, and what does not", Args: cobra.NoArgs}
	list := func(c *cobra.Command, _ []string) error {
		v, err := at.view(c.Context())
		if err != nil {
			return err
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"plans": v.Plans, "moves": v.Count()})
		}
		return table(c.OutOrStdout(), planRows(v)...)
	}
	show := func(c *cobra.Command, args []string) error {
		v, err := at.view(c.Context())
		if err != nil {
			return err
		}
		for i := range v.Plans {
			if p := &v.Plans[i]; string(p.ID) == args[0] || args[0] == "last" {
				if at.json {
					return object(c.OutOrStdout(), p)
				}
				return planText(c.OutOrStdout(), p, v.Time)
			}
		}
		return fmt.Errorf("no plan %q among the newest; `foreshift plan list` names them", args[0])
	}
	c.RunE = list
	c.AddCommand(&cobra.Command{Use: "list", Short: "The newest plans", Args: cobra.NoArgs, RunE: list},
		&cobra.Command{Use: "show PLAN", Short: "One plan whole, with every reason (\"last\" is the newest)", Args: cobra.ExactArgs(1), RunE: show},
		planAct(at, "approve PLAN", "Approve a plan, or one action of it, in mode approve"), planAct(at, "skip PLAN", "Skip a plan, or one action of it"))
	return c
}
