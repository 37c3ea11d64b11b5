package actuator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// nonce binds a reply to the very bytes of the request it answers.
func nonce(request []byte) string {
	h := sha256.Sum256(request)
	return hex.EncodeToString(h[:16])
}

// remote is another host's actuator as a destination, over the bus. No answer in
// time is an unclear result; so is an answer that does not prove whose it is.
type remote struct {
	bus         bus
	authorities *streams.Authorities
	self, peer  schemas.HostID
	now         func() int64
}

func (r *remote) Observe(ctx context.Context, t migration.Ticket) (migration.Reply, error) {
	return r.ask(ctx, schemas.OpObserve, t, migration.Offer{})
}

func (r *remote) Prepare(ctx context.Context, t migration.Ticket, o migration.Offer) (migration.Reply, error) {
	return r.ask(ctx, schemas.OpPrepare, t, o)
}

func (r *remote) Finish(ctx context.Context, t migration.Ticket, cookie []byte) (migration.Reply, error) {
	return r.ask(ctx, schemas.OpFinish, t, migration.Offer{Cookie: cookie})
}

func (r *remote) Resume(ctx context.Context, t migration.Ticket) (migration.Reply, error) {
	return r.ask(ctx, schemas.OpResume, t, migration.Offer{})
}

func (r *remote) Release(ctx context.Context, t migration.Ticket) (migration.Reply, error) {
	return r.ask(ctx, schemas.OpRelease, t, migration.Offer{})
}

func (r *remote) ask(ctx context.Context, op schemas.Op, t migration.Ticket, o migration.Offer) (migration.Reply, error) {
	now := r.now()
	expires := now + int64(requestLimit)
	if d, ok := ctx.Deadline(); ok {
		expires = now + max(int64(time.Millisecond), int64(time.Until(d)))
	}
	q := &schemas.Request{Op: op, Command: t.Command.ID, Epoch: t.Epoch, VM: t.VM(), From: r.self, To: r.peer,
		Time: schemas.Time(now), Expires: schemas.Time(expires), Order: t.Order, XML: o.XML, Cookie: o.Cookie, Disks: o.Disks, Peer: o.Peer}
	sent, err := schemas.Encode(q)
	if err != nil {
		return migration.Reply{}, fmt.Errorf("ask %s to %s %s: %w", r.peer, op, t.VM(), err)
	}
	got, now, err := r.attempts(ctx, q)
	if errors.Is(err, streams.ErrTooLarge) {
		return migration.Reply{}, &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonTooLarge, Detail: err.Error()}}
	}
	if err != nil {
		return migration.Reply{}, fmt.Errorf("ask %s to %s %s: %w (%w)", r.peer, op, t.VM(), migration.ErrUnclear, err)
	}
	a, err := r.verified(got, q, nonce(sent))
	if err != nil {
		return migration.Reply{}, fmt.Errorf("ask %s to %s %s: %w (%w)", r.peer, op, t.VM(), migration.ErrUnclear, err)
	}
	out := migration.Reply{Life: migration.LifeSign(a.LifeSign), Cookie: a.Cookie, URI: a.URI, Downtime: a.Downtime, Volume: a.Volume, Why: a.Reason,
		Peer: migration.Peer{Fence: a.Fence, Released: a.Released, Resumed: a.Resumed, Asked: now}}
	out.PeerURI, out.NoPostCopy = a.PeerURI, a.NoPostCopy
	if a.Lock != "" {
		out.Lock = schemas.Reason{Code: schemas.ReasonLock, Detail: a.Lock}
	}
	out.Copy, _ = migration.ParseCopy(a.Copy) // an unknown word is no answer: Unreachable
	if !a.Reason.OK() {
		return out, &migration.Refusal{Why: a.Reason}
	}
	return out, nil
}

// firstAttempt is how long the first answer is waited for; each further attempt of
// the same request waits twice as long.
const firstAttempt = 500 * time.Millisecond

// attempts sends one request until it is answered or ctx ends: a request or a reply
// that is lost must not cost the guest the whole of the deadline. The destination
// answers the same request twice with the same answer. asked is when the attempt
// that was answered went out.
func (r *remote) attempts(ctx context.Context, q *schemas.Request) (got *streams.Received, asked int64, err error) {
	for wait := firstAttempt; ; wait *= 2 {
		asked = r.now()
		try, cancel := context.WithTimeout(ctx, wait)
		got, err = r.bus.Request(try, streams.SubjectActuator(r.peer, q.Op), q)
		silent := try.Err() != nil
		cancel()
		// An error without silence is a word: nobody serves it, or it may not be asked.
		if err == nil || !silent || ctx.Err() != nil {
			return got, asked, err
		}
	}
}

