package forecastaware

import (
	"bufio"
	"fmt"
	"io"
)

// WriteLP writes the instance as a mixed integer program in CPLEX's LP format, for a
// solver's optimum or bound. x_v_h says that VM v moves to host h, g_v that it goes,
// and o_h_t is a host's demand above the threshold. Nothing is left out, so that its
// optimum is the instance's.
func WriteLP(w io.Writer, in *Instance) error {
	b := bufio.NewWriter(w)
	p := newProblem(in)
	write := func(format string, args ...any) { fmt.Fprintf(b, format, args...) } // the error is Flush's
	write("Minimize\n obj:")
	for v, m := range in.VMs {
		write(" + %.12g g_%d\n", Price*m.Mem, v)
	}
	for h := range in.H {
		for t := range in.T {
			write(" + o_%d_%d\n", h, t)
		}
	}
	write("Subject To\n")
	for v, from := range in.Cur {
		write(" go_%d: - g_%d", v, v)
		for h := range in.H {
			if h != from {
				write(" + x_%d_%d\n", v, h)
			}
		}
		write(" = 0\n")
	}
	for h := range in.H {
		for t := range in.T {
			write(" load_%d_%d: o_%d_%d", h, t, h, t)
			for v, from := range in.Cur {
				switch d := in.VMs[v].Demand[t]; {
				case d == 0:
				case from == h:
					write(" + %.12g g_%d\n", d, v)
				default:
					write(" - %.12g x_%d_%d\n", d, v, h)
				}
			}
			write(" >= %.12g\n", p.excess[h*in.T+t])
		}
		p.writeSum(b, fmt.Sprintf("mem_%d", h), max(0, p.room[h]), func(v, from, to int) bool { return to == h })
	}
	write(" moves:")
	for v := range in.V {
		write(" + g_%d\n", v)
	}
	write(" <= %d\n", in.K)
	for i, room := range p.link {
		if a, c := i/int(p.sites), i%int(p.sites); a != c {
			p.writeSum(b, fmt.Sprintf("link_%d_%d", a, c), room, func(_, from, to int) bool { return in.Site[from] == a && in.Site[to] == c })
		}
	}
	write("Binaries\n")
	for v, from := range in.Cur {
		write(" g_%d\n", v)
		for h := range in.H {
			if h != from {
				write(" x_%d_%d\n", v, h)
			}
		}
	}
	write("End\n")
	if err := b.Flush(); err != nil {
		return fmt.Errorf("forecast-aware: write the program: %w", err)
	}
	return nil
}

// writeSum bounds the memory of the moves that count, if there are any.
func (p *problem) writeSum(w io.Writer, name string, most float64, counts func(v, from, to int) bool) {
	any := false
	for v, from := range p.in.Cur {
		for to := range p.in.H {
			if to == from || !counts(v, from, to) {
				continue
			}
			if !any {
				fmt.Fprintf(w, " %s:", name)
				any = true
			}
			fmt.Fprintf(w, " + %.12g x_%d_%d\n", p.mem[v], v, to)
		}
	}
	if any {
		fmt.Fprintf(w, " <= %.12g\n", most)
	}
}
