package matrix

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Suite says what to play.
type Suite struct {
	Cells   []Cell
	Rounds  int // of each cell
	Played  int // rounds played before: those of now strike the steps that come after
	Control int // rounds of each control; 0 none
	Say     func(string)
	// Each is called after every round; may be nil.
	Each func(Result)
}

// Report is what a suite showed.
type Report struct {
	Results []Result        `json:"results"`
	Control []ControlResult `json:"control"`
	Struck  int             `json:"faulted_moves"`
	Wrong   int             `json:"wrong"`
	Seconds float64         `json:"seconds"`
}

// OK: every fault struck, nothing was wrong, and the control saw two copies.
func (r Report) OK() bool {
	for _, c := range r.Control {
		if !c.Struck || !c.Two() {
			return false
		}
	}
	for _, x := range r.Results {
		if !x.Struck {
			return false
		}
	}
	return r.Wrong == 0
}

// attempts is how often a round is played until its fault strikes: a move may be over
// before a step of it was seen.
const attempts = 3

// Play plays every cell so many rounds. An error is of the lab; what went wrong with
// the moves is in the report.
func (f *Fleet) Play(ctx context.Context, s Suite) (rep Report, err error) {
	began := time.Now()
	defer func() { rep.Seconds = time.Since(began).Seconds() }()
	say := s.Say
	if say == nil {
		say = func(string) {}
	}
	for round := s.Played + 1; round <= s.Played+s.Rounds; round++ {
		for _, c := range s.Cells {
			var res Result
			for try := 1; try <= attempts && !res.Struck; try++ {
				if res, err = f.Round(ctx, c, round); err != nil {
					// The fault's own machinery failed: the round proves nothing.
					say("played again: " + err.Error())
					if ctx.Err() != nil || try == attempts {
						return rep, err
					}
					if err := f.heal(ctx); err != nil {
						return rep, err
					}
					res.Struck = false
					continue
				}
				if len(res.Wrong) > 0 {
					break
				}
			}
			rep.add(res)
			if s.Each != nil {
				s.Each(res)
			}
			say(line(res))
		}
	}
	for round := 1; round <= s.Control; round++ {
		for _, kill := range []bool{false, true} {
			c, err := f.Control(ctx, kill, round)
			if err != nil {
				return rep, err
			}
			rep.Control = append(rep.Control, c)
			say(fmt.Sprintf("control, p2p, %s: %d copies running, %d foreign records (struck %v)", c.Fault, c.Running, c.Alien, c.Struck))
		}
	}
	return rep, nil
}

// Join adds what another report holds.
func (r *Report) Join(more Report) {
	r.Results, r.Control = append(r.Results, more.Results...), append(r.Control, more.Control...)
	r.Struck, r.Wrong, r.Seconds = r.Struck+more.Struck, r.Wrong+more.Wrong, r.Seconds+more.Seconds
}

func (r *Report) add(x Result) {
	r.Results = append(r.Results, x)
	if x.Struck {
		r.Struck++
	}
	if len(x.Wrong) > 0 {
		r.Wrong++
	}
}

func line(r Result) string {
	s := fmt.Sprintf("%-55s %-20s %-10s", r.Cell, r.Step, r.First)
	if r.End != r.First {
		s += " then " + string(r.End)
	}
	if !r.Struck {
		s += "  NOT STRUCK"
	}
	if len(r.Wrong) > 0 {
		s += "  WRONG: " + strings.Join(r.Wrong, "; ") + " (" + r.Reason + ")"
	}
	s = fmt.Sprintf("%s  %.1f s", s, r.Seconds)
	if len(r.Wrong) > 0 {
		s += "\n    steps: " + strings.Join(r.Trace, ", ")
	}
	return s
}

