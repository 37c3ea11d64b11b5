package replay

import (
	"encoding/binary"
	"math"

	"github.com/cespare/xxhash/v2"
)

// What the world charges for a move and allows, for every policy alike.
const (
	gibPerStep = 300 // sent in a step
	burden     = .1  // of the VM's cores that its source pays while it is sent
	downtime   = .3  // s
	maxFlying  = 5   // moves under way
	coolDown   = 6   // steps that a VM stays after it arrived
	returning  = day // steps within which a return is a ping-pong
)

// Move is a VM sent from a host to another.
type Move struct {
	VM, From, To int32
	// Expected benefit in core-seconds, and lead from now to the onset in steps, -1
	// without; of our placer alone.
	Benefit float64
	Lead    int
	Why     string
	Fan     *Fan
}

// flight is a move under way: the VM runs at its source up to and including step until.
type flight struct {
	Move
	until int
	// In a rich world: bytes still to be sent, steps it has taken, and how long the guest
	// stood still in the end, s.
	left  float64
	steps int
	still float64
}

// World is one placement under one policy.
type World struct {
	H       *History
	F       Fleet
	At      []int32   // where each VM runs
	Bound   []int32   // where it will be after the moves under way
	Load    []float64 // by host at the last step, without the burden of moves
	Mem     []float64 // by host, reserved at both ends of moves
	In, Out []int     // moves under way
	Flights []flight
	cool    []int   // by VM: step from which it may move again
	start   []int32 // where each VM was at first
	left    map[[2]int32]int
	landed  []Move // at the last step
	rich    *Rich  // nil: the world of the benchmark
	now     int    // step that is served
	failed  []Move // at the last step, in a rich world
	score   Score
	log     []Logged
	hash    xxhash.Digest
}

// Score is what is counted of one run.
type Score struct {
	Unmet     float64 // core-hours, downtime included
	Demand    float64 // core-hours
	UnmetMem  float64 // GiB-hours reserved beyond what hosts have
	Downtime  float64 // core-hours of demand during switchovers
	Stood     float64 // s that VMs stood still
	Moves     int
	GiB       float64
	PingPong  int
	Refused   int // moves that the world did not allow
	Short     int // host-steps above capacity
	Slowed    int // VM-steps that got less than nine tenths of their demand, in a rich world
	Failed    int // moves given up, in a rich world
	Decisions int
	Hash      uint64
	Daily     []float64 // unmet core-hours by day
}

// Logged is a move with when it was made.
type Logged struct {
	Move
	Step int
	Back bool // it returned within a day
}

// NewWorld sets up a placement.
func NewWorld(h *History, f Fleet, at []int32) *World {
	w := &World{H: h, F: f, At: append([]int32(nil), at...), Bound: append([]int32(nil), at...), Load: make([]float64, f.H), Mem: make([]float64, f.H),
		start: append([]int32(nil), at...), In: make([]int, f.H), Out: make([]int, f.H), cool: make([]int, len(at)), left: map[[2]int32]int{}}
	for v, b := range at {
		w.Mem[b] += h.VMs[v].GiB
	}
	w.hash.Reset()
	return w
}

// Free reports whether a VM may be moved after step t.
func (w *World) Free(v int32, t int) bool { return t >= w.cool[v] && w.At[v] == w.Bound[v] }

// Fits reports whether a host has a place for a move of the VM to it.
func (w *World) Fits(v, to int32) bool {
	if w.rich != nil {
		return w.In[to] == 0 && w.rich.fits(w, to, w.H.VMs[v].GiB)
	}
	return w.In[to] == 0 && w.Mem[to]+w.H.VMs[v].GiB <= w.F.M
}

// Step serves the demand of step t and lands what arrives at its end.
func (w *World) Step(t int) {
	h, c := w.H, w.F.C
	w.now = t
	clear(w.Load)
	sum := 0.0
	for v, at := range w.At {
		d := h.At(v, t)
		w.Load[at] += d
		sum += d
	}
	w.score.Demand += sum / perHour
	for b := range w.Load {
		load := w.Load[b]
		for i := range w.Flights {
			if f := &w.Flights[i]; int(f.From) == b {
				load += burden * h.VMs[f.VM].Cores
			}
		}
		x := load - c
		if w.rich != nil {
			x = w.rich.serve(w, b, load)
		}
		if x > 0 {
			w.unmet(t, x/perHour)
		}
		if load > c {
			w.score.Short++
		}
		w.score.UnmetMem += max(0, w.Mem[b]-w.F.M) / perHour
	}
	w.landed, w.failed = w.landed[:0], w.failed[:0]
	kept := w.Flights[:0]
	for _, f := range w.Flights {
		done, landed, still := f.until <= t, true, downtime
		if w.rich != nil {
			done, landed = w.rich.send(w, &f)
			still = f.still
		}
		if !done {
			kept = append(kept, f)
			continue
		}
		w.In[f.To]--
		w.Out[f.From]--
		if !landed {
			w.Bound[f.VM] = f.From
			w.Mem[f.To] -= h.VMs[f.VM].GiB
			w.score.Failed++
			w.failed = append(w.failed, f.Move)
			continue
		}
		w.At[f.VM] = f.To
		w.Mem[f.From] -= h.VMs[f.VM].GiB
		w.cool[f.VM] = max(w.cool[f.VM], t+coolDown)
		lost := still * h.At(int(f.VM), t) / 3600
		w.score.Downtime += lost
		w.score.Stood += still
		w.unmet(t, lost)
		w.landed = append(w.landed, f.Move)
	}
	w.Flights = kept
}

func (w *World) unmet(t int, coreHours float64) {
	w.score.Unmet += coreHours
	k := (t - w.F.Start) / day
	for len(w.score.Daily) <= k {
		w.score.Daily = append(w.score.Daily, 0)
	}
	w.score.Daily[k] += coreHours
}

// Begin starts a move after step t; false when the world's limits do not allow it.
func (w *World) Begin(m Move, t int) bool {
	gib := w.H.VMs[m.VM].GiB
	if m.From == m.To || m.From != w.At[m.VM] || len(w.Flights) >= maxFlying || w.Out[m.From] > 0 || !w.Free(m.VM, t) || !w.Fits(m.VM, m.To) {
		w.score.Refused++
		return false
	}
	n := Takes(gib)
	w.Flights = append(w.Flights, flight{Move: m, until: t + n, left: gib * (1 << 30)})
	w.Bound[m.VM] = m.To
	w.Mem[m.To] += gib
	w.In[m.To]++
	w.Out[m.From]++
	w.cool[m.VM] = t + n + coolDown
	w.score.Moves++
	w.score.GiB += gib
	at, been := w.left[[2]int32{m.VM, m.To}]
	back := been && t-at <= returning
	if back {
		w.score.PingPong++
	}
	w.left[[2]int32{m.VM, m.From}] = t
	w.log = append(w.log, Logged{m, t, back})
	var b [16]byte
	for i, x := range [4]int32{int32(t), m.VM, m.From, m.To} {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(x))
	}
	w.hash.Write(b[:]) // a digest's Write has no error
	return true
}

// Takes is how many steps a move of so much memory takes.
func Takes(gib float64) int { return max(1, int(math.Ceil(gib/gibPerStep-1e-12))) }

// Score is what was counted so far.
func (w *World) Score() Score {
	s := w.score
	s.Hash = w.hash.Sum64()
	for len(s.Daily) < (w.F.End-w.F.Start)/day {
		s.Daily = append(s.Daily, 0)
	}
	return s
}
