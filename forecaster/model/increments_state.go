package model

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// AppendState implements [Bank].
func (r *Rises) AppendState(b []byte) []byte {
	b = append(b, stateVersion)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.last))
	b = appendBool(b, r.any)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.keys)))
	for i, k := range r.keys {
		b = append(b, k.VM[:]...)
		b = append(b, byte(k.Resource))
		b = appendBool(b, r.used[i])
		b = binary.LittleEndian.AppendUint64(b, uint64(r.base[i]))
		for _, t := range [...][]float32{r.y[i*recent : (i+1)*recent], r.inc[i*riseSize : (i+1)*riseSize]} {
			for _, v := range t {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			}
		}
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.free)))
	for _, f := range r.free {
		b = binary.LittleEndian.AppendUint32(b, uint32(f))
	}
	return b
}

// LoadState implements [Bank].
func (r *Rises) LoadState(b []byte) error {
	d := decoder{b: b}
	if v := d.byte(); v != stateVersion {
		return fmt.Errorf("model rises: state version %d, want %d", v, stateVersion)
	}
	n := NewRises()
	n.last = schemas.Step(d.uint64())
	n.any = d.byte() != 0
	if n.last < 0 && n.any {
		return fmt.Errorf("model rises: state of step %d", n.last)
	}
	for k := d.count(26 + 4*(recent+riseSize)); k > 0; k-- {
		var key Key
		copy(key.VM[:], d.take(16))
		key.Resource = schemas.Resource(d.byte())
		n.keys = append(n.keys, key)
		n.used = append(n.used, d.byte() != 0)
		n.base = append(n.base, schemas.Step(d.uint64()))
		for range recent {
			n.y = append(n.y, math.Float32frombits(d.uint32()))
		}
		for range riseSize {
			n.inc = append(n.inc, math.Float32frombits(d.uint32()))
		}
	}
	for k := d.count(4); k > 0; k-- {
		f := int(d.uint32())
		if f >= len(n.keys) || n.used[f] {
			return fmt.Errorf("model rises: free index %d is in use or out of range", f)
		}
		n.free = append(n.free, f)
	}
	if d.short || len(d.b) != 0 {
		return fmt.Errorf("model rises: state truncated or %d bytes too long", len(d.b))
	}
	*r = *n
	return nil
}
