package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/foreshift/foreshift/agents/spool"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// keep puts what is due into the spool when the bus cannot be reached for the given
// reason. Without a spool, or with a disk that takes nothing, that stays the error, and
// Telegraf's buffer keeps the metrics as long as it can.
func (o *Output) keep(away error) error {
	if o.ring == nil {
		return away
	}
	before := o.ring.Dropped
	err := o.rounds(false, func(round []*draft, outs []streams.Out) error {
		for _, out := range outs {
			b, err := schemas.Encode(out.Msg)
			if err == nil {
				err = o.ring.Put(spool.Record{Subject: out.Subject, ID: out.ID, Kind: string(out.Msg.Kind()), Data: b})
			}
			if err != nil {
				return err
			}
		}
		for _, d := range round {
			o.commit(d)
		}
		o.spooled.Incr(int64(len(outs)))
		return nil
	})
	o.unspooled.Incr(int64(o.ring.Dropped - before))
	if err != nil {
		return errors.Join(away, err)
	}
	o.Log.Warnf("The bus cannot be reached; %d MB wait on disk: %v", o.ring.Bytes()>>20, away)
	return nil
}

// unspool publishes what the spool holds, oldest first, before anything newer. What can
// never be published is given up.
func (o *Output) unspool(ctx context.Context) error {
	if o.ring == nil || o.ring.Empty() {
		return nil
	}
	return o.ring.Take(func(r spool.Record) error {
		m, err := schemas.Decode(schemas.Kind(r.Kind), r.Data)
		if err != nil {
			o.lost.Incr(1)
			o.Log.Errorf("A message of the spool is given up: %v", err)
			return nil
		}
		out := streams.Out{Subject: r.Subject, ID: r.ID, Msg: m}
		if _, err := o.bus.Publish(ctx, out); err != nil {
			if !hopeless(out, err) {
				return fmt.Errorf("spool: %w", err)
			}
			o.lost.Incr(1)
			o.Log.Errorf("A message of the spool is given up: %v", err)
		}
		return nil
	})
}
