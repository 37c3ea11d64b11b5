package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
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
	c := &cobra.Command{Use: "host", Short: "Hosts: load, forecast pressure, VMs, maintenance", Args: cobra.NoArgs}
	list := func(c *cobra.Command, _ []string) error {
		return at.show(c, func(ctx context.Context, w io.Writer) error {
			p, err := at.picture(ctx)
			switch {
			case err != nil:
				return err
			case at.json:
				lines := make([]hostLine, 0, len(p.Hosts))
				for i := range p.Hosts {
					lines = append(lines, p.hostLine(&p.Hosts[i]))
				}
				return object(w, map[string]any{"hosts": lines})
			case len(p.Hosts) == 0:
				_, err := fmt.Fprintln(w, noHosts)
				return err
			}
			return table(w, hostRows(p.View)...)
		})
	}
	show := func(c *cobra.Command, args []string) error {
		return at.show(c, func(ctx context.Context, w io.Writer) error {
			p, err := at.picture(ctx)
			if err != nil {
				return err
			}
			return p.showHost(w, at.json, args[0])
		})
	}
	c.RunE = list
	c.AddCommand(at.watchable(&cobra.Command{Use: "list", Short: "All hosts", Args: cobra.NoArgs, RunE: list}),
		at.watchable(&cobra.Command{Use: "show HOST", Short: "One host, its VMs, and how far its emptying has come", Args: cobra.ExactArgs(1), RunE: show, ValidArgsFunction: at.hostNames}),
		cordonCommand(at, "cordon"), cordonCommand(at, "uncordon"), drainCommand(at))
	return at.watchable(c)
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
	if err := table(w, hostRows(&one)...); err != nil {
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
	return table(w, vmRows(&one, namesakes(&one))...)
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
	c := cordonCommand(at, "drain")
	publish := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := publish(c, args); err != nil || wait <= 0 {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), wait)
		defer cancel()
		return at.waitEmpty(ctx, c.OutOrStdout(), args[0])
	}
	c.Flags().DurationVar(&wait, "wait", 0, "wait at most this long until the host is empty, and show the progress; exit 1 when it is not")
	return c
}

// waitEmpty shows how the emptying of a host goes on until it is done. Ctrl-C ends
// the waiting, not the drain.
func (p *place) waitEmpty(ctx context.Context, w io.Writer, host string) error {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	say := newStory(w)
	most, last := 0, ""
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not empty yet, and goes on being emptied; `foreshift host show %s` says what is left and why, `foreshift host uncordon %s` ends it", host, host, host)
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
		most = max(most, d.Moved+len(d.Left))
		moving, stays := 0, map[schemas.ReasonCode]int{}
		for _, l := range d.Left {
			switch {
			case l.State == "moving":
				moving++
			case !l.Reason.OK():
				stays[l.Reason.Code]++
			}
		}
		text := fmt.Sprintf("%d gone, %d moving", most-len(d.Left), moving)
		for _, code := range slices.Sorted(maps.Keys(stays)) {
			text += fmt.Sprintf(", %d %s", stays[code], code)
		}
		say.bar("drain "+host, most-len(d.Left), most, text, text != last)
		last = text
		if len(d.Left) == 0 {
			say.line("%s is empty; `foreshift host uncordon %s` lets VMs move there again", host, host)
			return nil
		}
	}
}
