package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/foreshift/foreshift/console"
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