// Table writes the report as Markdown: what was played, then a row a cell.
func (r Report) Table(w io.Writer) error {
	type row struct {
		n, struck, wrong, person, most int
		alien                          int64
		ends                           map[string]int
		steps                          []string
		silence                        schemas.Millis
		slowest                        schemas.Seconds
	}
	rows := map[string]*row{}
	var order []string
	for _, x := range r.Results {
		g := rows[x.Cell]
		if g == nil {
			g = &row{ends: map[string]int{}}
			rows[x.Cell] = g
			order = append(order, x.Cell)
		}
		g.n++
		if x.Struck {
			g.struck++
		}
		if len(x.Wrong) > 0 {
			g.wrong++
		}
		if x.Person {
			g.person++
		}
		end := string(x.End)
		if x.First != x.End {
			end = string(x.First) + " then " + end
		}
		if end == "" {
			end = "none"
		}
		g.ends[end]++
		if x.Step != "" && !slices.Contains(g.steps, x.Step) {
			g.steps = append(g.steps, x.Step)
		}
		g.most, g.alien = max(g.most, x.Running), g.alien+x.Alien
		g.silence, g.slowest = max(g.silence, x.Silence), max(g.slowest, x.Seconds)
	}
	out := &strings.Builder{}
	fmt.Fprintf(out, tableHead, r.Struck, r.Wrong)
	fmt.Fprintf(out, "| fault | at | moves | ended as | most copies running | foreign records | to the outcome, at most | longest silence | by a person | wrong |\n")
	fmt.Fprintf(out, "|---|---|---|---|---|---|---|---|---|---|\n")
	for _, name := range order {
		g := rows[name]
		var ends []string
		for e, n := range g.ends {
			ends = append(ends, fmt.Sprintf("%d %s", n, e))
		}
		sort.Strings(ends)
		steps := strings.Join(g.steps, ", ")
		if steps == "" {
			steps = "command"
		}
		fmt.Fprintf(out, "| %s | %s | %d | %s | %d | %d | %.1f s | %.1f s | %d | %d |\n", name, steps, g.struck, strings.Join(ends, ", "), g.most, g.alien, g.slowest, float64(g.silence)/1e3, g.person, g.wrong)
	}
	if len(r.Control) > 0 {
		fmt.Fprintf(out, "\nThe same instruments on plain peer-to-peer migration:\n\n| fault | rounds | two copies ran (virsh) | second writer seen (disk) |\n|---|---|---|---|\n")
		for _, fault := range []string{"Finish's reply lost", "destination libvirtd killed at Finish"} {
			n, two, alien := 0, 0, 0
			for _, c := range r.Control {
				if c.Fault != fault || !c.Struck {
					continue
				}
				n++
				if c.Running > 1 {
					two++
				}
				if c.Alien > 0 {
					alien++
				}
			}
			fmt.Fprintf(out, "| %s | %d | %d | %d |\n", fault, n, two, alien)
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// PlayAll plays cells of the matrix and of the split-brain faults, each so many
// rounds, and the control; so many were played before.
func (f *Fleet) PlayAll(ctx context.Context, cells []Cell, played, rounds, split, control int, say func(string)) (Report, error) {
	var plain, splits []Cell
	for _, c := range cells {
		if strings.HasPrefix(c.Name, "split: ") {
			splits = append(splits, c)
		} else {
			plain = append(plain, c)
		}
	}
	rep, err := f.Play(ctx, Suite{Cells: plain, Played: played, Rounds: rounds, Say: say})
	if err != nil {
		return rep, err
	}
	more, err := f.Play(ctx, Suite{Cells: splits, Played: played, Rounds: split, Control: control, Say: say})
	rep.Join(more)
	return rep, err
}

const tableHead = `# The fault matrix

Written by ` + "`foreshift lab matrix --table docs/lab-matrix.md`" + ` (` + "`./task lab:matrix`" + `). Each row is one fault, struck at a labelled step of a
live migration between real libvirtd and QEMU in network namespaces of one machine. Seen from outside: the real virsh asks every host five
times a second how many copies run; the guest keeps a record on its disk that shows a second writer; its heartbeat shows how long it stood
still. Limits are shortened for the lab: a move has 45 s to switch over and is UNKNOWN 12 s after it last came forward.

%d faulted moves and commands, %d of them wrong. "By a person": the fault itself ended the guest, or nobody could tell without looking.

`
