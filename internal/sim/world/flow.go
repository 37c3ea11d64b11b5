package world

import (
	"math"

	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/schemas"
)

const (
	deviceState = 25e6 // ns to send and load device state, guest stopped
	setupTime   = 8e6  // ns before the first byte
	pageSize    = 4096
	smallest    = 64 << 10 // bytes: what is left of a round that is not worth another
)

// flow is one transfer of memory. Its amounts stand as of World.now when it was
// last committed; between commits rate and dirty rate are constant.
type flow struct {
	src, dst  *Guest
	at        int64   // ns of the last commit
	rate      float64 // bytes/ns
	dirty     float64 // bytes/ns written by the guest
	disks     float64 // bytes of disks that go along
	disk      float64 // of them still to be sent, before memory
	round     int32
	remaining float64 // bytes of this round
	dirtied   float64 // bytes to send again in the next
	round0    float64 // bytes of this round at its start
	roundFrom int64
	wss       float64
	sent      float64
	lastDirty float64 // bytes/s over the last finished round
	throttle  float64

	ready   int64 // nothing is sent before: set-up
	stalled int64 // ns since when nothing moves; 0 = it moves
	stopped bool  // switched over: the guest is paused
	drained int64 // ns when device state will have arrived; 0 = memory is still being sent
	next    int64 // ns of the next thing that happens to it
}

func (w *World) startFlow(src, dst *Guest) {
	w.commitFlows()
	src.host.to(w.now)
	f := &flow{src: src, dst: dst, at: w.now, round: 1, roundFrom: w.now, ready: w.now + setupTime,
		remaining: min(src.memory*1.04, src.VM.Mem), wss: max(src.VM.WorkingSet, .01) * src.memory}
	f.round0 = f.remaining
	if src.out.flags&FlagNonSharedDisk != 0 {
		f.disks, f.disk = src.VM.Disk, src.VM.Disk
	}
	src.out.flow, dst.in.flow = f, f
	dst.in.resume = src.State == Running
	w.flows = append(w.flows, f)
	src.host.change(func() {}) // the source pays from now on
	if f.disk == 0 {
		w.iteration(f)
	}
	w.rateFlows()
}

// moved is what the flow has sent since it was last committed, if there was so much.
func (f *flow) moved(t int64) float64 {
	return f.rate * max(0, float64(t-max(f.at, f.ready)))
}

func (w *World) iteration(f *flow) {
	g := f.src
	w.cfg.Event(g.host.index, Event{Name: g.VM.Name, UUID: g.VM.ID, ID: g.ID, Iteration: f.round})
}

// dirtyAfter is the unique dirty memory after dt ns of writing at rate d from w0,
// of a working set s: the solution of dW/dt = d(1-W/S).
func dirtyAfter(w0, d, s, dt float64) float64 {
	if s <= 0 || d <= 0 {
		return w0
	}
	return s - (s-w0)*math.Exp(-d*dt/s)
}

// view is the flow's amounts at t, not before the last commit.
func (f *flow) view(t int64) (remaining, dirtied, sent float64) {
	if f.disk > 0 {
		return f.remaining, 0, f.sent
	}
	dt := float64(t - f.at)
	move := max(0, min(f.remaining, f.moved(t)))
	dirtied = f.dirtied
	if !f.stopped {
		dirtied = dirtyAfter(f.dirtied, f.dirty, f.wss, dt)
	}
	return f.remaining - move, dirtied, f.sent + move
}

func (w *World) commitFlows() {
	for _, f := range w.flows {
		f.remaining, f.dirtied, f.sent = f.view(w.now)
		if f.disk > 0 {
			f.disk = max(1, f.disk-f.moved(w.now)) // the last of it is for the event
		}
		f.at = w.now
	}
}

// rateFlows shares the bandwidth anew and works out what happens next to whom.
// The flows must be committed.
func (w *World) rateFlows() {
	rates := w.share()
	for i, f := range w.flows {
		f.rate = rates[i] / 1e9
		f.src.host.to(w.now)
		f.dirty = f.src.rate.Dirty
		switch {
		case f.drained > 0:
			f.next = f.drained
			f.stalled = 0
			continue
		case f.rate <= 0:
			if f.stalled == 0 {
				f.stalled = w.now
			}
			limit := w.cfg.StreamTimeout
			if f.src.out.peer && !f.stopped {
				limit = w.cfg.PeerTimeout
			}
			f.next = max(w.now+1, f.stalled+int64(limit))
		default:
			f.stalled = 0
			left := f.remaining
			if f.disk > 0 {
				left = f.disk
			}
			f.next = max(w.now, f.ready) + 1 + int64(math.Ceil(left/f.rate))
		}
		if !f.stopped { // the dirty rate follows the step's demand
			f.next = min(f.next, int64(schemas.StepAt(schemas.Time(w.now), w.cfg.Base).End(w.cfg.Base)))
		}
	}
}

