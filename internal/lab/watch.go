package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// State is one look at a VM on one host.
type State string

// What virsh tells, and what it cannot: a host that does not answer is unknown,
// which is never the same as absent.
const (
	StateAbsent  State = "absent"
	StateRunning State = "running"
	StatePaused  State = "paused"
	StateOff     State = "shut off"
	StateUnknown State = "unknown"
)

// parseState reads the answer of virsh domstate.
func parseState(lines []string) State {
	for _, l := range lines {
		switch {
		case strings.Contains(l, "failed to get domain"), strings.Contains(l, "Domain not found"):
			return StateAbsent
		case strings.HasPrefix(l, "running"), strings.HasPrefix(l, "idle"):
			return StateRunning
		case strings.HasPrefix(l, "paused"), strings.HasPrefix(l, "pmsuspended"):
			return StatePaused
		case strings.HasPrefix(l, "shut off"), strings.HasPrefix(l, "crashed"):
			return StateOff
		}
	}
	return StateUnknown
}

// Sighting is one observation of a VM on all hosts.
type Sighting struct {
	Time   time.Time
	States []State // by host
}

func (s Sighting) running() int {
	n := 0
	for _, x := range s.States {
		if x == StateRunning {
			n++
		}
	}
	return n
}

// WatchReport is what a watch saw.
type WatchReport struct {
	Looks      int
	MaxRunning int // most copies proven to run at one moment
	None       int // looks at which no copy ran: the downtime, or a loss
	Unknown    int // looks at which some host did not answer
	// Skewed counts looks at which two hosts said "running" one after the other,
	// while looking again showed that the VM had moved in between.
	Skewed  int
	Changes []Sighting // looks at which some state differed from the look before
	Last    Sighting
}

// maxChanges bounds the kept history.
const maxChanges = 10000

// Watcher looks at one VM on all hosts of the lab, with the real virsh, until it
// is stopped.
type Watcher struct {
	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	report WatchReport
}

// Watch starts to look at a VM every interval (default 200 ms).
func (l *Lab) Watch(ctx context.Context, vm schemas.VMID, every time.Duration) *Watcher {
	if every <= 0 {
		every = 200 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &Watcher{cancel: cancel, done: make(chan struct{})}
	shells := make([]*virshShell, len(l.Hosts))
	for i, h := range l.Hosts {
		shells[i] = &virshShell{host: h}
	}
	look := func() []State { return lookAll(shells, vm) }
	go func() {
		defer close(w.done)
		defer func() {
			for _, s := range shells {
				s.close()
			}
		}()
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			w.look(time.Now(), look)
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}()
	return w
}

// look takes one observation. Two hosts cannot be asked at the same instant, so two
// answers "running" prove nothing yet: the VM may have moved between the answers.
// Every host that says so is asked a second time; those that say it again ran from
// the first answer to the second question, all of them together.
func (w *Watcher) look(now time.Time, ask func() []State) {
	s := Sighting{now, ask()}
	count := s.running()
	skewed := false
	if count > 1 {
		again := Sighting{now, ask()}
		both := 0
		for i, x := range again.States {
			if x == StateRunning && s.States[i] == StateRunning {
				both++
			}
		}
		if both < 2 {
			s, count, skewed = again, min(again.running(), 1), true
		} else {
			count = both
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &w.report
	r.Looks++
	r.MaxRunning = max(r.MaxRunning, count)
	if skewed {
		r.Skewed++
	}
	unknown, changed := false, len(r.Last.States) != len(s.States)
	for i, x := range s.States {
		unknown = unknown || x == StateUnknown
		changed = changed || x != r.Last.States[i]
	}
	if unknown {
		r.Unknown++
	} else if count == 0 {
		r.None++
	}
	if changed && len(r.Changes) < maxChanges {
		r.Changes = append(r.Changes, s)
	}
	r.Last = s
}

// Report is what was seen so far.
func (w *Watcher) Report() WatchReport {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.report
	r.Changes = append([]Sighting(nil), r.Changes...)
	return r
}

// Stop ends the watch and gives its report.
func (w *Watcher) Stop() WatchReport {
	w.cancel()
	<-w.done
	return w.Report()
}

// lookAll asks all hosts at once.
func lookAll(shells []*virshShell, vm schemas.VMID) []State {
	out := make([]State, len(shells))
	var wg sync.WaitGroup
	for i, s := range shells {
		wg.Go(func() {
			lines, err := s.ask("domstate "+vm.String(), 5*time.Second)
			if err != nil {
				out[i] = StateUnknown
				return
			}
			out[i] = parseState(lines)
		})
	}
	wg.Wait()
	return out
}

// States asks every host once about a VM, in the order of [Lab.Hosts].
func (l *Lab) States(ctx context.Context, vm schemas.VMID) []State {
	out := make([]State, len(l.Hosts))
	for i, h := range l.Hosts {
		out[i] = l.stateOn(ctx, h, vm)
	}
	return out
}

// stateOn asks one host.
func (l *Lab) stateOn(ctx context.Context, h *Host, vm schemas.VMID) State {
	text, err := h.virsh(ctx, "domstate", vm.String())
	switch {
	case err == nil:
		return parseState(strings.Split(text, "\n"))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return StateUnknown
	}
	return parseState([]string{err.Error()[strings.Index(err.Error(), "virsh"):]})
}

// RunsAt is the one host on which a VM runs; an error when it is none or several.
func (l *Lab) RunsAt(ctx context.Context, vm schemas.VMID) (*Host, error) {
	states := l.States(ctx, vm)
	var at *Host
	for i, s := range states {
		if s == StateRunning {
			if at != nil {
				return nil, fmt.Errorf("lab: VM %s runs on %s and on %s", vm, at.Name, l.Hosts[i].Name)
			}
			at = l.Hosts[i]
		}
	}
	if at == nil {
		return nil, fmt.Errorf("lab: VM %s runs nowhere: %v", vm, states)
	}
	return at, nil
}
