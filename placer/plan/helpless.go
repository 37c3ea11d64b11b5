package plan

import (
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// maxHelpless bounds the hosts for which one plan asks every other host of the fleet.
const maxHelpless = 64

// helpless are the pressed hosts that no move relieves, whatever the budgets: what is
// left of their VMs cannot move at all, or gains nothing on any other host. A reason
// that passes (a cool-down, a hold, silence, a mode) is not one of them, and neither is a
// group that would have to go as a whole: of such a host nobody knows.
func (b *board) helpless() map[int32]bool {
	s := b.s
	if !s.Gate.OK() {
		return nil
	}
	out, asked := map[int32]bool{}, 0
	gone := map[int32]int{} // by host: the slot from which on its last VM has left
	for _, c := range b.moves {
		gone[c.home] = max(gone[c.home], c.from)
	}
	s.free = true
	defer func() { s.free = false }()
	for h := range s.V.Hosts {
		if asked >= maxHelpless {
			break
		}
		if !s.Pressed(int32(h)) || !s.short(h, gone[int32(h)]) {
			continue
		}
		if asked++; s.beyondHelp(int32(h)) {
			out[int32(h)] = true
		}
	}
	return out
}

// short reports whether a host stays short of CPU or memory from a slot on, with the
// plan's moves made, with a chance of at least a half.
func (s *State) short(h, from int) bool {
	var cum [schemas.Slots]float64
	for _, r := range [2]schemas.Resource{schemas.CPU, schemas.Memory} {
		load := slices.Clone(s.sums.path(h, r))
		clear(load[:min(from, schemas.Slots)*s.sums.k])
		if s.sums.cumulate(load, s.V.Hosts[h].Cap[r], &cum); cum[schemas.Slots-1] >= .5 {
			return true
		}
	}
	return false
}

func (s *State) beyondHelp(h int32) bool {
	for _, vm := range s.V.Hosts[h].VMs {
		if s.at[vm] != h {
			continue
		}
		switch s.vmWhy[vm].Code {
		case schemas.ReasonPinned, schemas.ReasonExcluded, schemas.ReasonStorage:
			continue
		case schemas.ReasonOK, "":
		default:
			return false
		}
		c := s.candidate(vm)
		for to := range s.V.Hosts {
			switch ch := s.pair(c, int32(to)); ch.why {
			case schemas.ReasonOK, schemas.ReasonBelowMinimum, schemas.ReasonStale, schemas.ReasonMode, schemas.ReasonAffinity:
				return false
			}
		}
	}
	return true
}
