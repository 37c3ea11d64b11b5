package main

import (
	"fmt"
	"io"
	"slices"

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
	rows := [][]string{{"TERM", "BEFORE", "AFTER", "WITHOUT THE MOVE", "DIFFERENCE", "BETWEEN, NINE CHANCES IN TEN", "CERTAIN"}}
	for _, t := range console.Achieved(e) {
		rows = append(rows, []string{t.What, t.Before, t.After, t.Without, t.Difference, t.Low + " and " + t.High, map[bool]string{true: "yes", false: "no"}[t.Certain]})
	}
	return rows
}
