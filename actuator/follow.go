package actuator

import (
	"context"
	"sync"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Times of following the share-outs of the links between sites.
const (
	shareWait = 2 * time.Second  // so long a new command waits for a share to be named
	shareLive = 10 * time.Second // a share-out said longer ago is nobody's any more
	leastRate = 1 << 20          // bytes/s: libvirt counts in MiB/s, and 0 would mean no ceiling
)

// sharesInput is where the share-outs are told.
var sharesInput = streams.Input{Stream: "KV_" + streams.BucketTunnels, Filters: []string{streams.SubjectKV(streams.BucketTunnels, "*")}, From: streams.FromLastPerSubject}

// shares is what the links' share-outs say of moves. The bus has checked who says it.
type shares struct {
	mu    sync.Mutex
	links map[string]told // by subject
}

type told struct {
	*schemas.Tunnel
	at int64 // stream time
}

// maxLinks bounds what is kept: links between sites, of which there are few.
const maxLinks = 1024

func (s *shares) apply(e streams.Event) {
	t, ok := e.Msg.(*schemas.Tunnel)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links == nil {
		s.links = map[string]told{}
	}
	if _, known := s.links[e.Subject]; known || len(s.links) < maxLinks {
		s.links[e.Subject] = told{t, e.Time}
	}
}

// of is the share of a command; live reports that some link is being shared out now.
func (s *shares) of(id schemas.CommandID, now int64) (share *schemas.Share, live bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.links {
		live = live || now-t.at < int64(shareLive)
		for i := range t.Shares {
			if t.Shares[i].Command == id {
				share = &t.Shares[i]
			}
		}
	}
	return share, live
}

// hold says why a command must not start yet, or nothing. A command with a ceiling
// crosses a link; while nobody shares links out, nobody is waited for.
func (s *shares) hold(c *schemas.Command, now int64) schemas.Reason {
	share, live := s.of(c.ID, now)
	switch {
	case c.Bandwidth <= 0 || !live:
	case share == nil && now-int64(c.Issued) < int64(shareWait):
		return schemas.Reason{Code: schemas.ReasonTurn, Detail: "the link's share-out has not named it yet"}
	case share != nil && share.Waits:
		return share.Reason
	}
	return schemas.Reason{}
}

// rate is what a move may send at now, 0 when nobody said.
func (s *shares) rate(id schemas.CommandID, now int64) schemas.BytesPerSecond {
	if share, _ := s.of(id, now); share != nil && !share.Waits {
		return max(share.Rate, leastRate)
	}
	return 0
}

// follow sets the transfer's ceiling to the move's share when that has changed. One
// that cannot be set leaves the old one in force and is tried again at the next look.
func (d *Drive) follow(ctx context.Context) {
	if d.Rate == nil || d.paused {
		return
	}
	r := d.Rate()
	if r <= 0 || r == d.limit {
		return
	}
	if err := d.Source.SetRate(ctx, d.Ticket.VM(), r); err != nil {
		if d.Note != nil {
			d.Note(d.State, migration.Action{Verb: migration.Perform}, migration.ReasonOf(err))
		}
		return
	}
	d.limit = r
}
