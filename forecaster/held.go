package forecaster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Bounds of what is done beside forecasting. Snapshots are taken one partition at a time.
const (
	sharedName  = "forecaster.shared"
	workPerTick = 100 * time.Millisecond // of what has been loaded, in the decider's goroutine
	mostRecent  = 50_000                 // messages of METRICS kept while partitions are loaded
	lastLimit   = 20 * time.Second       // for what is saved at the end
	reloadPause = time.Second            // after a load that failed; doubled each time
	mostTries   = 5                      // of a snapshot that the bus does not give in time
	mostLoads   = 2                      // at a time of what it takes to go on: each holds samples in memory
)

func partName(p int) string { return fmt.Sprintf("forecaster.part.%d", p) }

// held is the shell's side of the partitions: it asks in the goroutine that owns the
// decider which of them should be here, has them loaded in the background, and gives
// them up when another is ready for them.
type held struct {
	*Decider
	cfg      Config
	log      *slog.Logger
	bus      *streams.Bus
	ctx      context.Context
	lease    *streams.Lease // of the one that publishes models
	revision uint64         // of that lease, as of this tick
	sharing  *streams.Share
	gauges   *gauges
	models   *modelKeeper
	work     sync.WaitGroup

	parts  [schemas.Partitions]partWork
	todo   chan func() // from the loaders, for the decider's goroutine
	recent []streams.Event
	busy   int    // partitions being loaded
	loads  int    // that have not read what it takes to go on yet
	at     uint64 // sequence of METRICS applied last
	stored chan struct{}
	next   int // partition whose snapshot may be due next
	saved  time.Time
	stats  shareStats
}

// shareStats count since the start.
type shareStats struct {
	loads, failed, dropped, saves, unsaved uint64
	loadTook, fillTook                     time.Duration // of the last
}

// partWork is how far a partition has come.
type partWork struct {
	stage      loadStage
	generation int       // of the load; one that is late counts for nothing
	part       *Part     // loaded, not yet taken by the models
	load       *load     // under way
	again      time.Time // not before, after a failure
	tries      int       // loads that failed, one after the other
	saved      time.Time
	asked      time.Time
}

type loadStage uint8

const (
	none loadStage = iota
	asked
	ready // windows follow the history; the models do not know its VMs yet
	taken
)

// Apply implements streams.Decider. The bytes of a model are fetched before the tick.
func (h *held) Apply(e streams.Event) error {
	if m, ok := e.Msg.(*schemas.Model); ok {
		h.models.announced(m)
		return nil
	}
	if e.Stream == streams.Metrics {
		h.at = e.Seq
		if h.busy > 0 {
			h.recent = append(h.recent, e)
			if len(h.recent) > mostRecent { // the loaders are too slow: they begin again
				for p := range h.parts {
					if h.parts[p].stage == asked {
						h.abandon(p)
					}
				}
			}
		}
	}
	return h.Decider.Apply(e)
}

// Tick implements streams.Decider.
func (h *held) Tick(c streams.Cut) []streams.Out {
	h.revision = h.lease.Revision()
	for _, v := range h.models.fetch() {
		if err := h.Decider.Apply(streams.Event{Stream: streams.Models, Subject: streams.SubjectModel(v.Name, v.Version), Time: c.Now, Msg: v}); err != nil {
			h.models.log.Warn("model not taken", "err", err)
		}
	}
	h.deliver()
	h.settle(h.sharing.View())
	outs := h.Decider.Tick(c)
	if h.revision != 0 {
		h.models.origins(h.Decider)
		h.models.train(h.Decider)
	}
	h.save(c)
	h.gauges.set(h.Stats())
	h.gauges.share(h)
	return outs
}

// deliver does what the loaders have made ready, for a while.
func (h *held) deliver() {
	for begun := time.Now(); time.Since(begun) < workPerTick; {
		select {
		case f := <-h.todo:
			f()
		default:
			return
		}
	}
}

