package cluster

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/foreshift/foreshift/placer"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Times of the control plane here. The real placer looks once a second; the heartbeat is
// every five.
const (
	base      = 5 * time.Minute
	lookEvery = 5 * time.Second
	leaseTTL  = 15 * time.Second
)

// placerNode is one placer: the real decider in a shell of events. Any number run; the
// one that holds the lease decides, or both that believe it.
type placerNode struct {
	process
	d     *placer.Decider
	cut   streams.Cut
	busy  bool // a tick's messages are being published
	until int64
	term  uint64 // revision of the lease
	twin  *twin
}

// lease is the key in the bucket of leases.
type lease struct {
	holder *placerNode
	since  int64 // its last renewal
	term   uint64
}

// twin is a second decider that began from a snapshot and is told the same: I12.
type twin struct {
	d     *placer.Decider
	until int64
}

func (w *world) populatePlacers() {
	if w.mix.storm {
		return
	}
	w.truth = w.drawPolicy()
	for i := range w.mix.placers {
		p := &placerNode{process: process{w: w, name: fmt.Sprintf("placer %d", i), node: w.mix.hosts + 1 + i}}
		w.heads = append(w.heads, p)
		p.start()
	}
	w.telemetry()
}

func (p *placerNode) config() placer.Config {
	return placer.Config{Name: p.name, Base: base, Policy: p.w.told(), Evaluations: 300, Seed: 1}
}

// start is the process's beginning: a snapshot if there is one, then the streams.
func (p *placerNode) start() {
	w := p.w
	d, err := placer.NewDecider(p.config())
	if err != nil {
		w.violate("I13", nil, "no placer can be made: %v", err)
		return
	}
	p.gen++
	p.up, p.stopped, p.busy, p.until, p.twin = true, 0, false, 0, nil
	p.d, p.cut = d, streams.Cut{Seq: map[string]uint64{}}
	p.later(w.net.between(100*time.Millisecond, 2*time.Second), p.catchUp)
}

func (p *placerNode) catchUp() {
	w := p.w
	if !w.nats.present() || !w.links.reaches(p.node) {
		p.later(w.net.between(500*time.Millisecond, time.Second), p.catchUp)
		return
	}
	if o, ok := w.nats.objects["placer"]; ok && !o.torn {
		if err := p.d.Restore(o.state); err == nil {
			p.cut = streams.Cut{Now: o.cut.Now, Seq: maps.Clone(o.cut.Seq)}
		}
	}
	for _, name := range placerStreams {
		st := w.nats.streams[name]
		from, resumed := p.cut.Seq[name], false
		if from > 0 {
			if from <= st.last {
				resumed = true
			} else {
				delete(p.cut.Seq, name) // the stream was made anew: it is read from its start
			}
		}
		if !resumed {
			for _, m := range st.past(p.clock()) {
				p.take(m)
			}
			from = st.last
		}
		st.follow(&p.process, from+1, wanted, func() bool { return p.busy }, p.take)
	}
	w.say(p.name, nil, "has caught up")
	p.later(lookEvery, p.look)
	p.later(w.acts.between(time.Hour, 2*time.Hour), p.snapshot)
}

// placerStreams are what a placer reads, in its order.
var placerStreams = []string{streams.Capacity, streams.Forecasts, streams.Migrations, streams.Acts, streams.Plans}

func wanted(subject string) bool { return subject != heartbeatSubject }

// past is what a placer reads of a stream when it starts without a snapshot.
func (s *stream) past(now int64) []*message {
	var out []*message
	switch s.name {
	case streams.Capacity:
		for _, m := range s.msgs {
			if s.lastOf[m.subject] == m {
				out = append(out, m)
			}
		}
	case streams.Forecasts:
		for _, m := range s.msgs {
			if now-m.at < int64(6*base) {
				out = append(out, m)
			}
		}
	case streams.Plans:
		for _, m := range s.msgs {
			if now-m.at < int64(24*time.Hour) {
				out = append(out, m)
			}
		}
	case streams.Acts:
		return s.n.acts
	default:
		return s.msgs
	}
	return out
}

// event makes of a message what a decider is told, or nothing: as the real bus does, it
// lets through only what can be decoded and has authority.
func (p *placerNode) event(m *message) (streams.Event, bool) {
	w := p.w
	v, ok := m.msg.(schemas.Message)
	if !ok || m.seq <= p.cut.Seq[m.stream] && !w.without("skip-seen") {
		return streams.Event{}, false
	}
	e := streams.Event{Stream: m.stream, Seq: m.seq, Time: m.at, Subject: m.subject, Lease: m.lease, Msg: v}
	if w.keys.event(m) != nil || !w.tells(&e) {
		w.counts.Forged++
		return e, false
	}
	if m.signer == keyHostile || m.signer == keyRetired {
		w.violate("I8", nil, "%s believes %s, which nobody with authority has signed", p.name, m.subject)
	}
	if m.key() == garbageKey && v.Validate() != nil {
		w.counts.Invalid++
		return e, false
	}
	return e, true
}

// take folds one message, as the real shell does.
func (p *placerNode) take(m *message) {
	e, ok := p.event(m)
	if ok {
		if err := p.d.Apply(e); err != nil {
			p.w.counts.Invalid++
		}
		if t := p.twin; t != nil {
			_ = t.d.Apply(e) // the same error
		}
	}
	p.cut.Seq[m.stream] = max(p.cut.Seq[m.stream], m.seq)
}

