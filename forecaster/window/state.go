package window

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/foreshift/foreshift/schemas"
)

const stateVersion = 2

// AppendState writes what was gathered and not handed out yet, and what is needed to
// tell doubles. Of the last hour only the samples of open steps are kept: for closed
// steps doubles are told by what was covered.
func (a *Accumulator) AppendState(b []byte) []byte {
	b = append(b, stateVersion)
	b = u64(b, uint64(a.now))
	b = u64(b, uint64(a.closed))
	b = flag(b, a.any)
	for _, c := range []uint64{a.Counts.Rows, a.Counts.Late, a.Counts.TooLate, a.Counts.Future,
		a.Counts.Duplicate, a.Counts.Invalid, a.Counts.Full, a.Counts.Standby} {
		b = u64(b, c)
	}
	b = u64(b, uint64(len(a.byID)))
	for _, list := range a.parts {
		for _, p := range list {
			b = p.appendState(b, a)
		}
	}
	return b
}

func (p *pending) appendState(b []byte, a *Accumulator) []byte {
	b = append(b, p.id[:]...)
	b = text(b, string(p.host))
	b = u64(b, uint64(p.latest))
	b = u64(b, uint64(p.seenAt))
	b = u64(b, uint64(len(p.seen)))
	for _, s := range p.seen {
		b = u64(b, s)
	}
	from := 0
	if a.any {
		from = p.search(a.closed.End(a.lim.Base) + 1)
	}
	from = max(from, p.n-recentRows)
	b = u64(b, uint64(p.n-from))
	for i := from; i < p.n; i++ {
		b = u64(b, uint64(p.time[i]))
		b = f32(f32(b, p.cpu[i]), p.mem[i])
	}
	b = u64(b, uint64(len(p.cells)))
	for i := range p.cells {
		c := &p.cells[i]
		b = u64(u64(u64(b, uint64(c.step)), uint64(c.stored)), uint64(c.newest))
		for k := range c.sum {
			b = u64(u64(b, math.Float64bits(c.sum[k])), math.Float64bits(c.missed[k]))
		}
		b = u64(f32(f32(f32(f32(b, c.max[0]), c.max[1]), c.alloc[0]), c.alloc[1]), math.Float64bits(c.cover))
		b = append(text(u64(u64(b, c.first), c.read), string(c.host)), byte(c.flags))
	}
	return b
}

// LoadState reads what AppendState wrote with the same limits; the accumulator must
// be new.
func (a *Accumulator) LoadState(b []byte) (rest []byte, err error) {
	r := reader{b: b}
	if v := r.byte(); v != stateVersion {
		return nil, fmt.Errorf("window state: version %d, want %d", v, stateVersion)
	}
	a.now, a.closed, a.any = int64(r.u64()), schemas.Step(r.u64()), r.byte() != 0
	for _, c := range []*uint64{&a.Counts.Rows, &a.Counts.Late, &a.Counts.TooLate, &a.Counts.Future,
		&a.Counts.Duplicate, &a.Counts.Invalid, &a.Counts.Full, &a.Counts.Standby} {
		*c = r.u64()
	}
	n := r.count(40)
	if n > a.lim.VMs {
		return nil, fmt.Errorf("window state: %d VMs, at most %d", n, a.lim.VMs)
	}
	for range n {
		var id schemas.VMID
		copy(id[:], r.take(16))
		if r.short || a.byID[id] != nil {
			break
		}
		if err := a.add(id).load(&r); err != nil {
			return nil, err
		}
	}
	if r.short || len(a.byID) != n {
		return nil, fmt.Errorf("window state: truncated, or a VM twice")
	}
	return r.b, nil
}

func (p *pending) load(r *reader) error {
	p.host = schemas.HostID(r.text())
	p.latest, p.seenAt = schemas.Time(r.u64()), schemas.Step(r.u64())
	if n := r.count(8); n != len(p.seen) {
		return fmt.Errorf("window state: vm %s: late limit of %d steps, ours is %d", p.id, n, len(p.seen))
	}
	for i := range p.seen {
		p.seen[i] = r.u64()
	}
	n := r.count(16)
	if n > recentRows {
		return fmt.Errorf("window state: vm %s: %d recent samples, at most %d", p.id, n, recentRows)
	}
	for range n {
		t := schemas.Time(r.u64())
		cpu := r.f32()
		p.insert(t, cpu, r.f32())
	}
	for n := r.count(64); n > 0; n-- {
		var c cell
		c.step, c.stored, c.newest = schemas.Step(r.u64()), int64(r.u64()), schemas.Time(r.u64())
		for k := range c.sum {
			c.sum[k], c.missed[k] = math.Float64frombits(r.u64()), math.Float64frombits(r.u64())
		}
		c.max[0], c.max[1], c.alloc[0], c.alloc[1] = r.f32(), r.f32(), r.f32(), r.f32()
		c.cover = math.Float64frombits(r.u64())
		c.first, c.read = r.u64(), r.u64()
		c.host = schemas.HostID(r.text())
		c.flags = schemas.Flags(r.byte())
		p.cells = append(p.cells, c)
	}
	return nil
}

func u64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }
func f32(b []byte, v float32) []byte {
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
}
func text(b []byte, s string) []byte { return append(u64(b, uint64(len(s))), s...) }
func flag(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// reader takes values off b and remembers if there were too few.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.short, r.b = true, nil
		return make([]byte, min(max(n, 0), 64))
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}
func (r *reader) byte() byte   { return r.take(1)[0] }
func (r *reader) u64() uint64  { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *reader) f32() float32 { return math.Float32frombits(binary.LittleEndian.Uint32(r.take(4))) }

func (r *reader) text() string {
	n := r.count(1)
	return string(r.take(n))
}

// count reads a number of items of at least the given size, bounded by what is left.
func (r *reader) count(size int) int {
	n := r.u64()
	if n > uint64(len(r.b)/size) {
		r.short = true
		return 0
	}
	return int(n)
}
