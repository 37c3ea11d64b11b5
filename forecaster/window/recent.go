package window

import (
	"math/bits"
	"sort"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/schemas"
)

// recentRows is the last hour at one sample every 10 s; a faster agent keeps less
// than an hour, a slower one more. recentSlack rows lie between two memmoves.
const (
	recentRows  = 360
	recentSlack = 40
)

// Recent is the last hour of a VM at the agent's own resolution, in order of time.
type Recent struct {
	buf  *memory.Buffer
	time []schemas.Time
	cpu  []float32 // mCPU
	mem  []float32 // bytes
	n    int       // rows in use
}

func newRecent(mem memory.Allocator) Recent {
	const n = recentRows + recentSlack
	b := memory.NewResizableBuffer(mem)
	b.Resize(n * 16)
	raw := b.Bytes()
	times := arrow.GetData[schemas.Time](raw[:8*n])
	return Recent{buf: b, time: times,
		cpu: arrow.Float32Traits.CastFromBytes(raw[8*n : 12*n]), mem: arrow.Float32Traits.CastFromBytes(raw[12*n:])}
}

func (r *Recent) reset() { r.n = 0 }

// Bytes is the memory it holds.
func (r *Recent) Bytes() int { return r.buf.Cap() }

// View gives the samples, oldest first: end of the interval, mCPU, bytes. The
// slices alias the accumulator's memory and hold until the next message.
func (r *Recent) View() (times []schemas.Time, cpu, mem []float32) {
	lo := max(0, r.n-recentRows)
	return r.time[lo:r.n], r.cpu[lo:r.n], r.mem[lo:r.n]
}

// covers reports whether times as old as t are still told apart exactly.
func (r *Recent) covers(t schemas.Time) bool { return r.n < recentRows || t > r.time[r.n-recentRows] }

// has reports whether there is a sample of exactly that time.
func (r *Recent) has(t schemas.Time) bool {
	if r.n == 0 || t > r.time[r.n-1] {
		return false
	}
	i := r.search(t)
	return i < r.n && r.time[i] == t
}

func (r *Recent) search(t schemas.Time) int {
	return sort.Search(r.n, func(i int) bool { return r.time[i] >= t })
}

// insert keeps the order of time; a sample older than all kept is passed over when
// the hour is full.
func (r *Recent) insert(t schemas.Time, cpu, mem float32) {
	if r.n == len(r.time) {
		copy(r.time, r.time[recentSlack:])
		copy(r.cpu, r.cpu[recentSlack:])
		copy(r.mem, r.mem[recentSlack:])
		r.n = recentRows
	}
	i := r.n
	if r.n > 0 && t <= r.time[r.n-1] {
		i = r.search(t)
		if i == 0 && r.n >= recentRows || i < r.n && r.time[i] == t {
			return
		}
		copy(r.time[i+1:r.n+1], r.time[i:r.n])
		copy(r.cpu[i+1:r.n+1], r.cpu[i:r.n])
		copy(r.mem[i+1:r.n+1], r.mem[i:r.n])
	}
	r.time[i], r.cpu[i], r.mem[i] = t, cpu, mem
	r.n++
}

// subrange are the subslots of step s whose middle lies in (lo, hi]; an interval
// too short to hold a middle counts as the subslot of its end.
func subrange(s schemas.Step, lo, hi schemas.Time, base time.Duration) uint64 {
	start, w := int64(s.Start(base)), int64(base)
	at := func(t schemas.Time) int64 { return ((int64(t)-start)*2*subslots + w) / (2 * w) } // rounded
	a, b := at(lo), at(hi)
	if b <= a {
		a = min(max((int64(hi)-start-1)*subslots/w, 0), subslots-1)
		b = a + 1
	}
	b = min(b, subslots)
	return (^uint64(0) >> (subslots - uint(b-a))) << uint(a)
}

// mark notes what part of step s is covered.
func (p *pending) mark(s schemas.Step, lo, hi schemas.Time, base time.Duration) {
	n := schemas.Step(len(p.seen))
	if s > p.seenAt {
		for k := max(p.seenAt+1, s-n+1); k <= s; k++ {
			p.seen[k%n] = 0
		}
		p.seenAt = s
	}
	if s > p.seenAt-n {
		p.seen[s%n] |= subrange(s, lo, hi, base)
	}
}

// covered reports whether everything the sample speaks of was covered before.
func (p *pending) covered(t schemas.Time, width int64, last schemas.Step, lim Limits) bool {
	n := schemas.Step(len(p.seen))
	from := t - schemas.Time(width)
	for s := last; ; s-- {
		lo, hi := max(from, s.Start(lim.Base)), min(t, s.End(lim.Base))
		if hi <= lo || s <= p.seenAt-n {
			return true
		}
		if s > p.seenAt {
			return false
		}
		if want := subrange(s, lo, hi, lim.Base); bits.OnesCount64(want&^p.seen[s%n])*4 > bits.OnesCount64(want) {
			return false // more than a quarter of it is new
		}
	}
}
