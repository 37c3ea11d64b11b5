package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/foreshift/foreshift/internal/cluster"
	"github.com/spf13/cobra"
)

// simFlags are the flags of `sim`.
type simFlags struct {
	cluster.Options
	faults string
	favour string
	list   bool
	json   bool
	limit  time.Duration
}

func simCommand() *cobra.Command {
	var o simFlags
	c := &cobra.Command{
		Use:   "sim",
		Short: "Simulate clusters under faults, deterministically, and see whether an invariant breaks",
		Long: `Simulates whole clusters, each from one seed: hosts with their libvirts and disks, the
network, NATS with its weak guarantees, clocks, people and hostile clients, and on them
the real deciders and state machines. Exit code 1 says that an invariant broke; then the
story of it is printed, and the command that repeats it. With --without GUARD that is
what must happen. docs/SIMULATION.md says what is simulated and what is not.`,
		Example: `  foreshift sim --seeds 50 --days 1 --faults all
  foreshift sim --without released-before-take-back
  foreshift sim --first 4711 --seeds 1 --days 1 --faults F1,F3,F8`,
		Annotations: map[string]string{notRun: "minutes long, and run by the simulation's own tests"},
		Args:        cobra.NoArgs,
		RunE:        func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	f := c.Flags()
	f.IntVar(&o.Seeds, "seeds", 20, "number of clusters, one seed each")
	f.Uint64Var(&o.First, "first", 1, "the first seed")
	f.Float64Var(&o.Days, "days", 1, "simulated days of each cluster")
	f.StringVar(&o.faults, "faults", "all", "kinds of fault: all, none, or a list such as F1,F3")
	f.StringVar(&o.favour, "favour", "", "`faults` by name that come far more often, such as kills,hostile; empty: each seed draws its own")
	f.StringVar(&o.Without, "without", "", "leave out one `guard`, or several by commas, and stop at the first violation")
	f.StringVar(&o.Kind, "kind", "", "storm: moves come often, without a placer; placer: placers lead; empty: both in turn")
	f.BoolVar(&o.list, "list-guards", false, "list the guards that can be left out")
	f.DurationVar(&o.limit, "for", 0, "begin no further cluster after so long; 0: no limit")
	f.BoolVar(&o.json, "json", false, "print one JSON object on the last line")
	return c
}

func (o *simFlags) run(c *cobra.Command) (err error) {
	out := c.OutOrStdout()
	if o.list {
		return listGuards(out, o.json)
	}
	if o.Options.Faults, err = cluster.ParseFaults(o.faults); err != nil {
		return usageError{err}
	}
	if o.Options.Favour, err = cluster.ParseFavourites(o.favour); err != nil {
		return usageError{err}
	}
	for _, name := range strings.Split(o.Without, ",") {
		if _, err := cluster.Find(name); err != nil && o.Without != "" {
			return usageError{err}
		}
	}
	if o.Kind != "" && o.Kind != "storm" && o.Kind != "placer" {
		return usageError{fmt.Errorf("--kind %s: want storm, placer or nothing", o.Kind)}
	}
	begun := time.Now()
	o.Stop = func() bool { return c.Context().Err() != nil || o.limit > 0 && time.Since(begun) > o.limit }
	res, err := cluster.Run(o.Options)
	if err != nil {
		return usageError{err}
	}
	for _, v := range res.Violations {
		fmt.Fprintf(out, "Seed %d. %v\n\n%s\nRepeat it: %s\n\n", v.Seed, v.Error(), v.Story, o.repeat(v.Seed))
	}
	for _, seed := range res.Regardless {
		fmt.Fprintf(out, "Seed %d breaks with every guard in its place, too, and proves nothing.\nSee: %s\n\n", seed, o.whole(res.Kind, strings.Join(res.Favour, ",")).repeat(seed))
	}
	if o.json {
		b, err := json.Marshal(res)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, string(b))
	} else {
		simTable(out, res)
	}
	switch {
	case len(res.Regardless) > 0:
		return fmt.Errorf("%d seeds break an invariant with every guard in its place, too; the command above shows the first", len(res.Regardless))
	case len(res.Violations) > 0 && o.Without != "":
		return fmt.Errorf("without guard %s seed %d breaks an invariant, as it must", o.Without, res.Violations[0].Seed)
	case len(res.Violations) > 0:
		return errors.New("an invariant broke; the story above ends with the command that repeats it")
	}
	return nil
}

// whole are the flags that simulate the same with every guard in its place.
func (o simFlags) whole(kind, favour string) *simFlags {
	o.Without, o.Kind, o.favour = "", kind, favour
	return &o
}

// repeat is the command that shows one seed again.
func (o *simFlags) repeat(seed uint64) string {
	s := fmt.Sprintf("foreshift sim --first %d --seeds 1 --days %g --faults %s", seed, o.Days, o.faults)
	if o.Kind != "" {
		s += " --kind " + o.Kind
	}
	if o.favour != "" {
		s += " --favour " + o.favour
	}
	if o.Without != "" {
		s += " --without " + o.Without
	}
	return s
}

func simTable(out io.Writer, r *cluster.Result) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	n := &r.Counts
	fmt.Fprintf(w, "clusters\t%d, %g simulated days, %d events\n", r.Seeds, r.Days, n.Events)
	fmt.Fprintf(w, "commands\t%d, %d moves started: %d succeeded, %d failed; %d refused; %d told as UNKNOWN\n", n.Commands, n.Started, n.Succeeded, n.Failed, n.Refused, n.Unknown)
	fmt.Fprintf(w, "plans\t%d\n", n.Plans)
	for i, k := range n.Faults {
		if k > 0 {
			fmt.Fprintf(w, "fault F%d\t%d times\n", i, k)
		}
	}
	fmt.Fprintf(w, "violations\t%d\n", len(r.Violations))
	fmt.Fprintf(w, "hash\t%s\n", r.Hash)
	w.Flush()
}

func listGuards(out io.Writer, asJSON bool) error {
	guards := cluster.Guards()
	if asJSON {
		b, err := json.Marshal(guards)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, string(b))
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GUARD\tWHERE\tWHAT IT HOLDS")
	for _, g := range guards {
		fmt.Fprintf(w, "%s\t%s\t%s\n", g.Name, g.Where, g.What)
	}
	return w.Flush()
}
