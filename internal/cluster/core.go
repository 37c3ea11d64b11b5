package cluster

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// epoch is when every simulated cluster begins: a Monday, so that stories read well.
const epoch = int64(1_767_571_200e9) // 2026-01-05T00:00:00Z

// event is something that happens at a moment. Events of one moment happen in the
// order in which they were planned: nothing else decides.
type event struct {
	at int64
	n  uint64
	do func()
}

// agenda is a binary heap of events.
type agenda []event

func (a agenda) before(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].n < a[j].n
}

func (a *agenda) push(e event) {
	*a = append(*a, e)
	h := *a
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.before(i, up) {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (a *agenda) pop() event {
	h := *a
	top, last := h[0], len(h)-1
	h[0], h[last] = h[last], event{}
	*a = h[:last]
	h = h[:last]
	for i := 0; ; {
		low, l, r := i, 2*i+1, 2*i+2
		if l < last && h.before(l, low) {
			low = l
		}
		if r < last && h.before(r, low) {
			low = r
		}
		if low == i {
			return top
		}
		h[i], h[low] = h[low], h[i]
		i = low
	}
}

// dice is one named stream of chance.
type dice struct{ *rand.Rand }

func newDice(seed uint64, purpose string) dice {
	return dice{rand.New(rand.NewPCG(seed, xxhash.Sum64String(purpose)))}
}

// odds is true so often out of a thousand.
func (d dice) odds(perMille float64) bool { return perMille > 0 && d.Float64()*1000 < perMille }

// between draws a duration evenly.
func (d dice) between(low, high time.Duration) time.Duration {
	return low + time.Duration(d.Float64()*float64(high-low))
}

// exp draws a waiting time of that mean, at most ten times as long.
func (d dice) exp(mean time.Duration) time.Duration {
	return time.Duration(math.Min(d.ExpFloat64(), 10)*float64(mean)) + 1
}

// world is one simulated cluster.
type world struct {
	seed   uint64
	mix    mix
	rules  *migration.Rules
	off    []string // guards that are left out
	now    int64
	end    int64
	n      uint64
	events uint64
	agenda agenda
	sum    uint64 // running hash of all that happened
	keep   bool   // tell the story
	story  []line
	bad    *Violation
	calm   bool // no more faults
	counts Counts

	net, disk, hyper, steps, acts, work, chance dice // chance, by purpose

	twists map[string][]twist // by the label of their step
	nats   *nats
	links  *network
	keys   *keyring
	hosts  []*host
	guests []*guest
	boss   *commander
	heads  []*placerNode
	person *person
	byVM   map[schemas.VMID]*guest
	byHost map[schemas.HostID]*host

	// What is true, whoever believes what.
	facts      map[*message]*fact
	order      []*fact                   // of all commands, as they were stored
	started    map[schemas.CommandID]int // moves by command
	lastBeat   int64                     // newest genuine heartbeat
	lastBeatOf *message                  // that heartbeat
	pausedAt   int64                     // an operator's pause is in force since then; 0: none is
	asked      []*request                // the last requests, for those who send them again
	lease      lease
	truth      policy.Policy // what the operator wants, whatever deciders are told
	prophet    *process      // the forecaster
	garbage    int64         // it publishes garbage until then
	lostTails  int           // of streams that decisions rest on
}

// at plans an event; after, one that is so far away.
func (w *world) at(t int64, do func()) {
	w.n++
	w.agenda.push(event{max(t, w.now), w.n, do})
}

func (w *world) after(d time.Duration, do func()) { w.at(w.now+int64(d), do) }

// run goes on until the end, or the first violation.
func (w *world) run() {
	for len(w.agenda) > 0 && w.bad == nil {
		e := w.agenda.pop()
		if e.at > w.end {
			return
		}
		w.now = e.at
		w.events++
		w.blend(uint64(e.at)*0x9e3779b97f4a7c15 ^ e.n)
		e.do()
	}
}

// blend takes a number into the hash of all that happened.
func (w *world) blend(v uint64) {
	w.sum = (w.sum ^ v) * 0x100000001b3
	w.sum ^= w.sum >> 29
}

// process is a program on a node of the network: it can be killed, stopped and
// started again, and reads a clock that may be wrong.
type process struct {
	w       *world
	name    string
	node    int
	gen     int // counts its lives
	up      bool
	stopped int64 // SIGSTOP until then
}

// clock is what the process reads.
func (p *process) clock() int64 { return p.w.now + p.w.links.clocks[p.node] }

// later plans something that the process does, if it still lives by then; what falls
// into a stop is done after it.
func (p *process) later(d time.Duration, do func()) {
	gen := p.gen
	p.w.after(d, func() { p.resume(gen, do) })
}

func (p *process) resume(gen int, do func()) {
	switch {
	case p.gen != gen || !p.up:
	case p.stopped > p.w.now:
		p.w.at(p.stopped, func() { p.resume(gen, do) })
	default:
		do()
	}
}

// fact is what is true of a command, whoever believes what.
type fact struct {
	msg       *message
	c         *schemas.Command
	g         *guest
	genuine   bool // a placer's own
	tool      bool // by the commander: no plan and no pressure stand behind it
	lost      bool // its stream has forgotten it
	published int64
	accepted  int64 // when its source started it; 0: never
	drive     *drive
	healthy   time.Duration // past its deadline, while its host could have told
	outcome   schemas.Result
	told      bool // UNKNOWN or an end is on the record
}

// Violation is a broken invariant.
type Violation struct {
	Invariant string `json:"invariant"` // I1 to I14
	What      string `json:"what"`
	At        string `json:"at"` // simulated time since the start
}

func (v *Violation) Error() string { return v.Invariant + " broken after " + v.At + ": " + v.What }

// violate notes the first violation; the world stops there.
func (w *world) violate(invariant string, g *guest, format string, args ...any) {
	if w.bad != nil {
		return
	}
	w.bad = &Violation{invariant, fmt.Sprintf(format, args...), since(w.now)}
	w.say("INVARIANT", g, "%s broken: %s", invariant, w.bad.What)
	if g != nil {
		w.bad.What = g.name + ": " + w.bad.What
	}
}

func since(now int64) string {
	return time.Duration(now - epoch).Round(time.Millisecond).String()
}

// without reports whether a guard is left out.
func (w *world) without(guard string) bool { return slices.Contains(w.off, guard) }

// keyOf is what the expectation of a record is kept under.
func keyOf(filter string) string {
	if n := len(filter); n > 2 && filter[n-2:] == ".>" {
		return filter[:n-2]
	}
	return filter
}
