package streams

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Divide tells which member each part should be with: the one of the highest hash of
// group, member and part, among those that have no more than their even share yet. It
// is empty without members.
func Divide(group string, members []string, parts int) []string {
	owners := make([]string, parts)
	if len(members) == 0 {
		return owners
	}
	most := (parts + len(members) - 1) / len(members)
	count := map[string]int{}
	for p := range owners {
		best, top := "", uint64(0)
		for _, m := range members {
			if count[m] >= most {
				continue
			}
			h := xxhash.Sum64(binary.LittleEndian.AppendUint32([]byte(group+"\x00"+m+"\x00"), uint32(p)))
			if best == "" || h > top || h == top && m < best {
				best, top = m, h
			}
		}
		owners[p] = best
		count[best]++
	}
	return owners
}
