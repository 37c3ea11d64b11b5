package cluster

import (
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// message is one that a stream keeps, or that is on its way.
type message struct {
	stream    string
	seq       uint64
	at        int64 // the server's clock
	subject   string
	data      []byte
	id        string
	signature string
	signer    string
	lease     uint64
	msg       any // decoded, shared by all readers, changed by none
	bad       error
	prev      *message // the one before on the same subject
}

func (m *message) signed() schemas.Signed {
	return schemas.Signed{Subject: m.subject, Payload: m.data, Sequence: m.seq, Signature: m.signature, Signer: m.signer}
}

// dedupWindow is for how long the server knows a Nats-Msg-Id, by its own clock.
const dedupWindow = 2 * time.Minute

// nats is the cluster of servers, with the guarantees it gives and no others: it
// forgets ids after a while, may lose what it has acknowledged, answer from a replica
// that is behind, and store what it never acknowledges.
type nats struct {
	w       *world
	streams map[string]*stream
	durable map[schemas.HostID]*durable
	objects map[string]object
	away    int64         // no leader until then
	acts    []*message    // all acts but heartbeats, oldest first
	skew    time.Duration // of the leader's clock
	stale   int64         // reads may come from behind until then
}

// object is a snapshot in the object store.
type object struct {
	state []byte
	cut   streams.Cut
	torn  bool
}

type stream struct {
	n      *nats
	name   string
	msgs   []*message
	first  uint64
	last   uint64
	known  map[string]known // ids within the window
	idq    []string
	byKey  map[string][]uint64 // sequences by the first two tokens of the subject
	lastOf map[string]*message // by subject
	subs   []*sub
	keep   int // messages kept; 0: all
}

type known struct {
	at  int64
	seq uint64
}

func newNATS(w *world) *nats {
	n := &nats{w: w, streams: map[string]*stream{}, durable: map[schemas.HostID]*durable{}, objects: map[string]object{}}
	for name, keep := range map[string]int{streams.Migrations: 0, streams.Plans: 0, streams.Acts: 4096, streams.Capacity: 20000, streams.Forecasts: 8192, streams.Pressure: 20000} {
		n.streams[name] = &stream{n: n, name: name, first: 1, known: map[string]known{}, byKey: map[string][]uint64{}, lastOf: map[string]*message{}, keep: keep}
	}
	return n
}

// present reports whether there is a leader.
func (n *nats) present() bool { return n.w.now >= n.away }

func (n *nats) clock() int64 { return n.w.now + int64(n.skew) }

// key is the part of a subject that an expectation speaks of.
func key(subject string) string {
	dots := 0
	for i := 0; i < len(subject); i++ {
		if subject[i] == '.' {
			if dots++; dots == 2 {
				return subject[:i]
			}
		}
	}
	return subject
}

// errors of a publication, as a client tells them apart.
type failure uint8

const (
	stored failure = iota
	lostRace
	noAnswer
)

// put stores a message, unless its id is known or its expectation does not hold.
func (s *stream) put(m *message, expect *streams.Expect) (uint64, failure) {
	n, now := s.n, s.n.clock()
	for len(s.idq) > 0 {
		if k, ok := s.known[s.idq[0]]; ok && now-k.at < int64(dedupWindow) {
			break
		}
		delete(s.known, s.idq[0])
		s.idq = s.idq[1:]
	}
	if expect != nil && !n.w.without("expectation") {
		if s.lastUnder(keyOf(expect.Filter)) != expect.Seq {
			return 0, lostRace
		}
	}
	if k, ok := s.known[m.id]; ok && m.id != "" {
		return k.seq, stored
	}
	c := *m
	c.stream, c.at = s.name, now
	if l := len(s.msgs); l > 0 && c.at <= s.msgs[l-1].at {
		c.at = s.msgs[l-1].at + 1 // a stream's time does not run backwards
	}
	s.last++
	c.seq = s.last
	s.msgs = append(s.msgs, &c)
	s.index(&c)
	if c.id != "" {
		s.known[c.id] = known{now, c.seq}
		s.idq = append(s.idq, c.id)
	}
	n.w.blend(c.seq ^ xxhash.Sum64(c.data) ^ xxhash.Sum64String(c.subject))
	if s.keep > 0 && len(s.msgs) > 2*s.keep {
		s.first += uint64(s.keep)
		for _, old := range s.msgs[:s.keep] {
			old.prev = nil // or nothing would ever be forgotten
		}
		s.msgs = append(s.msgs[:0:0], s.msgs[s.keep:]...)
	}
	if s.name == streams.Acts && c.subject != heartbeatSubject {
		n.acts = append(n.acts, &c)
	}
	n.w.stored(&c)
	for _, sub := range s.subs {
		sub.poke()
	}
	if s.name == streams.Migrations {
		for _, h := range n.w.hosts {
			n.durable[h.id].offer()
		}
	}
	return c.seq, stored
}

func (s *stream) index(m *message) {
	m.prev = s.lastOf[m.subject]
	s.lastOf[m.subject] = m
	if s.name == streams.Migrations {
		k := key(m.subject)
		s.byKey[k] = append(s.byKey[k], m.seq)
	}
}

func (s *stream) lastUnder(k string) uint64 {
	if q := s.byKey[k]; len(q) > 0 {
		return q[len(q)-1]
	}
	return 0
}

// get is the message of a sequence, nil when it is not kept.
func (s *stream) get(seq uint64) *message {
	if seq < s.first || seq > s.last {
		return nil
	}
	return s.msgs[seq-s.first]
}

// loseTail forgets the newest messages, acknowledged or not: a power loss before they
// were flushed, or a replica that had fallen behind and leads now.
func (s *stream) loseTail(k int) {
	for ; k > 0 && len(s.msgs) > 0; k-- {
		m := s.msgs[len(s.msgs)-1]
		s.msgs = s.msgs[:len(s.msgs)-1]
		s.last--
		delete(s.known, m.id)
		s.lastOf[m.subject] = m.prev
		if l := len(s.n.acts); l > 0 && s.n.acts[l-1] == m {
			s.n.acts = s.n.acts[:l-1]
		}
		if s.name == streams.Migrations {
			kk := key(m.subject)
			s.byKey[kk] = s.byKey[kk][:len(s.byKey[kk])-1]
		}
		s.n.w.forgot(m)
	}
	for _, d := range s.n.durable {
		if s.name == streams.Migrations {
			d.rewind(s.last)
		}
	}
}

// sub is an ordered consumer of a process. It heals its own gaps; a reset may bring
// again what was read.
type sub struct {
	p       *process
	gen     int
	st      *stream
	match   func(string) bool
	next    uint64
	planned bool
	busy    func() bool // the reader takes nothing now
	handle  func(*message)
}

// follow opens a consumer at a sequence.
func (s *stream) follow(p *process, from uint64, match func(string) bool, busy func() bool, handle func(*message)) *sub {
	c := &sub{p: p, gen: p.gen, st: s, match: match, next: max(from, 1), busy: busy, handle: handle}
	kept := s.subs[:0]
	for _, o := range s.subs {
		if o.p.gen == o.gen {
			kept = append(kept, o)
		}
	}
	s.subs = append(kept, c)
	c.poke()
	return c
}

func (c *sub) poke() {
	if !c.planned && c.p.gen == c.gen && c.next <= c.st.last {
		c.plan(c.st.n.w.links.lag())
	}
}

func (c *sub) plan(d time.Duration) {
	c.planned = true
	c.st.n.w.after(d, c.pump)
}

func (c *sub) pump() {
	w, p := c.st.n.w, c.p
	c.planned = false
	switch {
	case p.gen != c.gen || !p.up:
		return
	case p.stopped > w.now:
		c.plan(time.Duration(p.stopped - w.now))
		return
	case !w.nats.present() || !w.links.reaches(p.node):
		c.plan(w.net.between(500*time.Millisecond, 1500*time.Millisecond))
		return
	case c.busy != nil && c.busy():
		c.plan(100 * time.Millisecond)
		return
	}
	if !w.calm && w.net.odds(w.mix.again) && c.next > 1 {
		c.next -= min(c.next-1, uint64(1+w.net.IntN(5)))
		c.next = max(c.next, c.st.first)
		w.counts.fault(7)
	}
	c.next = max(c.next, c.st.first)
	for c.next <= c.st.last && p.gen == c.gen && p.up && w.bad == nil {
		m := c.st.get(c.next)
		c.next++
		if c.match == nil || c.match(m.subject) {
			c.handle(m)
		}
	}
}
