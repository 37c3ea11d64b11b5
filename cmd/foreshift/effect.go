package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/schemas"
)

// effectText tells what a VM's newest judged move achieved.
func effectText(w io.Writer, moves []console.Move) error {
	i := slices.IndexFunc(moves, func(m console.Move) bool { return m.Effect != nil })
	if i < 0 {
		return nil
	}
	e, c := moves[i].Effect, &moves[i].Command
	fmt.Fprintf(w, "\nwhat the move from %s to %s achieved, by the %d steps after it: %s\n", c.Source, c.Destination, e.Steps, e.Verdict)
	return table(w, effectRows(e)...)
}

func effectRows(e *schemas.Effect) [][]string {
	rows := [][]string{{"TERM", "BEFORE", "AFTER", "WITHOUT THE MOVE", "DIFFERENCE", "90 % INTERVAL", "CERTAIN"}}
	order := func(name string) string { // the VM, where it was, where it is
		return strings.NewReplacer("vm.", "1", "source.", "2", "destination.", "3").Replace(name)
	}
	names := slices.SortedFunc(maps.Keys(e.Terms), func(a, b string) int { return strings.Compare(order(a), order(b)) })
	for _, name := range names {
		c := e.Terms[name]
		certain := "no"
		if c.Low > 0 || c.High < 0 {
			certain = "yes"
		}
		rows = append(rows, []string{name, fmt.Sprintf("%.4g", c.Before), fmt.Sprintf("%.4g", c.After), fmt.Sprintf("%.4g", c.Without), fmt.Sprintf("%+.4g", c.After-c.Without),
			fmt.Sprintf("%+.4g to %+.4g", c.Low, c.High), certain})
	}
	return rows
}
