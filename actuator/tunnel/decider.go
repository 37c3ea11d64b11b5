package tunnel

import (
	"errors"
	"fmt"

	"github.com/foreshift/foreshift/actuator/tunnel/share"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// decider is the ledger in the shared shell. It keeps no snapshot: all it needs is the
// newest message of each subject, and the commands of a day.
type decider struct {
	ledger *share.Ledger
	lease  func() uint64 // revision of the lease, 0 when not held
	see    func(share.Verdict)
}

func (d *decider) Apply(e streams.Event) error {
	return d.ledger.Apply(share.Input{Seq: e.Seq, Time: schemas.Time(e.Time), Msg: e.Msg})
}

// Tick decides under the lease only: what is not published must not be remembered.
func (d *decider) Tick(c streams.Cut) []streams.Out {
	lease := d.lease()
	if lease == 0 {
		return nil
	}
	var outs []streams.Out
	for _, v := range d.ledger.Decide(schemas.Time(c.Now)) {
		v.Tunnel.Lease = lease
		if d.see != nil {
			d.see(v)
		}
		link := streams.LinkKey(v.Tunnel.A, v.Tunnel.B)
		outs = append(outs,
			streams.Out{Subject: streams.SubjectTunnel(v.Tunnel.A, v.Tunnel.B), ID: fmt.Sprintf("tunnel.%s.%d", link, c.Now), Msg: v.Tunnel, Lease: lease},
			streams.Out{Subject: streams.SubjectCapacityLink(v.Link.A, v.Link.B), ID: fmt.Sprintf("link.%s.%d", link, c.Now), Msg: v.Link, Lease: lease})
	}
	return outs
}

func (d *decider) AppendSnapshot(b []byte) []byte { return b }

func (d *decider) Restore([]byte) error { return errors.New("tunnel: no snapshots are kept") }
