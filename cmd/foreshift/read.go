package main

import (
	"context"
	"fmt"
	"io"
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
	state   string // state directory of a running "up", or of keys
	url     string // of NATS; empty: as the state directory says
	config  string // configuration file; empty: the installed one, if there is one
	context string // name of a context of the nats command line
	json    bool
	look    looking
}

func (p *place) flags(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringVar(&p.state, "state", defaultState(), "state directory: keys and the address of a running one")
	f.StringVar(&p.url, "nats", "", "address of NATS, when it is not the one of the state directory")
	f.StringVar(&p.context, "context", "", "find the fleet by a context of the nats command line (or $FORESHIFT_CONTEXT)")
	f.StringVar(&p.config, "config", "", "configuration file (or $FORESHIFT_CONFIG; default "+filepath.Join(configDir, configFile)+" if there is one)")
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
	c, err := p.credentials(role)
	if err != nil {
		return nil, err
	}
	return streams.Connect(ctx, c)
}

// credentials are those of the context, of the address that was given, or of the
// "up" that runs in the state directory.
func (p *place) credentials(role string) (streams.Credentials, error) {
	name := p.context
	if name == "" && p.url == "" {
		name = os.Getenv("FORESHIFT_CONTEXT")
	}
	if name != "" {
		return natsContext(name, role)
	}
	if p.url != "" {
		return streams.Credentials{URL: p.url, Role: role, Dir: p.state}, nil
	}
	s, err := streams.LoadState(p.state)
	if err != nil {
		return streams.Credentials{}, fmt.Errorf("%w, or say where a fleet is with --context NAME, or with --nats URL --state DIR", err)
	}
	return s.Credentials(role), nil
}

// loadLimit bounds one look at the fleet.
const loadLimit = 30 * time.Second

// view reads the fleet once.
func (p *place) view(ctx context.Context) (*console.View, error) {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	bus, done, err := p.operator(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return console.Load(ctx, bus, time.Now())
}

func statusCommand(at *place) *cobra.Command {
	var check bool
	c := &cobra.Command{Use: "status", Short: "What runs, what is under pressure, what moved, and what asks for you", Args: cobra.NoArgs,
		Long: `The fleet on one page: its mode, the moves by how they ended, what asks for a person
with the command to type next, every host with the chance that it runs short, and the
newest moves.

With --check the exit code is 1 when something asks for a person, for monitoring.`,
		Example: "foreshift status\nforeshift status --json",
	}
	c.RunE = func(c *cobra.Command, _ []string) error {
		asks := 0
		err := at.show(c, func(ctx context.Context, w io.Writer) error {
			p, err := at.picture(ctx)
			if err != nil {
				return err
			}
			asks = len(p.asks())
			return p.status(w, at.json)
		})
		if err == nil && check && asks > 0 {
			return fmt.Errorf("%s for a person; `foreshift status` says what to do", map[bool]string{true: "1 thing asks", false: fmt.Sprint(asks, " things ask")}[asks == 1])
		}
		return err
	}
	c.Flags().BoolVar(&check, "check", false, "exit 1 when something asks for a person")
	return at.watchable(c)
}

// status writes the fleet on one page.
func (p *picture) status(w io.Writer, asJSON bool) error {
	n, asks := p.Count(), p.asks()
	if asJSON {
		return object(w, map[string]any{"hosts": len(p.Hosts), "vms": len(p.VMs), "sites": p.Sites, "mode": p.Policy.Mode, "paused": p.Paused,
			"moves": n, "pressured_hosts": pressured(p.View), "shortfalls": len(p.Shortfalls), "asks": asks, "time": p.Time})
	}
	out := on(w)
	mode := string(p.Policy.Mode)
	if p.Paused {
		mode += ", " + out.paint(red, "PAUSED")
	}
	fmt.Fprintf(w, "%s in %s, %s; mode %s\n", count(len(p.Hosts), "host"), count(len(p.Sites), "site"), count(len(p.VMs), "VM"), mode)
	fmt.Fprintf(w, "moves: %d succeeded (%d before the trouble), %d failed, %d refused, %d unknown, %d under way\n", n.Succeeded, n.Predicted, n.Failed, n.Refused, n.Unknown, n.Running)
	if p.Base != schemas.DefaultBase {
		fmt.Fprintf(w, "time is sped up here: a day of %d steps of %s lasts %s\n", schemas.StepsPerDay, p.Base, p.Base*schemas.StepsPerDay)
	}
	if len(asks) > 0 {
		fmt.Fprintf(w, "\n%s\n", out.paint(bold, "asks for you:"))
		for _, a := range asks {
			fmt.Fprintf(w, "  %s; `%s`\n", out.paint(red, a.What), a.Next)
		}
	}
	fmt.Fprintln(w)
	if len(p.Hosts) == 0 {
		_, err := fmt.Fprintln(w, noHosts)
		return err
	}
	if err := table(w, hostRows(p.View)...); err != nil {
		return err
	}
	if len(p.Moves) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return table(w, moveRows(p.View, 10)...)
}

// noHosts is said where a fleet is empty.
const noHosts = "no host has reported yet: start foreshift-agent on one; `foreshift preflight` says whether a host is fit"

// ask is something that waits for a person, with the command to type next.
type ask struct {
	What string `json:"what"`
	Next string `json:"next"`
}

// asks are what waits for a person, the gravest first.
func (p *picture) asks() []ask {
	out := []ask{}
	say := func(next, format string, a ...any) { out = append(out, ask{fmt.Sprintf(format, a...), next}) }
	for i := range p.VMs {
		if m := &p.VMs[i]; len(m.Hosts) > 1 {
			say("foreshift explain "+m.Name, "%s runs on %v at once", m.Name, m.Hosts)
		}
	}
	for i := range p.Moves {
		m := &p.Moves[i]
		if o := m.Outcome; o != nil && o.Result == schemas.ResultUnknown {
			say("foreshift resolve "+m.Command.Name+" --runs-at HOST", "nobody knows where %s runs since its move from %s to %s", m.Command.Name, m.Command.Source, m.Command.Destination)
		}
	}
	for i := range p.Hosts {
		if h := &p.Hosts[i]; h.Stale {
			say("foreshift host show "+string(h.ID), "%s was heard of %s", h.ID, ago(h.Seen, p.Time))
		}
	}
	for _, s := range p.Shortfalls {
		say("foreshift explain", "%s at %s runs short %s, and no move relieves it", s.Resource, s.Site, ahead(s.Onset, p.Time))
	}
	if pl := p.Newest(); pl != nil {
		for i := range pl.Actions {
			if a := &pl.Actions[i]; a.Hold.Code == schemas.ReasonNeedsApproval {
				say(fmt.Sprintf("foreshift plan approve %s --action %s", pl.ID, a.ID), "the move of %s from %s to %s waits for approval, at the latest %s", a.Name, a.Source, a.Destination, ahead(a.Latest, p.Time))
			}
		}
	}
	if p.Paused {
		say("foreshift resume", "moves are paused")
	}
	return out
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