func (w *World) nextFlow() int64 {
	at := int64(math.MaxInt64)
	for _, f := range w.flows {
		at = min(at, f.next)
	}
	return at
}

// flowEvent handles whatever is due now on any flow.
func (w *World) flowEvent() {
	w.commitFlows()
	for _, f := range append([]*flow(nil), w.flows...) {
		if f.next > w.now || f.src.out == nil || f.src.out.flow != f {
			continue
		}
		switch {
		case f.drained > 0:
			w.arrive(f)
		case f.stalled > 0 && f.rate <= 0 && w.now >= f.stalled+w.patience(f):
			w.failFlow(f, rpc.Errorf(rpc.CodeInternal, "internal error: migration stream broke: Connection timed out"))
		case f.disk > 0:
			if f.rate > 0 && f.disk <= f.rate*2+1 {
				f.disk, f.roundFrom = 0, w.now
				w.iteration(f)
			}
		case f.rate > 0 && f.remaining <= f.rate*2+1:
			w.roundEnd(f)
		}
	}
	w.commitFlows()
	w.rateFlows()
}

func (w *World) patience(f *flow) int64 {
	if f.src.out.peer && !f.stopped {
		return int64(w.cfg.PeerTimeout)
	}
	return int64(w.cfg.StreamTimeout)
}

// roundEnd is a round sent: switch over if the rest fits into the allowed
// downtime, else send what was dirtied.
func (w *World) roundEnd(f *flow) {
	if f.stopped {
		f.remaining, f.drained = 0, w.now+deviceState
		return
	}
	if took := float64(w.now - f.roundFrom); took > 0 {
		f.lastDirty = f.dirtied / took * 1e9
	}
	f.remaining, f.dirtied = f.dirtied, 0
	if f.src.out.flags&FlagAutoConverge != 0 && f.round >= 2 && f.remaining > f.round0/2 {
		f.src.host.change(func() { f.throttle = min(.99, max(.2, f.throttle+.1)) })
	}
	if f.expected() <= f.allowed() || f.remaining <= smallest {
		g := f.src
		f.stopped = true
		if g.State == Running {
			g.set(Paused, PausedMigration)
			g.emit(evSuspended, detailMigrated)
		}
		f.dst.in.pausedAt = w.now
		return
	}
	f.round++
	f.round0, f.roundFrom = f.remaining, w.now
	w.iteration(f)
}

// expected is the downtime that switching over now would take, in ns.
func (f *flow) expected() float64 {
	if f.rate <= 0 {
		return math.Inf(1)
	}
	return f.remaining/f.rate + deviceState
}

func (f *flow) allowed() float64 {
	if f.src.maxDowntime > 0 {
		return f.src.maxDowntime
	}
	return defaultMaxDowntimeNs
}

// arrive is everything sent and loaded.
func (w *World) arrive(f *flow) {
	g, dst, o := f.src, f.dst, f.src.out
	s := f.stats(w.now)
	s.Remaining, s.DowntimeNet = 0, float64(w.now-dst.in.pausedAt)
	s.Downtime = s.DowntimeNet
	w.endFlow(f)
	dst.in.complete, dst.in.stats = true, s
	dst.memory = g.memory
	o.stats = &s
	g.vm.note()
	switch {
	case o.peer:
		w.finishPeer(g, dst)
	case g.host.down:
		// Nobody notes that it is done; the daemon will find phase "perform".
	default:
		o.phase = phaseDone
		done := o.done
		o.done = nil
		done(nil)
	}
}

func (w *World) endFlow(f *flow) {
	w.commitFlows()
	rest := make([]*flow, 0, len(w.flows))
	for _, x := range w.flows {
		if x != f {
			rest = append(rest, x)
		}
	}
	w.flows = rest
	if f.src.out != nil {
		f.src.out.flow = nil
	}
	if f.dst.in != nil {
		f.dst.in.flow = nil
	}
	f.src.host.change(func() {}) // the cost of sending ends
	w.rateFlows()
}

// failFlow breaks a transfer: the source runs on (or again), its Perform fails with
// err, the destination's QEMU exits.
func (w *World) failFlow(f *flow, err *rpc.Error) {
	o := f.src.out
	w.endFlow(f)
	w.abandon(f.src)
	f.src.takeBack(o)
	if f.dst.in != nil {
		f.dst.stop(ShutoffDestroyed, stoppedFailed)
	}
	if o.done != nil {
		done := o.done
		o.done = nil
		done(err)
	}
}
