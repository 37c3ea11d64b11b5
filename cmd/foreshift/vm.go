package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/internal/explain"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
)

func vmCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "vm", Short: "VMs: place, pressure and its cause, best move", Args: cobra.NoArgs}
	var wide bool
	list := func(c *cobra.Command, _ []string) error {
		return at.show(c, func(ctx context.Context, w io.Writer) error {
			v, err := at.view(ctx)
			switch {
			case err != nil:
				return err
			case at.json:
				return object(w, map[string]any{"vms": v.VMs})
			case len(v.VMs) == 0:
				_, err := fmt.Fprintln(w, "no VM was reported yet; `foreshift map` says which hosts are heard of")
				return err
			}
			return table(w, vmRows(v, wide || namesakes(v))...)
		})
	}
	show := func(c *cobra.Command, args []string) error {
		return at.show(c, func(ctx context.Context, w io.Writer) error {
			p, err := at.picture(ctx)
			if err != nil {
				return err
			}
			m, err := pickVM(p.View, args[0])
			if err != nil {
				return err
			}
			if at.json {
				return object(w, map[string]any{"vm": m, "inventory": p.Inventory[m.ID], "moves": p.MovesOf(m.ID)})
			}
			return p.showVM(w, m)
		})
	}
	c.RunE = list
	all := &cobra.Command{Use: "list", Short: "All VMs, the most pressed first", Args: cobra.NoArgs, RunE: list}
	for _, x := range []*cobra.Command{c, all} {
		x.Flags().BoolVar(&wide, "wide", false, "with the UUIDs")
	}
	c.AddCommand(at.watchable(all), at.watchable(&cobra.Command{Use: "show VM", Short: "One VM, by name or UUID", Args: cobra.ExactArgs(1), RunE: show, ValidArgsFunction: at.vmNames}))
	return at.watchable(c)
}

// namesakes reports whether two VMs have one name.
func namesakes(v *console.View) bool {
	seen := make(map[string]bool, len(v.VMs))
	for i := range v.VMs {
		if seen[v.VMs[i].Name] {
			return true
		}
		seen[v.VMs[i].Name] = true
	}
	return false
}

func (p *picture) showVM(w io.Writer, m console.VM) error {
	one := *p.View
	one.VMs, one.Moves = []console.VM{m}, p.MovesOf(m.ID)
	if err := table(w, vmRows(&one, true)...); err != nil {
		return err
	}
	if inv := p.Inventory[m.ID]; inv != nil {
		p.inventory(w, inv)
	}
	for _, x := range []*schemas.PressureVM{m.OwnLimit, m.Contention} {
		if x != nil && x.Score > 0 {
			ch := x.Chances[x.Resource]
			fmt.Fprintf(w, "\n%s of %s: %s within 1 h, %s within 6 h, %s within 24 h; onset %s; peak %s against a limit of %s\n",
				x.Cause, x.Resource, percent(ch.H1), percent(ch.H6), percent(ch.H24), ahead(x.Onset, p.Time), explain.Amount(x.Resource, x.Peak), explain.Amount(x.Resource, x.Limit))
			why(w, x.Why)
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
		if err := table(w, moveRows(&one, 20)...); err != nil {
			return err
		}
	}
	return effectText(w, one.Moves)
}

// inventory tells what the host knows of the VM, and which rules speak of it.
func (p *picture) inventory(w io.Writer, v *schemas.InventoryVM) {
	dirty := "not measured"
	if v.DirtyRate > 0 {
		dirty = fmt.Sprintf("%.1f MB/s, at times %.1f", float64(v.DirtyRate)/1e6, float64(v.DirtyHigh)/1e6)
	}
	fmt.Fprintf(w, "\n%d vCPUs of model %s; %s GiB resident; dirties memory at %s; weight %.3g\n", v.VCPUs, dash(v.CPUModel), gib(v.Resident), dirty, policy.Weight(p.Policy, v.Labels))
	for _, d := range v.Disks {
		kind := "local: it must be copied along"
		if d.Shared {
			kind = "shared"
		}
		fmt.Fprintf(w, "disk %s, %s GiB, %s (%s)\n", d.Target, gib(d.Size), d.Path, kind)
	}
	if !v.Movable {
		fmt.Fprintf(w, "cannot move live: %s\n", v.WhyPinned)
	}
	if sites, bound := policy.Sites(p.Policy, v.Labels); bound {
		words := make([]string, len(sites))
		for i, s := range sites {
			words[i] = string(s)
		}
		fmt.Fprintf(w, "may be only at: %s\n", strings.Join(words, ", "))
	}
	host := p.Policy.Mode
	if m, ok := p.Policy.HostModes[p.hostOf(v.VM)]; ok {
		host = m
	}
	fmt.Fprintf(w, "mode %s\n", policy.ModeOf(p.Policy, v.VM, v.Labels, host))
}

func (p *picture) hostOf(v schemas.VMID) schemas.HostID {
	for i := range p.VMs {
		if p.VMs[i].ID == v {
			return p.VMs[i].Host
		}
	}
	return ""
}
