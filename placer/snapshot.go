package placer

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"fmt"
)

// A snapshot is the length of the ticks' state as eight bytes, that state, and the
// fleet's. One byte 0 alone marks a state that could not be written: Restore
// refuses it, and the service folds its streams anew.

// AppendSnapshot appends the whole state to b.
func (d *Decider) AppendSnapshot(b []byte) []byte {
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(&d.st); err != nil {
		return append(b, 0)
	}
	out := binary.BigEndian.AppendUint64(b, uint64(buf.Len()))
	out = append(out, buf.Bytes()...)
	out, err := d.fleet.AppendSnapshot(out)
	if err != nil {
		return append(b, 0)
	}
	return out
}

// Restore takes back what AppendSnapshot gave; the state is unchanged on error.
func (d *Decider) Restore(b []byte) error {
	if len(b) < 8 {
		return fmt.Errorf("placer snapshot: %d bytes hold no state", len(b))
	}
	n := binary.BigEndian.Uint64(b)
	if n > uint64(len(b)-8) {
		return fmt.Errorf("placer snapshot: cut short: %d of %d bytes", len(b)-8, n)
	}
	st := newTickState()
	if err := gob.NewDecoder(bytes.NewReader(b[8 : 8+n])).Decode(&st); err != nil {
		return fmt.Errorf("placer snapshot: %w", err)
	}
	if err := d.fleet.Restore(b[8+n:]); err != nil {
		return fmt.Errorf("placer snapshot: %w", err)
	}
	d.st = st
	return nil
}
