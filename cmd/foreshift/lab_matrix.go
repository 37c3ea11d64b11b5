package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/internal/lab/matrix"
	"github.com/spf13/cobra"
)

// labMatrixCommand breaks one thing at one step of a move on real hypervisors, for
// every thing and every step.
func labMatrixCommand(at *place) *cobra.Command {
	var played, rounds, split, control int
	var only, table, dir, results string
	var list, peer, lock bool
	c := &cobra.Command{Use: "matrix", Short: "Break one thing at each step of a move, on real hypervisors, and see what becomes of the VM", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			out := c.OutOrStdout()
			say := func(s string) { fmt.Fprintln(out, s) }
			all, start := append(matrix.Cells(), matrix.SplitCells()...), matrix.Start
			switch {
			case peer && lock:
				all, start = matrix.PeerCells(), matrix.StartPeer
			case peer:
				all, start = matrix.UnlockedCells(), matrix.StartPeer
			}
			cells, err := matrix.Select(all, only)
			if err != nil {
				return usageError{err}
			}
			if list {
				for _, x := range cells {
					say(x.Name)
				}
				return nil
			}
			if played < 0 || rounds < 0 || split < 0 || control < 0 {
				return usageError{errors.New("rounds are counted from 0")}
			}
			f, err := start(c.Context(), lab.Config{Dir: dir, Lock: lock, IdleLock: peer && !lock, Progress: say})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Stop(context.WithoutCancel(c.Context()))) }()
			rep, err := f.PlayAll(c.Context(), cells, played, rounds, split, control, say)
			if results != "" {
				err = errors.Join(err, gather(results, &rep))
			}
			if table != "" {
				// What was played before an error is worth keeping too.
				err = errors.Join(err, writeTable(table, rep))
			}
			if err != nil {
				return err
			}
			if at.json {
				if err := object(out, rep); err != nil {
					return err
				}
			}
			if !rep.OK() {
				return fmt.Errorf("%d of %d faulted moves went wrong, or a fault never struck, or the control saw no second copy; see above", rep.Wrong, rep.Struck)
			}
			return nil
		}}
	f := c.Flags()
	f.IntVar(&rounds, "rounds", 3, "rounds of each cell of the matrix")
	f.IntVar(&played, "played", 0, "rounds of each cell that were played before: those of now strike the steps that come after")
	f.IntVar(&split, "split", 5, "rounds of each of the faults that split a VM in two under plain peer-to-peer migration")
	f.IntVar(&control, "control", 2, "rounds of the control: the same on plain peer-to-peer migration, where two copies are expected")
	f.StringVar(&only, "only", "", "regular expression: play the cells whose names match")
	f.StringVar(&results, "results", "", "file of results, as JSON: what it holds is added to, so that the matrix can be played in pieces")
	f.StringVar(&table, "table", "", "file to write the table to, as Markdown")
	f.BoolVar(&peer, "p2p", false, "let libvirt lead, peer to peer, and play the cells of that")
	f.BoolVar(&lock, "lock", false, "have libvirt lock disks with a virtlockd on every host; with --p2p alone they run and libvirt does not ask them")
	f.StringVar(&dir, "dir", "", "the lab's directory, made and removed; default /var/lib/foreshift-lab/default")
	f.BoolVar(&list, "list", false, "list the cells and play none")
	return c
}

// gather puts what was played before, as a file holds it, in front of what was played
// now, and writes all of it back.
func gather(path string, rep *matrix.Report) error {
	var all matrix.Report
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("results %s: %w", path, err)
	}
	all.Join(*rep)
	*rep = all
	if b, err = json.MarshalIndent(all, "", " "); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func writeTable(path string, rep matrix.Report) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return rep.Table(f)
}

// labHandoverCommand measures what the handover costs over libvirt's own migration.
func labHandoverCommand(at *place) *cobra.Command {
	var pairs int
	var dir string
	c := &cobra.Command{Use: "handover", Short: "Compare Foreshift's moves with virsh migrate --live --p2p of the same guest, in pairs", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			out := c.OutOrStdout()
			say := func(s string) { fmt.Fprintln(out, s) }
			if pairs < 1 || pairs > 1000 {
				return usageError{fmt.Errorf("%d pairs: want 1 to 1000", pairs)}
			}
			f, err := matrix.Start(c.Context(), lab.Config{Dir: dir, Progress: say})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Stop(context.WithoutCancel(c.Context()))) }()
			r, err := f.Pairs(c.Context(), pairs, say)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "medians of %d pairs: wall %.0f ms against virsh's %.0f (%.2f), gap %.0f ms against %.0f (%.2f), outside libvirt's calls %.0f ms\n",
				len(r.Pairs), r.Foreshift.Wall, r.Virsh.Wall, r.WallRatio, r.Foreshift.Gap, r.Virsh.Gap, r.GapRatio, r.Foreshift.Own)
			say(r.Costs.Line())
			for _, f := range append(r.Failures, r.Costs.Failures...) {
				say("not met: " + f)
			}
			if at.json {
				return object(out, r)
			}
			return nil
		}}
	c.Flags().IntVar(&pairs, "pairs", 20, "pairs to measure")
	c.Flags().StringVar(&dir, "dir", "", "the lab's directory, made and removed; default /var/lib/foreshift-lab/default")
	return c
}

// labCostsCommand holds what is foretold of moves to what comes.
func labCostsCommand(at *place) *cobra.Command {
	var moves, learnt int
	var dir string
	c := &cobra.Command{Use: "costs", Short: "Compare what Foreshift foretells of moves with what comes, over links of different speeds", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			out := c.OutOrStdout()
			say := func(s string) { fmt.Fprintln(out, s) }
			if learnt < 0 || moves <= learnt || moves > 1000 {
				return usageError{fmt.Errorf("%d moves, %d to learn from: want more moves than that, at most 1000", moves, learnt)}
			}
			f, err := matrix.Start(c.Context(), lab.Config{Dir: dir, Progress: say})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Stop(context.WithoutCancel(c.Context()))) }()
			r, err := f.Costs(c.Context(), moves, learnt, say)
			if err != nil {
				return err
			}
			say(r.Line())
			for _, f := range r.Failures {
				say("not met: " + f)
			}
			if at.json {
				return object(out, r)
			}
			return nil
		}}
	c.Flags().IntVar(&moves, "moves", 40, "moves to make")
	c.Flags().IntVar(&learnt, "learn", 20, "of them the first, which only teach")
	c.Flags().StringVar(&dir, "dir", "", "the lab's directory, made and removed; default /var/lib/foreshift-lab/default")
	return c
}

// labPartCommand is how the matrix starts this program again as one of its parts.
func labPartCommand() *cobra.Command {
	return &cobra.Command{Use: "part", Short: "Run as a part of the matrix", Hidden: true, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		was, err := matrix.Part(c.Context())
		if !was {
			return usageError{errors.New("this is started by `foreshift lab matrix` alone")}
		}
		return err
	}}
}