// look is one tick.
func (p *placerNode) look() {
	w := p.w
	p.later(lookEvery, p.look)
	p.hold()
	if p.busy || w.now >= p.until {
		return
	}
	cut := streams.Cut{Now: p.clock(), Seq: maps.Clone(p.cut.Seq)}
	outs := p.d.Tick(cut)
	p.compare(cut, outs)
	if len(outs) > 0 {
		p.busy = true
		p.publish(outs)
	}
}

// hold keeps or takes the lease. Nobody's clock is trusted, but a server that has lost
// its memory may give it to two.
func (p *placerNode) hold() {
	w := p.w
	l := &w.lease
	if !w.nats.present() || !w.links.reaches(p.node) {
		return
	}
	switch {
	case l.holder == p:
	case l.holder == nil, w.now-l.since > int64(leaseTTL):
		l.holder = p
		l.term++
		p.term = l.term
		w.say(p.name, nil, "holds the lease, term %d", l.term)
	default:
		return
	}
	l.since = w.now
	p.until = w.now + int64(leaseTTL*2/3)
}

// publish sends a tick's messages in their order, one by one where order matters.
func (p *placerNode) publish(outs []streams.Out) {
	w := p.w
	for len(outs) > 0 {
		o := outs[0]
		if p.stumbles(o.Msg) {
			p.later(0, func() { p.publish(outs) })
			return
		}
		outs = outs[1:]
		o.Lease = p.term
		st, err := streams.StreamFor(o.Subject)
		if err != nil {
			continue
		}
		if st.Account == streams.Tel {
			w.send(&p.process, out{Out: o})
			continue
		}
		if o.Subject == heartbeatSubject {
			w.send(&p.process, out{Out: o, key: keyPlacer})
			continue
		}
		rest := outs
		if c, ok := o.Msg.(*schemas.Command); ok && w.keep {
			w.say(p.name, w.byVM[c.VM], "orders %s -> %s, command %s, plan %s, decided at %d: %s", c.Source, c.Destination, c.ID, c.Plan, c.AfterSeq, c.Reason)
		}
		w.publish(&p.process, out{Out: o, key: keyPlacer}, func(_ uint64, f failure) {
			if f != stored && !w.without("plan-first") {
				rest = streams.Dependents(o, rest)
			}
			p.publish(rest)
		})
		return
	}
	p.busy = false
}

// snapshot keeps the state, from which the next start goes on.
func (p *placerNode) snapshot() {
	w := p.w
	p.later(w.acts.between(time.Hour, 3*time.Hour), p.snapshot)
	if p.busy || w.now >= p.until {
		return
	}
	state := p.d.AppendSnapshot(nil)
	if w.links.reaches(p.node) && w.nats.present() {
		o := object{state: state, cut: streams.Cut{Now: p.cut.Now, Seq: maps.Clone(p.cut.Seq)}}
		if !w.calm && w.disk.odds(w.mix.diskFails*5) {
			w.counts.fault(6)
			o.torn = true
		}
		w.nats.objects["placer"] = o
	}
	d, err := placer.NewDecider(p.config())
	if err == nil {
		err = d.Restore(state)
	}
	if err != nil {
		w.violate("I12", nil, "%s cannot take its own snapshot back: %v", p.name, err)
		return
	}
	p.twin = &twin{d, w.now + int64(20*time.Minute)}
}

// compare holds I12: who began from the snapshot and was told the same decides the same.
func (p *placerNode) compare(cut streams.Cut, outs []streams.Out) {
	t, w := p.twin, p.w
	if t == nil {
		return
	}
	again := t.d.Tick(streams.Cut{Now: cut.Now, Seq: maps.Clone(cut.Seq)})
	same := len(again) == len(outs)
	for i := 0; same && i < len(outs); i++ {
		same = outs[i].Subject == again[i].Subject && outs[i].ID == again[i].ID && schemas.HashJSON(outs[i].Msg) == schemas.HashJSON(again[i].Msg)
	}
	if !same {
		w.violate("I12", nil, "%s and its twin from the snapshot decide differently: %d and %d messages%s", p.name, len(outs), len(again), firstOther(outs, again))
	}
	if w.now > t.until {
		p.twin = nil
	}
}

func firstOther(a, b []streams.Out) string {
	for i := range min(len(a), len(b)) {
		if a[i].ID != b[i].ID || schemas.HashJSON(a[i].Msg) != schemas.HashJSON(b[i].Msg) {
			return ", the first difference in " + a[i].Subject + " and " + b[i].Subject
		}
	}
	return ""
}

func (p *placerNode) kill(why string) {
	if !p.up {
		return
	}
	w := p.w
	w.say(p.name, nil, "dies: %s", why)
	p.up = false
	p.gen++
	gen := p.gen
	w.after(w.steps.between(500*time.Millisecond, 30*time.Second), func() {
		if p.gen == gen {
			w.say(p.name, nil, "starts again")
			p.start()
		}
	})
}

// key is the head of a subject.
func (m *message) key() string {
	head, _, _ := strings.Cut(m.subject, ".")
	return head
}

const garbageKey = "forecasts"
