package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
)

// hostLine is a host with the operator's word on it.
type hostLine struct {
	console.Host
	State    string            `json:"state"`
	Draining *console.Draining `json:"draining,omitempty"`
}

func (p *picture) hostLine(h *console.Host) hostLine {
	l := hostLine{Host: *h, State: p.HostState(h)}
	if d, on := p.Drain(h.ID); on {
		l.Draining = &d
	}
	return l
}

func hostCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "host [list | show | cordon | uncordon | drain]", Short: "Hosts: load, forecast pressure, VMs, maintenance", Args: cobra.NoArgs}
	list := func(c *cobra.Command, _ []string) error {
		p, err := at.picture(c.Context())
		if err != nil {
			return err
		}
		if at.json {
			lines := make([]hostLine, 0, len(p.Hosts))
			for i := range p.Hosts {
				lines = append(lines, p.hostLine(&p.Hosts[i]))
			}
			return object(c.OutOrStdout(), map[string]any{"hosts": lines})
		}
		return table(c.OutOrStdout(), p.stateRows(p.View)...)
	}
	show := func(c *cobra.Command, args []string) error {
		p, err := at.picture(c.Context())
		if err != nil {
			return err
		}
		return p.showHost(c.OutOrStdout(), at.json, args[0])
	}
	c.RunE = list
	c.AddCommand(&cobra.Command{Use: "list", Short: "All hosts", Args: cobra.NoArgs, RunE: list},
		&cobra.Command{Use: "show HOST", Short: "One host, its VMs, and how far its emptying has come", Args: cobra.ExactArgs(1), RunE: show},
		cordonCommand(at, "cordon HOST", "No VM moves to the host until it is uncordoned"),
		cordonCommand(at, "uncordon HOST", "VMs may move to the host again; ends a drain"),
		drainCommand(at))
	return c
}

// stateRows are the rows of the hosts with the operator's word on each.
func (p *picture) stateRows(v *console.View) [][]string {
	rows := hostRows(v)
	for i := range rows {
		state := "STATE"
		if i > 0 {
			state = p.HostState(&v.Hosts[i-1])
		}
		rows[i] = append(rows[i][:2:2], append([]string{state}, rows[i][2:]...)...)
	}
	return rows
}

func (p *picture) showHost(w io.Writer, asJSON bool, name string) error {
	h, err := p.find(name)
	if err != nil {
		return err
	}
	one := *p.View
	one.Hosts, one.VMs = []console.Host{*h}, nil
	for _, m := range p.VMs {
		if m.Host == h.ID {
			one.VMs = append(one.VMs, m)
		}
	}
	if asJSON {
		return object(w, map[string]any{"host": p.hostLine(h), "vms": one.VMs, "report": p.Reports[h.ID]})
	}
	if err := table(w, p.stateRows(&one)...); err != nil {
		return err
	}
	if x := h.Pressure; x != nil {
		why(w, x.Why)
	}
	if r := p.Reports[h.ID]; r != nil {
		fmt.Fprintf(w, "\nCPU %s, %.2g of the reference speed; libvirt %s, QEMU %s", dash(r.CPUModel), float64(r.Speed), release(r.Libvirt), release(r.QEMU))
		if r.Domain != "" {
			fmt.Fprintf(w, "; failure domain %s", r.Domain)
		}
		fmt.Fprintln(w)
		for _, s := range r.Pools {
			kind := "local"
			if s.Shared {
				kind = "shared"
			}
			fmt.Fprintf(w, "storage pool %s (%s): %s of %s GiB free\n", s.Name, kind, gib(s.Free), gib(s.Capacity))
		}
	}
	if d, on := p.Drain(h.ID); on {
		fmt.Fprintln(w)
		if err := writeDrain(w, &d, p.Time); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	return table(w, vmRows(&one)...)
}

func dash(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// release writes libvirt's number of a version.
func release(v uint64) string {
	if v == 0 {
		return "unknown"
	}
	return fmt.Sprintf("%d.%d.%d", v/1000000, v/1000%1000, v%1000)
}

func writeDrain(w io.Writer, d *console.Draining, now schemas.Time) error {
	since := ""
	if d.Since != 0 {
		since = " for " + now.Sub(d.Since).Round(time.Second).String()
	}
	if len(d.Left) == 0 {
		_, err := fmt.Fprintf(w, "%s is empty: %d have left\n", d.Host, d.Moved)
		return err
	}
	fmt.Fprintf(w, "%s%s: %d have left, %d are there\n", d.Why.Detail, since, d.Moved, len(d.Left))
	rows := [][]string{{"VM", "STATE", "TO", "WHY"}}
	for _, l := range d.Left {
		reason := l.Reason.String()
		if l.Reason.OK() {
			reason = l.Reason.Detail
		}
		rows = append(rows, []string{l.Name, l.State, string(l.To), reason})
	}
	return table(w, rows...)
}

// drainPoll is how often a drain that is waited for is looked at.
const drainPoll = time.Second

func drainCommand(at *place) *cobra.Command {
	var wait time.Duration
	c := cordonCommand(at, "drain HOST", "Empty the host before anything is balanced; no VM moves there until it is uncordoned")
	publish := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := publish(c, args); err != nil || wait <= 0 {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), wait)
		defer cancel()
		return at.waitEmpty(ctx, c.OutOrStdout(), args[0])
	}
	c.Flags().DurationVar(&wait, "wait", 0, "wait at most this long until the host is empty, and show the progress")
	return c
}

// waitEmpty shows how the emptying of a host goes on until it is done.
func (p *place) waitEmpty(ctx context.Context, w io.Writer, host string) error {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not empty yet; `foreshift host show %s` says what is left and why", host, host)
		case <-tick.C:
		}
		v, err := p.picture(ctx)
		if err != nil {
			if ctx.Err() != nil {
				continue
			}
			return err
		}
		d, on := v.Drain(schemas.HostID(host))
		if !on { // the act has not been read back yet
			continue
		}
		if p.json {
			if len(d.Left) == 0 {
				return object(w, d)
			}
			continue
		}
		moving := 0
		for _, l := range d.Left {
			if l.State == "moving" {
				moving++
			}
		}
		line := fmt.Sprintf("%d left, %d of them moving; %d have gone", len(d.Left), moving, d.Moved)
		if line != last {
			fmt.Fprintln(w, line)
			last = line
		}
		if len(d.Left) == 0 {
			return nil
		}
	}
}
