package pressure

import (
	"bytes"
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// lived gives a head that has learnt from a VM's days, and the input it ends with.
func lived(h *Head, long *LongRun, from, to int) Input {
	y := history(to, func(t int) float32 {
		if t%day > 240 && t*7919%17 < 9 {
			return 99
		}
		return float32(t * 31 % 90)
	})
	in := Input{Limit: 95, Long: long}
	for o := from; o < to; o += LearnEvery {
		in.Y = y[max(0, o-8*day):o]
		h.Learn(&in, 0)
		h.Fit(schemas.Step(o))
	}
	in.Y = y[max(0, to-8*day):]
	return in
}

// A head restored goes on as the one that was never stopped.
func TestStateGoesOn(t *testing.T) {
	a, b := NewHead(), NewHead()
	var la, lb LongRun
	lived(a, &la, LearnEvery, 12*day)
	state := la.AppendState(a.AppendState(nil))
	split := len(state) - longBytes
	if err := b.LoadState(state[:split]); err != nil {
		t.Fatal(err)
	}
	if rest, err := lb.LoadState(state[split:]); err != nil || len(rest) != 0 || la != lb {
		t.Fatalf("%v, %d left over, %v and %v", err, len(rest), la, lb)
	}
	ia, ib := lived(a, &la, 12*day, 16*day), lived(b, &lb, 12*day, 16*day)
	if x, y := a.Estimate(&ia), b.Estimate(&ib); x != y || x.Chance.H24 == 0 {
		t.Fatalf("%+v and %+v", x, y)
	}
	if !bytes.Equal(a.AppendState(nil), b.AppendState(nil)) {
		t.Fatal("the states differ")
	}
}

func FuzzLoadState(f *testing.F) {
	h := NewHeadOf(20, ridge)
	var l LongRun
	lived(h, &l, LearnEvery, 4*day)
	f.Add(h.AppendState(nil))
	f.Add(l.AppendState(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := NewHeadOf(20, ridge)
		if h.LoadState(b) == nil && !bytes.Equal(h.AppendState(nil), b) {
			t.Fatal("not what was loaded")
		}
		var l LongRun
		if rest, err := l.LoadState(b); err == nil && len(rest)+longBytes != len(b) {
			t.Fatal("bytes lost")
		}
	})
}

// The long run tells each hour of eight weeks, whatever the windows it was made from.
func TestLongRun(t *testing.T) {
	above := func(t int) bool { return t/hour*7919%11 == 0 }
	var l LongRun
	var m moment
	y := make([]float32, 8*day)
	const first, last = 5000 * day, 5070 * day
	for end := first + 8*day; end <= last; end += 5 * hour {
		for k := range y {
			y[k] = 0
			if above(end - len(y) + k) {
				y[k] = 9
			}
		}
		m.set(y, 5, schemas.Step(end))
		l.add(m.over, m.end)
		to := int64(end) / hour
		for h := max(first/hour, to-longHours); h < to; h += 7 {
			if got, known := l.at(h); !known || got != above(int(h*hour)) {
				t.Fatalf("hour %d of %d: %v, known %v", h, to, got, known)
			}
		}
		if _, known := l.at(to); known {
			t.Fatal("it knows the hour to come")
		}
	}
	text, err := l.MarshalText()
	var back LongRun
	if err != nil || back.UnmarshalText(text) != nil || back != l {
		t.Fatalf("%v, %d bytes", err, len(text))
	}
	m.set(y, 5, last+20*day) // a hole longer than a window: what was before is forgotten
	l.add(m.over, m.end)
	if _, known := l.at(last/hour - 1); known {
		t.Fatal("it remembers across a hole")
	}
}
