package window

import (
	"fmt"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

// dumb is the window told as a map.
type dumb struct {
	rows map[schemas.Step]Row
	last schemas.Step
}

func (d *dumb) put(r Row) bool {
	if len(d.rows) > 0 && r.Step <= d.last-Rows {
		return false
	}
	if len(d.rows) == 0 || r.Step > d.last {
		d.last = r.Step
	}
	d.rows[r.Step] = r
	for s := range d.rows {
		if s <= d.last-Rows {
			delete(d.rows, s)
		}
	}
	return true
}

func rowOf(s schemas.Step, v float32) Row {
	r := Row{Step: s, Coverage: 1, Revision: int(s % 3), Flags: schemas.Flags(s % 2)}
	for c := range r.V {
		r.V[c] = v + float32(c)
	}
	return r
}

func same(a, b float32) bool { return a == b || a != a && b != b }

func TestWindowAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		w := New(mem)
		d := dumb{rows: map[schemas.Step]Row{}}
		at := schemas.Step(rapid.Int64Range(3000, 9000).Draw(t, "start"))
		for n := rapid.IntRange(1, 12).Draw(t, "runs"); n > 0; n-- {
			switch rapid.IntRange(0, 4).Draw(t, "move") {
			case 0:
				at += schemas.Step(rapid.Int64Range(0, 3000).Draw(t, "jump"))
			case 1:
				at -= schemas.Step(rapid.Int64Range(0, 2600).Draw(t, "back"))
			}
			at = max(at, 1)
			for k := rapid.IntRange(1, 700).Draw(t, "rows"); k > 0; k-- {
				r := rowOf(at, rapid.Float32Range(0, 10).Draw(t, "v"))
				r.V[schemas.ColSwap] = schemas.NaN()
				if rapid.IntRange(0, 9).Draw(t, "missing") == 0 {
					r.V[schemas.ColCPU] = schemas.NaN()
				}
				if got, want := w.Put(&r), d.put(r); got != want {
					t.Fatalf("put %d: %v, want %v", at, got, want)
				}
				at++
			}
			v := w.View()
			if v.N > Rows || v.Last() != d.last {
				t.Fatalf("view of %d rows to %d, want to %d", v.N, v.Last(), d.last)
			}
			if v.Cols[schemas.ColSwap] != nil {
				t.Fatal("optional column allocated without a value")
			}
			found := 0
			for i := range v.N {
				s := v.First + schemas.Step(i)
				want, ok := d.rows[s]
				var got Row
				if w.Get(s, &got) != ok {
					t.Fatalf("step %d: held %v, want %v", s, !ok, ok)
				}
				if !ok {
					if !schemas.IsNaN(v.Cols[0][i]) || v.Cov[i] != 0 {
						t.Fatalf("gap at %d is not missing", s)
					}
					continue
				}
				found++
				for c := range want.V {
					if !same(got.V[c], want.V[c]) {
						t.Fatalf("step %d column %d: %v, want %v", s, c, got.V[c], want.V[c])
					}
				}
				if got.Revision != want.Revision || got.Flags != want.Flags {
					t.Fatalf("step %d: revision %d flags %d, want %d %d", s, got.Revision, got.Flags, want.Revision, want.Flags)
				}
			}
			if found != len(d.rows) {
				t.Fatalf("%d rows, want %d", found, len(d.rows))
			}
		}
		w.Release()
		mem.AssertSize(fatal{t}, 0)
	})
}

type fatal struct{ *rapid.T }

func (f fatal) Helper() {}

func TestViewAliases(t *testing.T) {
	w := New(memory.NewGoAllocator())
	for s := schemas.Step(1); s <= Rows+slack+40; s++ {
		r := rowOf(s, float32(s))
		w.Put(&r)
	}
	v := w.View()
	if v.N != Rows || v.Cols[0][0] != float32(v.First) || v.Cols[0][Rows-1] != Rows+slack+40 {
		t.Fatalf("rows %d: %v .. %v", v.N, v.Cols[0][0], v.Cols[0][Rows-1])
	}
	v.Cols[0][5] = 77
	if w.View().Cols[0][5] != 77 {
		t.Fatal("view was a copy")
	}
}

func TestRecord(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	w := New(mem)
	for s := schemas.Step(100); s < 100+Rows+50; s++ {
		if s%7 == 0 && s > 110 {
			continue
		}
		r := rowOf(s, float32(s))
		r.V[schemas.ColAppMs] = schemas.NaN()
		w.Put(&r)
	}
	rec := w.Record(mem)
	if rec.NumRows() != Rows || !rec.Schema().Equal(RecordSchema) {
		t.Fatalf("record of %d rows: %v", rec.NumRows(), rec.Schema())
	}
	steps, cpu := rec.Column(0).(*array.Int64), rec.Column(2).(*array.Float32)
	for i := range int(rec.NumRows()) {
		s := schemas.Step(steps.Value(i))
		if gap := s%7 == 0 && s > 110; cpu.IsNull(i) != gap || !gap && cpu.Value(i) != float32(s) {
			t.Fatalf("step %d: null %v value %v", s, cpu.IsNull(i), cpu.Value(i))
		}
	}
	if app := rec.Column(2 + int(schemas.ColAppMs)); app.NullN() != Rows {
		t.Fatalf("app_ms: %d nulls", app.NullN())
	}
	rec.Release()
	w.Release()
	mem.AssertSize(t, 0)
}

