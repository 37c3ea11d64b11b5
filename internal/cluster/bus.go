package cluster

import (
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// publishTimeout is the real bus's.
const publishTimeout = 5 * time.Second

// out is a message that a process wants stored.
type out struct {
	streams.Out
	key  string   // who signs
	raw  *message // what is sent when set: bytes that were made before
	tool bool
}

// sampled: of so many messages of the control account one is decoded again, the others
// are read as they were made. All are encoded, and so checked.
const sampled = 8

// compose encodes and signs, as the real bus does before it sends anything.
func (w *world) compose(o out) *message {
	if o.raw != nil {
		return o.raw
	}
	m := &message{subject: o.Subject, id: o.ID, lease: o.Lease}
	if o.Subject == heartbeatSubject { // the most frequent by far, and all alike
		m.data, m.signer, m.msg = []byte(o.ID), o.key, o.Msg
		m.signature = sign(o.key, o.Subject, m.data)
		return m
	}
	if o.key != "" {
		data, err := schemas.Encode(o.Msg)
		if err != nil {
			m.bad = err
			return m
		}
		m.data, m.signer, m.msg = data, o.key, o.Msg
		m.signature = sign(o.key, o.Subject, data)
		if w.n%sampled == 0 {
			if m.msg, err = schemas.Decode(o.Msg.Kind(), data); err != nil {
				m.bad = err
			}
		}
		return m
	}
	if err := o.Msg.Validate(); err != nil {
		m.bad = err
	}
	m.msg = o.Msg
	return m
}

// publish stores a message and tells how it went, once. Like the real bus it reads
// back what is there when the answer is that another was first, or none.
func (w *world) publish(p *process, o out, then func(uint64, failure)) {
	m := w.compose(o)
	if m.bad != nil {
		w.counts.Invalid++
		p.later(0, func() { then(0, lostRace) })
		return
	}
	st, err := streams.StreamFor(o.Subject)
	if err != nil {
		p.later(0, func() { then(0, lostRace) })
		return
	}
	s, told, gen := w.nats.streams[st.Name], false, p.gen
	tell := func(seq uint64, f failure) {
		if told {
			return
		}
		told = true
		if f == stored || o.Expect == nil {
			then(seq, f)
			return
		}
		w.lastUnder(p, st.Name, o.Expect.Filter, func(last *message, ok bool) {
			switch {
			case ok && last != nil && last.subject == m.subject && last.id == m.id && m.id != "":
				then(last.seq, stored)
			default:
				then(0, f)
			}
		})
	}
	w.links.toNATS(p.node, func() {
		if !w.nats.present() {
			return
		}
		seq, f := s.put(m, o.Expect)
		w.links.fromNATS(p.node, func() { p.resume(gen, func() { tell(seq, f) }) })
	})
	p.later(publishTimeout, func() { tell(0, noAnswer) })
}

// send stores telemetry: nobody waits for it.
func (w *world) send(p *process, o out) {
	m := w.compose(o)
	if m.bad != nil {
		w.counts.Invalid++
		return
	}
	st, err := streams.StreamFor(o.Subject)
	if err != nil {
		return
	}
	w.links.toNATS(p.node, func() {
		if w.nats.present() {
			w.nats.streams[st.Name].put(m, nil)
		}
	})
}

// lastUnder reads the last message under a filter from the stream's leader, or from
// one that no longer is.
func (w *world) lastUnder(p *process, stream, filter string, then func(*message, bool)) {
	told, gen := false, p.gen
	tell := func(m *message, ok bool) {
		if !told {
			told = true
			then(m, ok)
		}
	}
	w.links.toNATS(p.node, func() {
		if !w.nats.present() {
			return
		}
		s := w.nats.streams[stream]
		q := s.byKey[keyOf(filter)]
		if w.now < w.nats.stale && len(q) > 0 && w.net.odds(500) {
			q = q[:len(q)-1]
			w.counts.fault(7)
		}
		var m *message
		if len(q) > 0 {
			m = s.get(q[len(q)-1])
		}
		w.links.fromNATS(p.node, func() { p.resume(gen, func() { tell(m, true) }) })
	})
	p.later(publishTimeout, func() { tell(nil, false) })
}
