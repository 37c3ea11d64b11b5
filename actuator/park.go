package actuator

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Times of parked commands.
const (
	holdEvery = 250 * time.Millisecond // one that waits for its share looks for it
	anewEvery = 2 * time.Second        // and is judged anew as a whole: it may have expired, or moves be paused
)

// wait is how long a command is left before it is judged again, and why it waits for its
// share; zero: it was judged.
type wait struct {
	after time.Duration
	why   schemas.Reason
}

// lot is where commands wait that cannot be judged yet, while their host's others go on
// beside them. Commands of one VM keep their order.
type lot struct {
	mu     sync.Mutex
	parked map[schemas.VMID][]uint64 // sequences; the bus bounds how many
}

// enter parks a command; the function takes it out.
func (l *lot) enter(vm schemas.VMID, seq uint64) (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parked == nil {
		l.parked = map[schemas.VMID][]uint64{}
	}
	l.parked[vm] = append(l.parked[vm], seq)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		on := l.parked[vm]
		if i := slices.Index(on, seq); i >= 0 {
			on = slices.Delete(on, i, i+1)
		}
		if l.parked[vm] = on; len(on) == 0 {
			delete(l.parked, vm)
		}
	}
}

// ahead is an earlier command of the VM that waits, 0 if none does.
func (l *lot) ahead(vm schemas.VMID, seq uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := seq
	for _, s := range l.parked[vm] {
		first = min(first, s)
	}
	if first == seq {
		return 0
	}
	return first
}

// command judges one command. One that has to wait is parked, not acknowledged: should
// this host's actuator end, it is delivered again.
func (a *Actuator) command(ctx context.Context, r *streams.Received) streams.Verdict {
	c, ok := r.Msg.(*schemas.Command)
	if !ok {
		return streams.Reject(fmt.Errorf("%s: want a command, not %T", r.Subject, r.Msg))
	}
	v, w := streams.Verdict{}, wait{after: holdEvery}
	if a.lot.ahead(c.VM, r.Seq) == 0 {
		if v, w = a.judge(ctx, c, r, schemas.Reason{}); w.after == 0 {
			return v
		}
	}
	leave := a.lot.enter(c.VM, r.Seq)
	return streams.Park(func(run context.Context) streams.Verdict {
		defer leave()
		return a.await(ctx, run, c, r, w)
	})
}

// await judges a parked command again and again, until run ends.
func (a *Actuator) await(ctx, run context.Context, c *schemas.Command, r *streams.Received, w wait) streams.Verdict {
	var said schemas.ReasonCode
	for judged := a.now(); ; {
		if w.why.Code != said {
			said = w.why.Code
			a.logOf(c.ID, c.VM).Info("command waits", "why", w.why.String())
		}
		select {
		case <-run.Done():
			return streams.Retry(holdEvery)
		case <-time.After(w.after):
		}
		if first := a.lot.ahead(c.VM, r.Seq); first != 0 {
			w = wait{holdEvery, schemas.Reason{Code: schemas.ReasonTurn, Detail: fmt.Sprintf("an earlier command of the VM, epoch %d, has not been judged", first)}}
			continue
		}
		now := a.now()
		if !w.why.OK() && now-judged < int64(anewEvery) {
			if why := a.shares.hold(c, now); !why.OK() {
				w.why = why
				continue
			}
		}
		judged = now
		var v streams.Verdict
		if v, w = a.judge(ctx, c, r, w.why); w.after == 0 {
			return v
		}
	}
}
