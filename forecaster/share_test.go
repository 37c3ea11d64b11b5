package forecaster

import (
	"math"
	"slices"
	"testing"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// all owns every partition.
var all = slices.Repeat([]bool{true}, schemas.Partitions)

// heir makes a decider that takes over from w's everything it held at snapshot time, as
// the service does it: shared state, the newest history, the samples, the snapshots of
// the partitions, the older history.
func heir(t *testing.T, w *world, shared []byte, parts map[int][]byte) *Decider {
	t.Helper()
	d, err := NewShare(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.LoadShared(shared); err != nil {
		t.Fatal(err)
	}
	d.now = w.now
	newest := w.seq[streams.Steps] - min(w.seq[streams.Steps], 800)
	each := func(f func(streams.Event)) {
		for _, e := range w.events {
			if e, ok := e.(streams.Event); ok {
				f(e)
			}
		}
	}
	var leases [schemas.Partitions]uint64
	for p := range leases {
		d.Follow(p)
		leases[p] = 9
	}
	each(func(e streams.Event) {
		if e.Stream == streams.Steps && e.Seq > newest {
			if err := d.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
	})
	of := partMask(slices.Collect(func(yield func(int) bool) {
		for p := range leases {
			if !yield(p) {
				return
			}
		}
	}))
	for p := range leases {
		d.SetLast(p, w.last[streams.SubjectSteps(p)])
	}
	each(func(e streams.Event) {
		if m, ok := e.Msg.(*schemas.Metrics); ok {
			d.FoldFor(m, e, &of)
		}
	})
	d.SetLeases(leases)
	for p := range leases {
		d.Live(p, w.seq[streams.Metrics])
		var part *Part
		if b := parts[p]; b != nil {
			if part, err = DecodePart(b, int64(base)); err != nil {
				t.Fatal(err)
			}
		}
		if !d.Activate(p, part) {
			t.Fatalf("partition %d was not taken", p)
		}
	}
	each(func(e streams.Event) {
		if m, ok := e.Msg.(*schemas.Steps); ok && e.Seq <= newest {
			d.Fill(m, e)
		}
	})
	for p := range leases {
		d.Filled(p)
	}
	return d
}

// save writes the snapshots of all partitions.
func save(t *testing.T, d *Decider) (shared []byte, parts map[int][]byte) {
	t.Helper()
	shared, err := d.SaveShared(nil)
	if err != nil {
		t.Fatal(err)
	}
	parts = map[int][]byte{}
	for p := range schemas.Partitions {
		if parts[p], err = d.SavePart(p, nil); err != nil {
			t.Fatal(err)
		}
	}
	return shared, parts
}

// TestAnHeirForecastsAsTheOwnerWould kills an owner some steps after its last
// snapshots, in the middle of a step, with closed steps that it never published: who
// takes over leaves the same history, and forecasts within 2 % of the allocation of one
// that never died: what that one learnt of its own forecasts since the snapshots is lost.
func TestAnHeirForecastsAsTheOwnerWould(t *testing.T) {
	const vms = 12
	w := newWorld(t, Config{})
	now := firstStep + 400
	w.backfill(vms, firstStep, now)
	for k := range schemas.Step(30) {
		w.live(vms, now+k, nil)
		w.drain(w.afterGrace(now + k))
	}
	shared, parts := save(t, w.d)
	for k := schemas.Step(30); k < 33; k++ {
		w.live(vms, now+k, nil)
		w.drain(w.afterGrace(now + k))
	}
	w.live(vms, now+33, nil)
	w.lose = func(o streams.Out) bool { _, ok := o.Msg.(*schemas.Steps); return ok }
	w.tick(w.afterGrace(now + 33)) // closed, and lost with the owner
	w.lose = nil
	d := heir(t, w, shared, parts)
	owner := w.d
	w.d = d
	w.drain(w.afterGrace(now+33) + 1)
	owner.SetLeases([schemas.Partitions]uint64{})
	for k := schemas.Step(34); k < 40; k++ {
		from := len(w.outs)
		w.live(vms, now+k, nil)
		w.drain(w.afterGrace(now + k))
		got := of[*schemas.Steps](w.outs[from:])
		n := 0
		for _, m := range got {
			if m.Step != now+k || m.Revision != 0 {
				t.Fatalf("step %d: published step %d revision %d", now+k, m.Step, m.Revision)
			}
			n += len(m.VM)
		}
		if n != vms {
			t.Fatalf("step %d: %d rows of %d VMs", now+k, n, vms)
		}
	}
	// The history: every VM once a step, whole, with the demand that was measured.
	seen := map[schemas.VMID]map[schemas.Step]bool{}
	for _, e := range w.events {
		m, ok := eventSteps(e)
		if !ok {
			continue
		}
		for i, id := range m.VM {
			if seen[id] == nil {
				seen[id] = map[schemas.Step]bool{}
			}
			cpu, _ := demand(int(id[0]), m.Step)
			if seen[id][m.Step] || m.Coverage[i] != 1 || math.Abs(float64(m.Cols[schemas.ColCPU][i]-cpu)) > 1e-2 {
				t.Fatalf("vm %s step %d: twice %v, coverage %v, %v instead of %v", id, m.Step, seen[id][m.Step], m.Coverage[i], m.Cols[schemas.ColCPU][i], cpu)
			}
			seen[id][m.Step] = true
		}
	}
	for id, steps := range seen {
		if len(steps) != 400+40 {
			t.Fatalf("vm %s: %d steps, want %d", id, len(steps), 440)
		}
	}
	// The forecasts: as those of a decider that never died.
	twin := newWorld(t, Config{})
	twin.backfill(vms, firstStep, now)
	for k := range schemas.Step(40) {
		twin.live(vms, now+k, nil)
		twin.drain(twin.afterGrace(now + k))
	}
	worst := 0.0
	want := map[schemas.VMID][]float32{}
	for _, f := range of[*schemas.Forecasts](twin.outs) {
		for i, id := range f.VM {
			if f.Issued == now+39 {
				want[id] = f.Dist(i, schemas.CPU).Q
			}
		}
	}
	compared := 0
	for _, f := range of[*schemas.Forecasts](w.outs) {
		for i, id := range f.VM {
			if f.Issued == now+39 {
				for k, q := range f.Dist(i, schemas.CPU).Q {
					worst = max(worst, math.Abs(float64(q-want[id][k]))/2000)
					compared++
				}
			}
		}
	}
	t.Logf("largest difference of a quantile: %.2g of the allocation, of %d", worst, compared)
	if compared == 0 || worst > .02 {
		t.Fatalf("the heir's forecasts differ by %v of the allocation", worst)
	}
}

func eventSteps(e any) (*schemas.Steps, bool) {
	if e, ok := e.(streams.Event); ok {
		m, ok := e.Msg.(*schemas.Steps)
		return m, ok
	}
	return nil, false
}

// TestDropForgetsOnePartition: what is dropped is gone, the rest goes on.
func TestDropForgetsOnePartition(t *testing.T) {
	w := newWorld(t, Config{})
	now := firstStep + 60
	w.backfill(8, firstStep, now)
	w.live(8, now, nil)
	w.drain(w.afterGrace(now))
	part := vmID(3).Partition()
	gone := len(w.d.store.Partition(part))
	w.d.Drop(part)
	from := len(w.outs)
	w.live(8, now+1, nil)
	w.drain(w.afterGrace(now + 1))
	n := 0
	for _, m := range of[*schemas.Forecasts](w.outs[from:]) {
		if m.Partition == part {
			t.Fatal("forecast a partition that was dropped")
		}
		n += len(m.VM)
	}
	if n != 8-gone || gone == 0 {
		t.Fatalf("%d VMs forecast, %d dropped of 8", n, gone)
	}
}

// TestBadPartSnapshotsAreRefused damages a snapshot in every way that a store can.
func TestBadPartSnapshotsAreRefused(t *testing.T) {
	w := newWorld(t, Config{})
	w.backfill(2, firstStep, firstStep+30)
	w.live(2, firstStep+30, nil)
	w.drain(w.afterGrace(firstStep + 30))
	b, err := w.d.SavePart(vmID(1).Partition(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := DecodePart(b, int64(base)); err != nil || len(p.VMs) == 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	for n := 0; n < len(b); n += 97 {
		if _, err := DecodePart(b[:n], int64(base)); err == nil {
			t.Fatalf("took %d of %d bytes", n, len(b))
		}
		bad := slices.Clone(b)
		bad[n] ^= 1
		if _, err := DecodePart(bad, int64(base)); err == nil {
			t.Fatalf("took a flipped bit at %d", n)
		}
	}
	if _, err := DecodePart(b, 1); err == nil {
		t.Fatal("took a snapshot of another base step")
	}
}
