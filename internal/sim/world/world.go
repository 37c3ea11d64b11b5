package world

import (
	"container/heap"
	"time"

	"github.com/foreshift/foreshift/internal/sim/load"
	"github.com/foreshift/foreshift/schemas"
)

// Config is the make-up of a fleet.
type Config struct {
	Base   time.Duration // length of a base step
	Start  int64         // ns, when the world begins
	Hosts  []HostSpec
	VMs    []VMSpec
	Demand func(vm int, step schemas.Step) load.Demand

	LinkBandwidth float64       // bytes/s of each link between two sites
	NICBandwidth  float64       // bytes/s a host can send, and receive
	PeerTimeout   time.Duration // after which a peer-to-peer move gives a cut link up
	StreamTimeout time.Duration // after which QEMU's own stream gives a cut link up

	// Event is told of every lifecycle event, in order; it must not block.
	Event func(host int, ev Event)
	// DiskLock: the hosts lock disks against each other, as with lockd.
	DiskLock bool

	// LoseReply asks whether the reply of a peer-to-peer Finish is lost on its way.
	LoseReply func(host int) bool
}

// HostSpec is one host.
type HostSpec struct {
	ID    schemas.HostID
	Site  schemas.SiteID
	UUID  [16]byte
	CPU   float64 // mCPU of reference speed
	Mem   float64 // bytes
	Speed float64 // of one core relative to the reference core
	Match func(uri string) bool
}

// VMSpec is one VM and where it begins.
type VMSpec struct {
	ID         [16]byte
	Name       string
	VCPUs      int
	Mem        float64 // bytes
	WorkingSet float64 // share of its used memory that it writes again and again
	Disk       float64 // bytes
	Host       int
}

// Event is a lifecycle event (Iteration 0) or the start of a pre-copy round.
type Event struct {
	Name          string
	UUID          [16]byte
	ID            int32
	Event, Detail int32
	Iteration     int32
}

// World is the whole fleet. It is not safe for concurrent use.
type World struct {
	cfg   Config
	now   int64
	hosts []*Host
	vms   []*vm
	byID  map[[16]byte]*vm
	links map[[2]schemas.SiteID]*link
	flows []*flow
	ports map[int]*Guest
	port  int
	owned map[any][]*Guest // guests in a phase that is bound to a connection

	timers timerHeap
	serial uint64
}

type link struct{ cutUntil int64 }

// New makes a world in which every VM runs on its first host.
func New(cfg Config) *World {
	w := &World{cfg: cfg, now: cfg.Start, byID: map[[16]byte]*vm{}, links: map[[2]schemas.SiteID]*link{},
		ports: map[int]*Guest{}, port: 49152, owned: map[any][]*Guest{}}
	if w.cfg.Event == nil {
		w.cfg.Event = func(int, Event) {}
	}
	if w.cfg.LoseReply == nil {
		w.cfg.LoseReply = func(int) bool { return false }
	}
	for i, s := range cfg.Hosts {
		w.hosts = append(w.hosts, &Host{HostSpec: s, w: w, index: i, nextID: 1})
	}
	for i, s := range cfg.VMs {
		v := &vm{VMSpec: s, index: i}
		w.vms = append(w.vms, v)
		w.byID[s.ID] = v
		h := w.hosts[s.Host]
		g := h.add(v)
		g.ID, g.State, g.Reason, g.Persistent, g.Alive = h.newID(), Running, RunningBooted, true, true
		g.started = cfg.Start
		v.noteRun(g)
	}
	for _, h := range w.hosts {
		h.begin(cfg.Start)
	}
	return w
}

// Now is the time that the world has reached, in ns.
func (w *World) Now() int64 { return w.now }

// Host is host i.
func (w *World) Host(i int) *Host { return w.hosts[i] }

// Busy reports whether anything is under way that time alone will change, so that
// the world wants to be advanced though nobody asks.
func (w *World) Busy() bool { return len(w.flows) > 0 || len(w.timers) > 0 }

// Advance lets time pass until t; an earlier t does nothing. Everything due on
// the way happens at its own time, in order.
func (w *World) Advance(t int64) {
	for {
		at, flow := int64(1<<63-1), false
		if len(w.timers) > 0 {
			at = w.timers[0].at
		}
		if f := w.nextFlow(); f < at {
			at, flow = f, true
		}
		if at > t {
			break
		}
		w.now = max(w.now, at)
		if flow {
			w.flowEvent()
			continue
		}
		heap.Pop(&w.timers).(*timer).fn()
	}
	w.now = max(w.now, t)
}

// After runs fn when d has passed.
func (w *World) After(d time.Duration, fn func()) { w.after(d, fn) }

func (w *World) after(d time.Duration, fn func()) {
	w.serial++
	heap.Push(&w.timers, &timer{at: w.now + int64(d), serial: w.serial, fn: fn})
}

type timer struct {
	at     int64
	serial uint64
	fn     func()
}

type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].serial < h[j].serial
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)   { *h = append(*h, x.(*timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return x
}

func linkKey(a, b schemas.SiteID) [2]schemas.SiteID {
	if b < a {
		a, b = b, a
	}
	return [2]schemas.SiteID{a, b}
}

func (w *World) link(a, b schemas.SiteID) *link {
	k := linkKey(a, b)
	l := w.links[k]
	if l == nil {
		l = &link{}
		w.links[k] = l
	}
	return l
}

// CutLink cuts the link between two sites for d.
func (w *World) CutLink(a, b schemas.SiteID, d time.Duration) {
	w.commitFlows()
	l := w.link(a, b)
	l.cutUntil = max(l.cutUntil, w.now+int64(d))
	w.rateFlows()
	w.after(d, func() { w.commitFlows(); w.rateFlows() })
}
