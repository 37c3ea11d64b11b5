package learning

import (
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// mostDays is how many days a ledger holds: what lies further back was another fleet.
const mostDays = 56

// Ledger is what was played in shadow so far, so that a look weighs all days and plays
// only those that are new. The zero value is an empty one.
type Ledger struct {
	Looked schemas.Time `json:"looked"` // when settings were looked at last
	Key    string       `json:"key"`    // as in [Grid.Key]
	Days   []Day        `json:"days"`   // in order
}

// Add takes days that were played under a key. Those under another go; a day that was
// played before is as it was played last.
func (l *Ledger) Add(key string, days []Day) {
	if l.Key != key {
		l.Key, l.Days = key, nil
	}
	for _, d := range days {
		i, found := slices.BinarySearchFunc(l.Days, d.At, func(a Day, at int) int { return a.At - at })
		if found {
			l.Days[i] = d
			continue
		}
		l.Days = slices.Insert(l.Days, i, d)
	}
	l.Days = slices.Clone(l.Days[max(0, len(l.Days)-mostDays):])
}
