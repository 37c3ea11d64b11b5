package plan

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/schemas"
)

// marginal is up to how many times the least benefit a move is marginal: it may be left
// out without much harm.
const marginal = 2

// heldOut says whether a move is left out by lot, so that what comes without it can be
// compared with what comes of the others. Only marginal moves take part, the policy says
// what share of them, and the lot of a VM is drawn once a day from its id alone: it does
// not change from one decision to the next, and nobody can choose it.
func (s *State) heldOut(c *candidate, benefit float64) bool {
	l := s.P.Learning
	if l == nil || l.HoldOut <= 0 || benefit >= marginal*s.minBenefit || c.must() {
		return false
	}
	id := s.V.VMs[c.vm].ID
	lot := xxhash.Sum64(binary.LittleEndian.AppendUint64(id[:len(id):len(id)], uint64(s.V.Issued/schemas.StepsPerDay)))
	return float64(lot>>11)/(1<<53) < float64(l.HoldOut)
}