// settle compares what is here with what should be. While our own session has lapsed all
// of it stays, and follows the history as a standby does: on a machine that is too busy
// to renew a lease in time, loading everything anew would make it busier still.
func (h *held) settle(v streams.ShareView) {
	if v.Lapsed {
		h.SetLeases([schemas.Partitions]uint64{})
		return
	}
	var wanted []int
	var leases [schemas.Partitions]uint64
	now := time.Now()
	for p := range h.parts {
		w := &h.parts[p]
		here := v.Held[p] != 0 || v.Mine[p]
		switch {
		case w.stage != none && (!here || v.Held[p] != 0 && h.Stale(p)):
			h.abandon(p)
		case w.stage == none && here && now.After(w.again):
			wanted = append(wanted, p)
		}
		if v.Wanted[p] && h.Waiting(p) == 0 { // another is ready for it, and all that is closed is in the history
			h.sharing.Release(p)
			continue
		}
		if w.stage >= ready {
			leases[p] = v.Held[p]
		}
	}
	h.SetLeases(leases)
	for p := range h.parts {
		w := &h.parts[p]
		if w.stage == ready && leases[p] != 0 && h.Activate(p, w.part) {
			w.stage, w.part, w.saved = taken, nil, now
			h.stats.loadTook = now.Sub(w.asked)
		}
		h.sharing.SetReady(p, w.stage >= ready)
	}
	if len(wanted) > 0 && h.loads < mostLoads {
		h.load(wanted)
	}
}

// abandon forgets a partition, and a load of it under way, which ends when nobody wants
// anything of it any more.
func (h *held) abandon(p int) {
	w := &h.parts[p]
	if w.stage == asked {
		h.unbusy()
	}
	if w.load != nil {
		w.load.release()
	}
	h.parts[p] = partWork{generation: w.generation + 1, again: w.again, tries: w.tries}
	h.Drop(p)
	h.stats.dropped++
}

func (h *held) unbusy() {
	if h.busy--; h.busy == 0 {
		h.recent = nil
	}
}

// postpone abandons partitions that could not be loaded, and has them tried again later.
func (h *held) postpone(parts []int) {
	for _, p := range parts {
		w := &h.parts[p]
		w.again = time.Now().Add(reloadPause << min(w.tries, mostTries))
		w.tries++
		h.abandon(p)
		h.stats.failed++
	}
}

// load has partitions loaded in the background.
func (h *held) load(parts []int) {
	ctx, cancel := context.WithCancel(h.ctx)
	l := &load{bus: h.bus, cfg: h.cfg, log: h.log, parts: parts, begun: time.Now(), patient: map[int]bool{}, cancel: cancel, wanted: len(parts)}
	generation := map[int]int{}
	for _, p := range parts {
		w := &h.parts[p]
		h.Follow(p)
		w.stage, w.asked, w.load = asked, l.begun, l
		l.patient[p] = w.tries < mostTries
		generation[p] = w.generation
		h.busy++
	}
	h.loads++
	mine := func(stage loadStage) (out []int) { // those of the load that still count
		for _, p := range parts {
			if h.parts[p].generation == generation[p] && h.parts[p].stage >= stage {
				out = append(out, p)
			}
		}
		return out
	}
	h.work.Go(func() {
		defer cancel()
		if err := l.newest(ctx); err != nil {
			if ctx.Err() == nil {
				h.log.Warn("partitions not loaded; trying again", "partitions", len(parts), "err", err)
			}
			h.later(func() {
				h.loads--
				h.postpone(mine(asked))
			})
			return
		}
		h.later(func() {
			h.loads--
			h.postpone(intersect(l.late, mine(asked)))
			h.loaded(l, mine(asked))
		})
		if err := l.older(ctx, func(events []streams.Event) {
			h.later(func() {
				of := partMask(mine(ready))
				for _, e := range events {
					if m, ok := e.Msg.(*schemas.Steps); ok && of[m.Partition] {
						h.Fill(m, e)
					}
				}
			})
		}); err != nil && ctx.Err() == nil {
			// The windows stay short until the next start; the history goes on.
			h.log.Warn("older history not read", "partitions", len(parts), "err", err)
		}
		h.later(func() {
			for _, p := range mine(ready) {
				h.parts[p].load = nil
				h.parts[p].filled(h, p)
			}
			h.stats.fillTook = time.Since(l.begun)
		})
	})
}

