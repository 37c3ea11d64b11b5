package replay

import (
	"fmt"
	"io"
	"strings"
)

// Table writes the result for people.
func (r *Result) Table(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d VMs on %d hosts of %.1f cores and %.0f GiB (u = %.2f), %.0f days, %d placements, %.0f CPU s\n",
		r.History, r.VMs, r.Hosts, r.C, r.M, r.U, r.Days, r.Placements, r.CPU)
	if r.Filled > 0 {
		fmt.Fprintf(&b, "%d missing values: the last one stands for them\n", r.Filled)
	}
	if r.Invented {
		b.WriteString("the file has no sizes: those of the VMs are drawn from their names\n")
	}
	fmt.Fprintf(&b, "\n%-34s %10s %7s %8s %7s %17s %17s %17s %7s\n", "policy", "unmet ch", "moves", "GiB", "back", "/ react", "/ balancer", "/ persist", "gap")
	for _, name := range r.Names {
		s := r.Policies[name]
		fmt.Fprintf(&b, "%-34s %10.1f %7d %8.0f %7d %17s %17s %17s %7s\n", name, s.Unmet, s.Moves, s.GiB, s.PingPong,
			s.cell("react", true), s.cell("balancer", true), s.cell("persist", true), s.cell("gap_closed", false))
	}
	for _, name := range r.Names {
		if s := r.Policies[name]; s.UnmetMem > 0 {
			fmt.Fprintf(&b, "%s: %.1f GiB-hours of memory beyond what hosts have\n", name, s.UnmetMem)
		}
	}
	b.WriteString("\nunmet core-hours and moves are sums over placements; in brackets 90 % intervals over placements and days\n")
	if p := r.Pressure; p != nil {
		fmt.Fprintf(&b, "warnings of a shortage within the hour: precision %.2f, recall %.2f, Brier %.4f (base rate %.4f); %.0f %% of %d onsets warned of, %.0f minutes ahead on average\n",
			p.Precision, p.Recall, p.Brier, p.Base, 100*p.Warned, p.Onsets, p.Lead)
	}
	b.WriteByte('\n')
	for _, g := range r.Gates {
		verdict, sign := "ok", ">="
		if g.AtMost {
			sign = "<="
		}
		if !g.OK {
			verdict = "FAILS"
		}
		fmt.Fprintf(&b, "gate %-10s %9.5f %s %-6g %-5s %s\n", g.Name, g.Value, sign, g.Bound, verdict, g.Why)
	}
	switch {
	case r.Valid:
		b.WriteString("the gates hold: the comparison is valid\n")
	case len(r.Gates) < 5:
		b.WriteString("not all gates could be asked: run none, react and oracle-6h as well\n")
	default:
		b.WriteString("a gate fails: the comparison is void\n")
	}
	for _, x := range r.Bars() {
		verdict := "missed"
		if x.OK {
			verdict = "met"
		}
		fmt.Fprintf(&b, "bar %-26s %6.3f  pass %.2f  stretch %.2f  %s\n", x.Name, x.Value, x.Pass, x.Stretch, verdict)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Scored) cell(to string, wide bool) string {
	x, ok := s.Ratios[to]
	switch {
	case !ok:
		return "-"
	case wide:
		return fmt.Sprintf("%.3f [%.2f-%.2f]", x.Value, x.Low, x.High)
	}
	return fmt.Sprintf("%.2f", x.Value)
}
