package cluster

import (
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// ackWait, deliveries and unacked are those of the real durable consumers.
const (
	ackWait    = 30 * time.Second
	deliveries = 20
	unacked    = streams.MaxParked
)

// durable is the consumer of commands of one host: at least once, and in order only
// while nothing is delivered again.
type durable struct {
	n       *nats
	host    schemas.HostID
	next    uint64
	pending []*delivery
	most    int   // MaxAckPending
	astray  int64 // its filter is wrong until then: it gives every host's commands
	process *process
	gen     int
	work    func(*delivery)
}

type delivery struct {
	d     *durable
	m     *message
	tries int
	done  bool
	token int // of the newest delivery: its time-out
}

func (d *durable) wants(subject string) bool {
	i := strings.Index(subject, ".command.")
	return i > 0 && (d.n.w.now < d.astray || strings.HasPrefix(subject[i+len(".command."):], string(d.host)+"."))
}

// offer delivers as many messages as may be unacknowledged.
func (d *durable) offer() {
	s := d.n.streams[streams.Migrations]
	for d.next <= s.last && len(d.pending) < d.most {
		m := s.get(max(d.next, s.first))
		d.next = m.seq + 1
		if d.wants(m.subject) {
			x := &delivery{d: d, m: m}
			d.pending = append(d.pending, x)
			x.send()
		}
	}
}

// send delivers, and again when nothing is heard in time.
func (x *delivery) send() {
	d, w := x.d, x.d.n.w
	if x.done {
		return
	}
	if x.tries++; x.tries > deliveries+1 {
		x.settle()
		return
	}
	x.token++
	token := x.token
	w.after(ackWait, func() {
		if !x.done && x.token == token {
			w.counts.Redelivered++
			x.send()
		}
	})
	if !d.n.present() || d.process == nil {
		return
	}
	w.links.fromNATS(d.process.node, func() {
		d.process.resume(d.gen, func() { d.work(x) })
	})
}

// answer is the worker's verdict on its way to the server.
func (x *delivery) answer(v verdict) {
	w := x.d.n.w
	w.links.toNATS(x.d.process.node, func() {
		if x.done || !w.nats.present() {
			return
		}
		switch v.what {
		case ack:
			x.settle()
			w.acked(x.m, x.d.host)
		case retry:
			x.token++
			if x.tries >= deliveries {
				x.settle()
				return
			}
			w.after(max(v.after, time.Millisecond), x.send)
		case reject:
			x.settle()
		}
	})
}

func (x *delivery) settle() {
	x.done = true
	kept := x.d.pending[:0]
	for _, o := range x.d.pending {
		if o != x {
			kept = append(kept, o)
		}
	}
	x.d.pending = kept
	x.d.offer()
}

// rewind is what a lost tail does to a consumer.
func (d *durable) rewind(last uint64) {
	d.next = min(d.next, last+1)
	for _, x := range d.pending {
		if x.m.seq > last {
			x.done = true
		}
	}
	kept := d.pending[:0]
	for _, x := range d.pending {
		if !x.done {
			kept = append(kept, x)
		}
	}
	d.pending = kept
}

// verdict is what becomes of a message of a durable consumer.
type verdict struct {
	what  int
	after time.Duration
}

const (
	ack = iota
	retry
	reject
)
