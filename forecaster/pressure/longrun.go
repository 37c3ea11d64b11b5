package pressure

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/foreshift/foreshift/schemas"
)

// LongRun remembers of a VM's resource, for eight weeks, which hours were above the
// limit: a bit an hour, longer than a window lasts. The zero value knows nothing.
type LongRun struct {
	from, to int64 // hours known: from <= hour < to, counted from step 0; to = 0: none
	bits     [weeks * 7 * 24 / 64]uint64
}

const (
	hour      = schemas.StepsPerDay / 24
	weeks     = 8
	longHours = weeks * 7 * 24
)

// add notes the hours that have ended before step end, of which over[t+1]-over[t] counts
// the exceedances of the series that ends there. What it knows already stays.
func (l *LongRun) add(over []int32, end schemas.Step) {
	n := len(over) - 1
	first := int64(end) - int64(n) // step of the series' first value
	if first < 0 {
		return
	}
	to := int64(end) / hour
	h := max((first+hour-1)/hour, to-longHours)
	switch {
	case l.to == 0 || h > l.to || to < l.from: // nothing, or a hole: what was before is not known to continue
		if h >= to {
			return
		}
		*l = LongRun{from: h}
	default:
		h = l.to
	}
	for ; h < to; h++ {
		t := h*hour - first
		k := h % longHours
		if over[t+hour] > over[t] {
			l.bits[k/64] |= 1 << (k % 64)
		} else {
			l.bits[k/64] &^= 1 << (k % 64)
		}
	}
	l.to = max(l.to, to)
	l.from = max(l.from, l.to-longHours)
}

// at says whether an hour was above, and whether that is known.
func (l *LongRun) at(h int64) (above, known bool) {
	if h < l.from || h >= l.to {
		return false, false
	}
	k := h % longHours
	return l.bits[k/64]>>(k%64)&1 == 1, true
}

// longBytes is what a LongRun's state takes.
const longBytes = 16 + longHours/8

// AppendState appends what is known: 184 bytes.
func (l *LongRun) AppendState(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(l.from))
	b = binary.LittleEndian.AppendUint64(b, uint64(l.to))
	for _, w := range l.bits {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// LoadState takes what AppendState appended and gives back what follows it.
func (l *LongRun) LoadState(b []byte) (rest []byte, err error) {
	if len(b) < longBytes {
		return nil, fmt.Errorf("pressure long run: %d bytes, want %d", len(b), longBytes)
	}
	r := reader{b: b}
	n := LongRun{from: int64(r.uint64()), to: int64(r.uint64())}
	if n.from < 0 || n.to < n.from || n.to-n.from > longHours {
		return nil, fmt.Errorf("pressure long run: hours %d to %d", n.from, n.to)
	}
	for i := range n.bits {
		n.bits[i] = r.uint64()
	}
	*l = n
	return r.b, nil
}

// MarshalText makes it one short word inside of JSON.
func (l LongRun) MarshalText() ([]byte, error) {
	if l.to == 0 {
		return nil, nil
	}
	return base64.RawStdEncoding.AppendEncode(nil, l.AppendState(nil)), nil
}

// UnmarshalText is the way back.
func (l *LongRun) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*l = LongRun{}
		return nil
	}
	b, err := base64.RawStdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("pressure long run: %w", err)
	}
	rest, err := l.LoadState(b)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("pressure long run: %d bytes too many", len(rest))
	}
	return err
}