// TestMemory holds a VM to its budget: window, last hour and what tells doubles.
func TestMemory(t *testing.T) {
	measure := func(optional bool) int {
		mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
		w := New(mem)
		r := rowOf(10, 1)
		if !optional {
			for c := base; c < schemas.NumColumns; c++ {
				r.V[c] = schemas.NaN()
			}
		}
		w.Put(&r)
		a := NewAccumulator(mem, Limits{Base: schemas.DefaultBase, Late: 72, VMs: 1})
		p := a.add(schemas.VMID{1})
		const struct3Cells = 4*400 + 300 // cells and the structs themselves, rounded up
		return mem.CurrentAlloc() + 8*len(p.seen) + struct3Cells
	}
	plain, full := measure(false), measure(true)
	t.Logf("a VM: %d bytes, with the optional columns %d", plain, full)
	if plain > 128<<10 || full > 164<<10 {
		t.Fatalf("a VM takes %d bytes (at most %d), with the optional columns %d (at most %d)", plain, 128<<10, full, 164<<10)
	}
}

func TestMerge(t *testing.T) {
	nan := schemas.NaN()
	a, b := Row{Step: 3, Coverage: .75, Flags: 1}, Row{Step: 3, Coverage: .25, Flags: 2}
	for c := range a.V {
		a.V[c], b.V[c] = 4, 8
		a.Weight[c], b.Weight[c] = .75, .25
	}
	a.V[schemas.ColNetRx], b.V[schemas.ColDiskRd] = nan, nan
	if err := a.Merge(&b); err != nil {
		t.Fatal(err)
	}
	if a.V[0] != 5 || a.V[schemas.ColCPUMax] != 8 || a.V[schemas.ColNetRx] != 8 || a.V[schemas.ColDiskRd] != 4 || a.Coverage != 1 || a.Flags != 3 {
		t.Fatalf("%+v", a)
	}
	if err := a.Merge(&Row{Step: 4}); err == nil {
		t.Fatal("merged another step")
	}
}

func TestStore(t *testing.T) {
	s := NewStore(memory.NewGoAllocator(), 3)
	id := func(n byte) schemas.VMID { return schemas.VMID{n} }
	for n := byte(1); n <= 4; n++ {
		r := rowOf(schemas.Step(n)*10, 1)
		r.VM, r.Host = id(n), "h"
		r.AllocCPU, r.AllocMem = schemas.NaN(), 5
		if got := s.Put(&r); got != (n <= 3) {
			t.Fatalf("put %d: %v", n, got)
		}
	}
	slot := s.Get(id(1)).Slot
	var gone []schemas.VMID
	s.Evict(15+Rows, func(v *VM) { gone = append(gone, v.ID) })
	if len(gone) != 1 || gone[0] != id(1) || s.Get(id(1)) != nil || s.Len() != 2 {
		t.Fatalf("evicted %v", gone)
	}
	r := rowOf(50, 2)
	r.VM, r.AllocCPU = id(9), schemas.NaN()
	s.Put(&r)
	v := s.Get(id(9))
	if v.Slot != slot || v.W.Len() != 1 || v.Steps != 1 || !math.IsNaN(float64(v.AllocCPU)) {
		t.Fatalf("slot %d (want %d), %d rows", v.Slot, slot, v.W.Len())
	}
	for p := range schemas.Partitions {
		list := s.Partition(p)
		for i, v := range list {
			if v.ID.Partition() != p || i > 0 && string(list[i-1].ID[:]) >= string(v.ID[:]) {
				t.Fatalf("partition %d holds %v at %d", p, v.ID, i)
			}
		}
	}
}

// BenchmarkAppend reports CPU ns per value of a row of ten columns, turn by turn for the
// VMs of one host, and for so many that every row misses the caches.
func BenchmarkAppend(b *testing.B) {
	for _, vms := range []int{50, 1000} {
		b.Run(fmt.Sprintf("vms=%d", vms), func(b *testing.B) { appendRows(b, vms) })
	}
}

func appendRows(b *testing.B, vms int) {
	ws := make([]*Window, vms)
	for i := range ws {
		ws[i] = New(memory.NewGoAllocator())
	}
	r := rowOf(0, 1)
	for c := base; c < schemas.NumColumns; c++ {
		r.V[c] = schemas.NaN()
	}
	for i := range 3000 * vms { // touch the memory and get the slide going
		r.Step = schemas.Step(1 + i/vms)
		ws[i%vms].Put(&r)
	}
	b.ReportAllocs()
	b.ResetTimer()
	from := cpuNow()
	for i := range b.N {
		r.Step = schemas.Step(3001 + i/vms)
		r.V[0] = float32(i)
		ws[i%vms].Put(&r)
	}
	b.ReportMetric(float64((cpuNow()-from).Nanoseconds())/float64(b.N)/float64(base), "cpu-ns/value")
}

// cpuNow is the process's CPU time: the wall clock of a shared machine says little.
func cpuNow() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