// filled notes the end of the older history; a partition that the models have not taken
// yet is told when they do.
func (w *partWork) filled(h *held, p int) {
	if w.stage == taken {
		h.Filled(p)
		return
	}
	h.work.Go(func() { // it waits for its turn: look again in a while
		select {
		case <-h.ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
		generation := w.generation
		h.later(func() {
			if h.parts[p].generation == generation {
				h.parts[p].filled(h, p)
			}
		})
	})
}

// later runs f in the decider's goroutine.
func (h *held) later(f func()) {
	select {
	case h.todo <- f:
	case <-h.ctx.Done():
	}
}

// intersect keeps those of a that are in b.
func intersect(a, b []int) []int {
	in := partMask(b)
	return slices.DeleteFunc(slices.Clone(a), func(p int) bool { return !in[p] })
}

func partMask(parts []int) (m [schemas.Partitions]bool) {
	for _, p := range parts {
		m[p] = true
	}
	return m
}

// loaded folds what was loaded of the partitions.
func (h *held) loaded(l *load, parts []int) {
	of := partMask(parts)
	for _, e := range l.steps {
		if m, ok := e.Msg.(*schemas.Steps); ok && of[m.Partition] {
			if err := h.Decider.Apply(e); err != nil {
				h.log.Warn("history refused", "subject", e.Subject, "sequence", e.Seq, "err", err)
			}
		}
	}
	for _, p := range parts {
		h.SetLast(p, l.last[p])
	}
	fold := func(e streams.Event) {
		if m, ok := e.Msg.(*schemas.Metrics); ok {
			h.FoldFor(m, e, &of)
		}
	}
	for _, e := range l.metrics {
		fold(e)
	}
	for _, e := range h.recent {
		if e.Seq > l.upTo {
			fold(e)
		}
	}
	for _, p := range parts {
		h.Live(p, max(l.upTo, h.at))
		h.parts[p].stage, h.parts[p].part, h.parts[p].tries = ready, l.state[p], 0
		h.unbusy()
		h.stats.loads++
	}
	l.steps, l.metrics, l.state = nil, nil, nil
}

// save stores the snapshot of one partition, or what all share, when it is due.
func (h *held) save(c streams.Cut) {
	every := h.cfg.SnapshotEvery
	now := time.Now()
	if h.revision != 0 && now.Sub(h.saved) >= every && h.made {
		if h.store(c, sharedName, h.SaveShared) {
			h.saved = now
		}
		return
	}
	for range h.parts {
		p := h.next
		h.next = (h.next + 1) % len(h.parts)
		if w := &h.parts[p]; w.stage == taken && h.owned[p] && now.Sub(w.saved) >= every {
			if h.store(c, partName(p), func(b []byte) ([]byte, error) { return h.SavePart(p, b) }) {
				w.saved = now
			} else {
				h.next = p
			}
			return
		}
	}
}

// store takes a state and stores it in the background; false while another is on its
// way.
func (h *held) store(c streams.Cut, name string, state func([]byte) ([]byte, error)) bool {
	select {
	case h.stored <- struct{}{}:
	default:
		return false
	}
	b, err := state(nil)
	h.work.Go(func() {
		defer func() { <-h.stored }()
		if err == nil {
			err = h.bus.PutSnapshot(h.ctx, name, c, b)
		}
		if h.ctx.Err() == nil {
			h.later(func() { h.judge(name, err) })
		}
	})
	return true
}

func (h *held) judge(name string, err error) {
	if err == nil {
		h.stats.saves++
		return
	}
	h.stats.unsaved++
	h.log.Warn("snapshot not stored; going on without: after a crash what the history holds is learnt anew", "snapshot", name, "err", err)
}

// last saves what is held and gives it up, partition by partition.
func (h *held) last() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.ctx), lastLimit)
	defer cancel()
	c := streams.Cut{Now: h.now, Seq: map[string]uint64{streams.Metrics: h.read}}
	put := func(name string, state func([]byte) ([]byte, error)) {
		b, err := state(nil)
		if err == nil {
			err = h.bus.PutSnapshot(ctx, name, c, b)
		}
		h.judge(name, err)
	}
	if h.made && h.lease != nil && h.revision != 0 {
		put(sharedName, h.SaveShared)
	}
	for p := range h.parts {
		if h.parts[p].stage == taken && h.owned[p] && ctx.Err() == nil {
			if len(h.Decider.store.Partition(p)) > 0 {
				put(partName(p), func(b []byte) ([]byte, error) { return h.SavePart(p, b) })
			}
			h.sharing.Release(p)
		}
	}
}

// loadShared takes over what was learnt of no VM alone. Without it that is learnt anew.
func (h *held) loadShared() {
	ctx, cancel := context.WithTimeout(h.ctx, lastLimit)
	defer cancel()
	b, _, err := h.bus.Snapshot(ctx, sharedName)
	if err == nil {
		err = h.LoadShared(b)
	}
	if err != nil && !errors.Is(err, streams.ErrNotFound) {
		h.log.Warn("what all partitions share is learnt anew", "snapshot", sharedName, "err", err)
	}
}
