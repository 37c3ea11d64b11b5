package jetstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/influxdata/telegraf"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// rounds sends the gathers that are due: the oldest of every host, then the next. A
// host's state moves on when all messages of its gather are acknowledged, or in the
// spool; until then the next Write makes the same ones again.
func (o *Output) rounds(all bool, send func([]*draft, []streams.Out) error) error {
	for {
		var round []*draft
		var outs []streams.Out
		for _, id := range o.order {
			h := o.hosts[id]
			g := h.due(all)
			if g == nil {
				continue
			}
			if !g.complete() {
				o.overtaken.Incr(1)
			}
			d := o.build.make(h, g)
			if d.fault != nil {
				o.broken.Incr(1)
				o.Log.Errorf("Host %s: its inventory is left out: %v", id, d.fault)
			}
			round = append(round, d)
			outs = append(outs, d.outs...)
		}
		if len(round) == 0 {
			return nil
		}
		if err := send(round, outs); err != nil {
			return err
		}
	}
}

// flush publishes the gathers that are due.
func (o *Output) flush(ctx context.Context, all bool) error {
	return o.rounds(all, func(round []*draft, outs []streams.Out) error {
		if err := o.bus.PublishAsync(ctx, outs); err != nil {
			return o.oneByOne(ctx, round)
		}
		for _, d := range round {
			o.commit(d)
		}
		return nil
	})
}

// oneByOne publishes again after a failure, and so finds out which messages
// arrived: those are doubles to the bus, by their ids. What can never be published
// is given up; what might later ends the attempt.
func (o *Output) oneByOne(ctx context.Context, round []*draft) error {
	for _, d := range round {
		for _, out := range d.outs {
			_, err := o.bus.Publish(ctx, out)
			if err == nil {
				continue
			}
			if !hopeless(out, err) {
				return fmt.Errorf("host %s: %w", d.host.id, err)
			}
			o.lost.Incr(1)
			o.Log.Errorf("Host %s: a message is given up: %v", d.host.id, err)
		}
		o.commit(d)
	}
	return nil
}

// hopeless reports whether publishing the message again cannot help.
func hopeless(out streams.Out, err error) bool {
	return errors.Is(err, streams.ErrDenied) || errors.Is(err, streams.ErrTooLarge) || errors.Is(err, streams.ErrNoRoute) ||
		out.Msg.Validate() != nil
}

func (o *Output) commit(d *draft) {
	_, longest := o.build.nominal(d.host, d.g)
	g := d.g
	d.commit(longest)
	for vm, hash := range d.entries {
		o.vms[vm] = vmEntry{hash, g.at}
	}
	if d.capacity != nil {
		for i := range d.capacity.VMs {
			if e, ok := o.vms[d.capacity.VMs[i].VM]; ok {
				e.seen = g.at
				o.vms[d.capacity.VMs[i].VM] = e
			}
		}
	}
	o.sent.Incr(int64(len(d.outs)))
	o.sweep(g.at)
	o.retire(g)
}

// sweep forgets, now and then, VMs that no host has named for an hour.
func (o *Output) sweep(at int64) {
	if at-o.swept < int64(10*time.Minute) {
		return
	}
	o.swept = at
	for vm, e := range o.vms {
		if at-e.seen > int64(time.Hour) {
			delete(o.vms, vm)
		}
	}
}

// linkKey names a link by its two sites in order.
type linkKey struct{ a, b schemas.SiteID }

// link is one link that this agent probes.
type link struct {
	lease *streams.Lease
	end   context.CancelFunc
	next  *schemas.CapacityLink // measured, not published yet
	last  schemas.Time
}

func (l *link) release() {
	if l.end != nil {
		l.end()
	}
}

// maxLinks bounds the links of one agent.
const maxLinks = 256

func (o *Output) ingestLink(m telegraf.Metric) bool {
	head := readHeader(m)
	c := &schemas.CapacityLink{A: schemas.SiteID(tag(m, "site_a")), B: schemas.SiteID(tag(m, "site_b")), By: tag(m, "by"), Time: schemas.Time(head.at)}
	for _, f := range m.FieldList() {
		v, ok := number(f.Value)
		if !ok || v < 0 || v > math.MaxFloat32 {
			continue
		}
		switch f.Key {
		case "rtt_ms":
			c.RTT = schemas.Millis(v)
		case "loss_ratio":
			c.Loss = schemas.Ratio(v)
		case "bandwidth_bytes_per_second":
			c.Bandwidth = schemas.BytesPerSecond(v)
		case "free_bytes_per_second":
			c.Free = schemas.BytesPerSecond(v)
		}
	}
	key := linkKey{c.A, c.B}
	l := o.links[key]
	if c.Validate() != nil || l == nil && len(o.links) >= maxLinks {
		return false
	}
	if l == nil {
		l = &link{}
		o.links[key] = l
	}
	if c.Time > l.last && (l.next == nil || c.Time > l.next.Time) {
		l.next = c
	}
	return true
}

// flushLinks publishes what was measured of the links whose lease this agent
// holds, and forgets the rest: another agent publishes those.
func (o *Output) flushLinks(ctx context.Context) error {
	for key, l := range o.links {
		if l.next == nil {
			continue
		}
		if l.lease == nil {
			held, end := context.WithCancel(o.ctx)
			lease, err := o.bus.Hold(held, "link."+string(key.a)+"."+string(key.b), time.Duration(o.LeaseTTL))
			if err != nil {
				end()
				return fmt.Errorf("link %s-%s: %w", key.a, key.b, err)
			}
			l.lease, l.end = lease, end
		}
		c := l.next
		if l.lease.Held() {
			id := fmt.Sprintf("link.%s.%s.%s.%d", c.A, c.B, o.build.agent, c.Time)
			out := streams.Out{Subject: streams.SubjectCapacityLink(c.A, c.B), ID: id, Msg: c, Lease: l.lease.Revision()}
			if _, err := o.bus.Publish(ctx, out); err != nil && !hopeless(out, err) {
				return fmt.Errorf("link %s-%s: %w", c.A, c.B, err)
			} else if err != nil {
				o.lost.Incr(1)
				o.Log.Errorf("Link %s-%s: a message is given up: %v", c.A, c.B, err)
			}
		}
		l.last, l.next = c.Time, nil
	}
	return nil
}
