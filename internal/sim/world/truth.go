package world

// counts are what the world remembers of a VM.
type counts struct {
	maxRunning int
	staleRuns  int
	lost       bool
}

// Copy is one copy of a VM as an all-knowing observer sees it.
type Copy struct {
	Host     int
	State    int32
	Reason   int32
	Active   bool
	Incoming bool // waits for its memory
	Stale    bool // the VM has run elsewhere since this copy stopped
	Alive    bool
}

// Truth is the truth about a VM, which no real fleet can tell.
type Truth struct {
	Copies     []Copy
	Running    []int // hosts whose copy runs now
	MaxRunning int   // most copies that ever ran at one time
	StaleRuns  int   // how often a copy ran after the VM had run elsewhere
	Lost       bool  // there was a moment without any intact copy
}

// Truth tells about VM i at the present time.
func (w *World) Truth(i int) Truth {
	v := w.vms[i]
	t := Truth{MaxRunning: v.truth.maxRunning, StaleRuns: v.truth.staleRuns, Lost: v.truth.lost}
	for _, g := range v.copies {
		t.Copies = append(t.Copies, Copy{Host: g.host.index, State: g.State, Reason: g.Reason, Active: g.Active(),
			Incoming: g.in != nil && !g.in.complete, Stale: g.stale, Alive: g.Alive})
		if g.Active() && g.State == Running {
			t.Running = append(t.Running, g.host.index)
		}
	}
	return t
}

// noteRun is told when a copy starts to run: every other copy is stale from now on.
func (v *vm) noteRun(g *Guest) {
	if g.stale {
		v.truth.staleRuns++
		g.stale = false
	}
	for _, c := range v.copies {
		if c != g {
			c.stale = true
		}
	}
	v.note()
}

// note counts the copies after a change.
func (v *vm) note() {
	running, intact := 0, 0
	for _, g := range v.copies {
		if !g.Active() {
			continue
		}
		if g.State == Running {
			running++
		}
		if g.Alive && !g.stale && (g.in == nil || g.in.complete) {
			intact++
		}
	}
	v.truth.maxRunning = max(v.truth.maxRunning, running)
	v.truth.lost = v.truth.lost || intact == 0
}

// DieOnArrival makes the VM's guest dead at its next Finish.
func (w *World) DieOnArrival(i int) { w.vms[i].dead = true }