// verified proves that the reply is the peer's and answers this request.
func (r *remote) verified(got *streams.Received, q *schemas.Request, nonce string) (*schemas.Reply, error) {
	s := got.Signed()
	if err := r.authorities.VerifyActuator(r.peer, s.Subject, s.Payload, s.Signature, s.Signer); err != nil {
		return nil, err
	}
	a, ok := got.Msg.(*schemas.Reply)
	if !ok {
		return nil, fmt.Errorf("the answer is %T", got.Msg)
	}
	if a.From != r.peer || a.VM != q.VM || a.Epoch != q.Epoch || a.Command != q.Command || a.Nonce != nonce {
		return nil, errors.New("the answer is to another request")
	}
	return a, nil
}

// answer is this host's side: it proves the request, then asks the receiver. What
// cannot be proven is refused without a look at the host.
func (a *Actuator) answer(ctx context.Context, got *streams.Received) schemas.Message {
	q, ok := got.Msg.(*schemas.Request)
	if !ok {
		return nil
	}
	out := &schemas.Reply{Command: q.Command, Epoch: q.Epoch, VM: q.VM, From: a.cfg.Host, Nonce: nonce(got.Data)}
	log := a.logOf(q.Command, q.VM).With("op", q.Op, "epoch", q.Epoch, "from", q.From)
	t, err := a.proven(got, q)
	var r migration.Reply
	if err == nil {
		r, err = a.receiver.serve(ctx, q.Op, t, migration.Offer{XML: q.XML, Cookie: q.Cookie, Disks: q.Disks, Peer: q.Peer}, int64(q.Expires))
		if err != nil && migration.HowOf(err) == migration.Unknown {
			log.Warn("request not carried out", "err", err)
			return nil // no answer is the honest one: nobody knows
		}
	}
	if err != nil {
		out.Reason = bounded(migration.ReasonOf(err))
		log.Debug("request refused", "why", out.Reason.String())
		a.met.refusedRequests.WithLabelValues(string(out.Reason.Code)).Inc()
	} else {
		out.Reason.Code = schemas.ReasonOK
	}
	out.Time, out.Copy, out.LifeSign = schemas.Time(a.now()), r.Copy.String(), string(r.Life)
	out.Fence, out.Released, out.Resumed = r.Peer.Fence, r.Peer.Released, r.Peer.Resumed
	out.PeerURI, out.NoPostCopy, out.Lock = r.PeerURI, r.NoPostCopy, r.Lock.Detail
	out.Cookie, out.URI, out.Downtime, out.Volume = r.Cookie, r.URI, r.Downtime, r.Volume
	return out
}

// proven checks the requester's signature and, with its own eyes, the placer's on
// the command inside.
func (a *Actuator) proven(got *streams.Received, q *schemas.Request) (t migration.Ticket, err error) {
	refuse := func(code schemas.ReasonCode, detail string) (migration.Ticket, error) {
		return migration.Ticket{}, &migration.Refusal{Why: schemas.Reason{Code: code, Detail: detail}}
	}
	s := got.Signed()
	if err := a.cfg.Authorities.VerifyActuator(q.From, s.Subject, s.Payload, s.Signature, s.Signer); err != nil {
		return migration.Ticket{}, &migration.Refusal{Why: streams.ReasonOf(err)}
	}
	// A key that was retired since starts nothing more; what it began is ended.
	verify := a.cfg.Authorities.GenuineCommand
	if q.Op == schemas.OpPrepare {
		verify = a.cfg.Authorities.VerifyCommand
	}
	if err := verify(q.Order); err != nil {
		return migration.Ticket{}, &migration.Refusal{Why: streams.ReasonOf(err)}
	}
	m, err := schemas.Decode(schemas.KindCommand, q.Order.Payload)
	if err != nil {
		return refuse(schemas.ReasonInvalid, "the command inside: "+err.Error())
	}
	c, ok := m.(*schemas.Command)
	switch {
	case !ok:
		return refuse(schemas.ReasonInvalid, fmt.Sprintf("the command inside is %T", m))
	case s.Subject != streams.SubjectActuator(a.cfg.Host, q.Op) || q.To != a.cfg.Host || c.Destination != a.cfg.Host:
		return refuse(schemas.ReasonWrongHost, "the request is not for this host")
	case c.Source != q.From || c.VM != q.VM || c.ID != q.Command || q.Order.Subject != streams.SubjectCommand(c.VM, c.Source, c.Destination):
		return refuse(schemas.ReasonInvalid, "request and command do not agree")
	case q.Order.Sequence != q.Epoch || c.AfterSeq >= q.Epoch:
		return refuse(schemas.ReasonEpoch, "the epoch is not the command's sequence")
	case c.Run != "":
		return refuse(schemas.ReasonReplay, "the command comes from replay "+c.Run)
	}
	return migration.Ticket{Command: c, Epoch: q.Epoch, Order: q.Order}, nil
}

// bounded clips a reason's foreign text to what messages carry.
func bounded(r schemas.Reason) schemas.Reason {
	const most = 400
	if len(r.Detail) > most {
		r.Detail = r.Detail[:most] + "..."
	}
	return r
}

func (a *Actuator) serve(ctx context.Context) error {
	return a.bus.Serve(ctx, "actuator."+string(a.cfg.Host)+".*", a.answer)
}
