package forecaster

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

const base = schemas.DefaultBase

// world is a small bus: it gives what a decider publishes back to it as events and
// keeps all of it.
type world struct {
	t      testing.TB
	d      *Decider
	seq    map[string]uint64 // by stream
	last   map[string]uint64 // STEPS: by subject
	ids    map[string]bool
	events []any // streams.Event and streams.Cut, in order
	outs   []streams.Out
	now    int64
	lose   func(streams.Out) bool // publications that get lost
}

func newWorld(t testing.TB, cfg Config) *world {
	t.Helper()
	d, err := NewDecider(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, d: d, seq: map[string]uint64{}, last: map[string]uint64{}, ids: map[string]bool{}}
}

func (w *world) apply(stream, subject string, m schemas.Message, at int64) {
	w.t.Helper()
	if err := m.Validate(); err != nil {
		w.t.Fatalf("%s: %v", subject, err)
	}
	w.seq[stream]++
	if stream == streams.Steps {
		w.last[subject] = w.seq[stream]
	}
	e := streams.Event{Stream: stream, Subject: subject, Seq: w.seq[stream], Time: at, Msg: m}
	w.events = append(w.events, e)
	if err := w.d.Apply(e); err != nil {
		w.t.Fatalf("apply %s: %v", subject, err)
	}
}

var errWrongSequence = errors.New("wrong last sequence")

func (w *world) publish(o streams.Out) error {
	if o.Expect != nil && w.last[o.Expect.Filter] != o.Expect.Seq {
		return errWrongSequence
	}
	if w.ids[o.ID] {
		return nil // the bus drops the double
	}
	w.ids[o.ID] = true
	if m, ok := o.Msg.(*schemas.Steps); ok {
		w.apply(streams.Steps, o.Subject, m, w.now)
	}
	return nil
}

// tick ticks at a time and publishes; it gives what was decided.
func (w *world) tick(now int64) []streams.Out {
	w.t.Helper()
	w.now = now
	cut := streams.Cut{Now: now}
	w.events = append(w.events, cut)
	outs := w.d.Tick(cut)
	for _, o := range outs {
		if err := o.Msg.Validate(); err != nil {
			w.t.Fatalf("%s: %v", o.Subject, err)
		}
		if w.lose != nil && w.lose(o) {
			continue
		}
		if err := w.publish(o); err != nil && !errors.Is(err, errWrongSequence) {
			w.t.Fatal(err)
		}
	}
	w.outs = append(w.outs, outs...)
	return outs
}

// drain ticks until every closed step has been published.
func (w *world) drain(now int64) (outs []streams.Out) {
	for {
		o := w.tick(now)
		outs = append(outs, o...)
		if len(o) == 0 {
			return outs
		}
	}
}

// demand of VM n at a step: a day shape, noise, and a burst that VMs 0 to 3 share.
func demand(n int, s schemas.Step) (cpu, mem float32) {
	h := xxhash.Sum64String(string(rune(n)) + string(rune(s%1000000)))
	noise := float64(h%1000)/1000 - .5
	phase := 2 * math.Pi * float64(s%288) / 288
	cpu64 := 1000 + 700*math.Sin(phase-math.Pi/2) + 80*noise
	if n < 4 && xxhash.Sum64String("burst"+string(rune(s/6%100000)))%12 == 0 {
		cpu64 += 900
	}
	return float32(max(0, cpu64)), float32(2e9 + 1e8*math.Sin(phase))
}

func vmID(n int) (v schemas.VMID) {
	v[0], v[1], v[15] = byte(n), byte(n>>8), 7
	return v
}

const firstStep = schemas.Step(288 * 20000)

// backfill applies the history of VMs at steps from..to-1.
func (w *world) backfill(vms int, from, to schemas.Step) {
	w.t.Helper()
	for s := from; s < to; s++ {
		parts := map[int]*schemas.Steps{}
		for n := range vms {
			p := vmID(n).Partition()
			if parts[p] == nil {
				parts[p] = &schemas.Steps{Partition: p, Step: s, Base: base}
			}
			m := parts[p]
			cpu, mem := demand(n, s)
			m.VM, m.Host = append(m.VM, vmID(n)), append(m.Host, "h1")
			m.Coverage, m.Flags = append(m.Coverage, 1), append(m.Flags, schemas.FlagImported)
			m.AllocCPU, m.AllocMem = append(m.AllocCPU, 2000), append(m.AllocMem, 4e9)
			m.Cols[schemas.ColCPU], m.Cols[schemas.ColMem] = append(m.Cols[schemas.ColCPU], cpu), append(m.Cols[schemas.ColMem], mem)
			m.Cols[schemas.ColCPUMax] = append(m.Cols[schemas.ColCPUMax], cpu)
		}
		for p := range schemas.Partitions {
			if m := parts[p]; m != nil {
				w.apply(streams.Steps, streams.SubjectSteps(p), m, int64(s.End(base)))
			}
		}
	}
}

// live applies the samples of one step, five of a minute each, all VMs on one host.
func (w *world) live(vms int, s schemas.Step, skip func(n int) bool) {
	w.t.Helper()
	for k := 1; k <= 5; k++ {
		t := s.Start(base) + schemas.Time(k)*schemas.Time(time.Minute)
		m := &schemas.Metrics{Host: "h1", Site: "a", Agent: "x", Seq: uint64(s)*5 + uint64(k)}
		for n := range vms {
			if skip != nil && skip(n) {
				continue
			}
			cpu, mem := demand(n, s)
			m.VM, m.Time = append(m.VM, vmID(n)), append(m.Time, t)
			m.IntervalS, m.Flags = append(m.IntervalS, 60), append(m.Flags, 0)
			m.AllocCPU, m.AllocMem = append(m.AllocCPU, 2000), append(m.AllocMem, 4e9)
			m.Cols[schemas.ColCPU], m.Cols[schemas.ColMem] = append(m.Cols[schemas.ColCPU], cpu), append(m.Cols[schemas.ColMem], mem)
			m.Cols[schemas.ColNetRx] = append(m.Cols[schemas.ColNetRx], 100)
		}
		if len(m.VM) > 0 {
			w.apply(streams.Metrics, streams.SubjectMetrics("h1"), m, int64(t)+1e9)
		}
	}
}

// afterGrace is when step s closes.
func (w *world) afterGrace(s schemas.Step) int64 { return int64(s.End(base)) + int64(w.d.cfg.Grace) }

// of picks the messages of one type.
func of[M schemas.Message](outs []streams.Out) (ms []M) {
	for _, o := range outs {
		if m, ok := o.Msg.(M); ok {
			ms = append(ms, m)
		}
	}
	return ms
}
