package lstm

import (
	"fmt"

	"github.com/foreshift/foreshift/forecaster/model"
)

// Adopt implements model.Adopter. The weights stay the bank's own.
func (b *Bank) Adopt(i int, from model.Bank, j int) error {
	f, ok := from.(*Bank)
	switch {
	case !ok:
		return fmt.Errorf("lstm: cannot adopt from a bank of type %T", from)
	case !b.known(i) || !f.known(j) || b.keys[i] != f.keys[j]:
		return fmt.Errorf("lstm: series %d is not series %d of the other bank", i, j)
	case !b.any:
		b.last, b.any = f.last, f.any
	case b.last != f.last:
		return fmt.Errorf("lstm: series of step %d for a bank of step %d", f.last, b.last)
	}
	b.seen[i], b.at[i] = f.seen[j], f.at[j]
	copy(b.of(i), f.of(j))
	return nil
}
