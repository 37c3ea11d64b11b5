package model

import (
	"github.com/foreshift/foreshift/schemas"
)

// searchRows is the number of newest rows that a search for a model's form looks at:
// short of the window by the day until the next, so that a restarted bank can repeat
// the search that one without restart made up to a day ago.
const searchRows = RefitRows - day

// searchDue is the step, at or before the refit due at step due, at which a series'
// model form is searched: once a day, and at every refit until the first such day
// is full.
func searchDue(key Key, first, due schemas.Step) schemas.Step {
	s := due - (due+schemas.Step(key.Hash()%day))%day
	if s-first < day {
		return due
	}
	return s
}
