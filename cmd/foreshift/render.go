package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/schemas"
)

// object prints one JSON object on the last line, as every --json does.
func object(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func cores(m schemas.MilliCPU) string { return fmt.Sprintf("%.1f", float64(m)/1000) }

func gib(b schemas.Bytes) string { return fmt.Sprintf("%.1f", float64(b)/(1<<30)) }

func percent(r schemas.Ratio) string { return fmt.Sprintf("%.0f %%", 100*float64(r)) }

// ahead says when something is expected, as seen from now.
func ahead(t, now schemas.Time) string {
	if t == 0 {
		return "-"
	}
	d := t.Sub(now).Round(time.Second)
	if d <= 0 {
		return "now"
	}
	return "in " + schemas.Span(d)
}

// ago says how old something is.
func ago(t, now schemas.Time) string {
	if t == 0 {
		return "never"
	}
	return schemas.Span(max(now.Sub(t), 0).Round(100*time.Millisecond)) + " ago"
}

func share(part, whole float64) string {
	if whole <= 0 || math.IsNaN(part/whole) {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*part/whole)
}

// hostRows are the rows of hosts, with the operator's word on each.
func hostRows(v *console.View) [][]string {
	rows := [][]string{{"HOST", "SITE", "STATE", "VMS", "CPU", "OF CORES", "MEM", "OF GIB", "PRESSURE 1H", "6H", "24H", "SHORT OF", "ONSET", "SEEN"}}
	for i := range v.Hosts {
		h := &v.Hosts[i]
		row := []string{string(h.ID), string(h.Site), v.HostState(h), fmt.Sprint(h.VMs), share(float64(h.Used.CPU), float64(h.Capacity.CPU)), cores(h.Capacity.CPU),
			share(float64(h.Used.Mem), float64(h.Capacity.Mem)), gib(h.Capacity.Mem)}
		if p := h.Pressure; p != nil {
			c := p.Chances[p.Resource]
			short := "-"
			if p.Score > 0 {
				short = p.Resource
			}
			row = append(row, percent(c.H1), percent(c.H6), percent(c.H24), short, ahead(p.Onset, v.Time))
		} else {
			row = append(row, "-", "-", "-", "-", "-")
		}
		seen := ago(h.Seen, v.Time)
		if h.Stale {
			seen += " STALE"
		}
		rows = append(rows, append(row, seen))
	}
	return rows
}

// vmRows are the rows of VMs; wide adds their UUIDs, without which VMs of one name
// cannot be told apart.
func vmRows(v *console.View, wide bool) [][]string {
	head := []string{"VM", "HOST", "STATE", "CORES", "GIB", "PRESSURE", "CAUSE", "ONSET", "BEST MOVE"}
	if wide {
		head = append([]string{"UUID"}, head...)
	}
	rows := [][]string{head}
	for i := range v.VMs {
		m := &v.VMs[i]
		p := m.OwnLimit
		if m.Contention != nil && (p == nil || m.Contention.Score > p.Score) {
			p = m.Contention
		}
		pressure, cause, onset := "-", "-", "-"
		if p != nil && p.Score > 0 {
			pressure, cause, onset = percent(p.Score), string(p.Cause)+"/"+p.Resource, ahead(p.Onset, v.Time)
		}
		best := "-"
		if b := m.Benefit; b != nil {
			best = b.Reason.String()
			if b.Destination != "" {
				best = fmt.Sprintf("%s, saves %.0f core-s", b.Destination, b.Gain.Benefit)
			}
		}
		host := string(m.Host)
		if len(m.Hosts) > 1 {
			host = fmt.Sprint("RUNS TWICE ", m.Hosts)
		}
		row := []string{m.Name, host, string(m.State), cores(m.AllocCPU), gib(m.AllocMem), pressure, cause, onset, best}
		if wide {
			row = append([]string{m.ID.String()}, row...)
		}
		rows = append(rows, row)
	}
	return rows
}

func moveRows(v *console.View, most int) [][]string {
	rows := [][]string{{"EPOCH", "VM", "FROM", "TO", "STATE", "TOOK", "DOWNTIME", "THE TROUBLE", "WHY"}}
	for i := range v.Moves {
		if i == most {
			break
		}
		m := &v.Moves[i]
		c := &m.Command
		state, took, down, lead := "commanded", "-", "-", "-"
		if p := m.Progress; p != nil {
			state = string(p.Phase)
			if p.Total > 0 && p.Phase == schemas.PhasePreCopy {
				state += " " + share(float64(p.Processed), float64(p.Processed+p.Remaining))
			}
		}
		why := c.Reason.Detail
		if o := m.Outcome; o != nil {
			state = string(o.Result)
			took = fmt.Sprintf("%.1f s", float64(o.Duration))
			down = fmt.Sprintf("%.0f ms", float64(o.Downtime))
			if t := m.Timing(); t != "" {
				lead = t
			}
			if !o.Reason.OK() {
				why = o.Reason.String()
			}
		}
		rows = append(rows, []string{fmt.Sprint(m.Epoch), c.Name, string(c.Source), string(c.Destination), state, took, down, lead, why})
	}
	return rows
}

func planRows(v *console.View) [][]string {
	rows := [][]string{{"PLAN", "TIME", "MODE", "MOVES", "DECLINED", "UNMET WITHOUT CORE-S", "UNMET WITH CORE-S"}}
	for i := range v.Plans {
		p := &v.Plans[i]
		rows = append(rows, []string{string(p.ID), p.Time.Std().Format("15:04:05"), string(p.Mode), fmt.Sprint(len(p.Actions)), fmt.Sprint(len(p.Declined)),
			fmt.Sprintf("%.0f", p.Before), fmt.Sprintf("%.0f", p.After)})
	}
	return rows
}

// planText tells one plan whole: what moves, when and why, and what does not. name
// gives the name of a VM.
func planText(w io.Writer, p *schemas.Plan, now schemas.Time, name func(schemas.VMID) string) error {
	fmt.Fprintf(w, "plan %s of %s, mode %s, policy version %d\n", p.ID, p.Time.Std().Format("2006-01-02 15:04:05 UTC"), p.Mode, p.PolicyVersion)
	fmt.Fprintf(w, "unmet demand expected: %.0f core-s without it, %.0f with it; %d evaluations\n", p.Before, p.After, p.Used)
	if b := &p.Basis; len(b.Persistence) > 0 {
		words := make([]string, len(b.Persistence))
		for i, x := range b.Persistence {
			if words[i] = fmt.Sprintf("%.2f", x); x < 0 {
				words[i] = "as forecast"
			}
		}
		fmt.Fprintf(w, "that demand stays as it is counts, learned, by lead: %s\n", strings.Join(words, ", "))
	}
	if len(p.Actions) > 0 {
		fmt.Fprintln(w)
		rows := [][]string{{"VM", "FROM", "TO", "DUE", "LATEST", "STATE", "SAVES CORE-S", "COSTS CORE-S", "WHY"}}
		for _, a := range p.Actions {
			state := string(a.State)
			if !a.Hold.OK() {
				state += ": " + a.Hold.String()
			}
			rows = append(rows, []string{a.Name, string(a.Source), string(a.Destination), ahead(a.Due, now), ahead(a.Latest, now), state,
				fmt.Sprintf("%.0f", a.Predicted.Gain.Before-a.Predicted.Gain.After), fmt.Sprintf("%.0f", a.Predicted.Gain.Cost), a.Reason.Detail})
		}
		if err := table(w, rows...); err != nil {
			return err
		}
		for _, a := range p.Actions {
			if len(a.WhyNot) == 0 {
				continue
			}
			fmt.Fprintf(w, "\nwhy not elsewhere, for %s:\n", a.Name)
			for _, d := range a.WhyNot {
				fmt.Fprintf(w, "  %s: %s\n", d.Host, d.Reason)
			}
		}
	}
	if len(p.Declined) > 0 {
		fmt.Fprintln(w, "\ndeclined:")
		rows := [][]string{{"VM", "HOST", "REASON"}}
		for _, d := range p.Declined {
			vm, host := name(d.VM), string(d.Host)
			if d.VM.IsZero() {
				vm = "(all)"
			}
			if host == "" {
				host = "-"
			}
			rows = append(rows, []string{vm, host, d.Reason.String()})
		}
		return table(w, rows...)
	}
	return nil
}

// why prints the parts of an explanation.
func why(w io.Writer, parts []schemas.Why) {
	for _, p := range parts {
		fmt.Fprintf(w, "  because %s (%s)\n", p.Text, percent(p.Share))
	}
}
