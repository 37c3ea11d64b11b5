package streams

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

// Share divides numbered parts of a work among the members of a group, for liveness
// only: nothing unsafe may happen when two believe that they hold the same part.
//
// Each member keeps one key alive, its session, as [Lease] keeps its own: nobody's
// clock is trusted, the holder counts its session as lost after 2/3 of the TTL without
// a rewrite, the others after they have watched it unchanged for the whole TTL. A part
// is a key with the name of its holder, as good as that one's session; it is written
// only when it changes hands, so that a group costs a few writes a second whatever the
// number of parts. The revision of that write is the epoch that goes into every event.
//
// Who should hold what is a pure function of the living members: rendezvous hashing
// with no member above its even share ([Divide]). A part whose holder has died is taken
// at once; one whose holder lives is given up by it, when the one it should go to says
// that it is ready.
type Share struct {
	group string
	parts int
	ttl   time.Duration
	id    string
	bus   *Bus
	kv    jetstream.KeyValue

	mu      sync.Mutex
	until   time.Time // the session holds until then
	current uint64    // revision of the session's key
	members map[string]*member
	claims  []claimed
	ready   []byte // bit mask of parts that could be taken
	drops   []bool // parts to be given up
	kick    chan struct{}
	ended   chan struct{}
}

type member struct {
	revision uint64
	seen     time.Time // when it last changed, by our clock
	ttl      time.Duration
	ready    []byte
	told     bool // counted as dead, and asked again
}

type claimed struct {
	holder   string // empty: nobody
	revision uint64 // of the key
	won      uint64 // ours: revision when it was won
	written  time.Time
}

// session is the value of a member's key.
type session struct {
	Holder string `json:"holder"`
	Role   string `json:"role"`
	TTL    int64  `json:"ttl_ms"`
	Ready  []byte `json:"ready,omitempty"`
}

// claimAge is when a claim is rewritten: the bucket forgets keys after a day.
const claimAge = 6 * time.Hour

// Join makes the bus a member of a group until ctx ends; then it gives up all parts.
func (b *Bus) Join(ctx context.Context, group string, parts int, ttl time.Duration) (*Share, error) {
	if ttl < 4*minTTL || parts < 1 || parts > 4096 {
		return nil, fmt.Errorf("share %s: ttl %v must be at least %v, parts 1..4096", group, ttl, 4*minTTL)
	}
	c, err := b.conn(Tel)
	if err != nil {
		return nil, fmt.Errorf("share %s: %w", group, err)
	}
	wait, done := c.denials.watch(ctx, "$JS.API.")
	defer done()
	kv, err := patiently(wait, b, "bucket "+BucketLeases, func(ctx context.Context) (jetstream.KeyValue, error) { return c.JS.KeyValue(ctx, BucketLeases) })
	if err != nil {
		return nil, explain(wait, "share "+group+": bucket "+BucketLeases, err)
	}
	s := &Share{group: group, parts: parts, ttl: ttl, id: nuid.Next(), bus: b, kv: kv, members: map[string]*member{},
		claims: make([]claimed, parts), ready: make([]byte, (parts+7)/8), drops: make([]bool, parts),
		kick: make(chan struct{}, 1), ended: make(chan struct{})}
	w, err := patiently(ctx, b, "members of "+group, func(context.Context) (jetstream.KeyWatcher, error) {
		return kv.Watch(ctx, group+".>") // until the end, not only until we have begun
	})
	if err != nil {
		return nil, explain(wait, "share "+group+": watch", err)
	}
	for known := false; !known; { // who is there already
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return nil, fmt.Errorf("share %s: watch ended", group)
			}
			if known = e == nil; !known {
				s.note(e)
			}
		case <-wait.Done():
			return nil, explain(wait, "share "+group+": watch", context.Cause(wait))
		}
	}
	go s.watch(w)
	go func() {
		defer close(s.ended)
		s.run(ctx)
		if err := w.Stop(); err != nil {
			b.Log.Debug("watch of a share not stopped", "share", group, "err", err)
		}
	}()
	return s, nil
}

// ID is the member's own name.
func (s *Share) ID() string { return s.id }

// Done is closed when all parts were given up after the context's end.
func (s *Share) Done() <-chan struct{} { return s.ended }

// ShareView is what a member knows at one moment.
type ShareView struct {
	Held    []uint64 // revision by which a part is held here; 0 = not
	Mine    []bool   // parts that should be here
	Wanted  []bool   // held here, and another that should have them is ready
	Members int
	// Lapsed says that our own session may have run out: nothing is held then, and
	// nothing is known of what should be here.
	Lapsed bool
}

// View tells what is held here and what should be.
func (s *Share) View() ShareView {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	v := ShareView{Held: make([]uint64, s.parts), Mine: make([]bool, s.parts), Wanted: make([]bool, s.parts)}
	alive := s.alive(now)
	v.Members = len(alive)
	owners := Divide(s.group, alive, s.parts)
	held := now.Before(s.until)
	v.Lapsed = !held
	for p, c := range s.claims {
		v.Mine[p] = owners[p] == s.id
		if c.holder != s.id || c.won == 0 {
			continue
		}
		if held {
			v.Held[p] = c.won
		}
		if m := s.members[owners[p]]; owners[p] != s.id && m != nil {
			v.Wanted[p] = bit(m.ready, p)
		}
	}
	return v
}

// SetReady tells the others which parts could be taken here.
func (s *Share) SetReady(part int, ready bool) {
	s.mu.Lock()
	was := bit(s.ready, part)
	if ready {
		s.ready[part/8] |= 1 << (part % 8)
	} else {
		s.ready[part/8] &^= 1 << (part % 8)
	}
	s.mu.Unlock()
	if was != ready {
		s.wake()
	}
}

// Release gives a part up.
func (s *Share) Release(part int) {
	s.mu.Lock()
	s.drops[part] = true
	s.mu.Unlock()
	s.wake()
}

func (s *Share) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func bit(b []byte, i int) bool { return i/8 < len(b) && b[i/8]&(1<<(i%8)) != 0 }

// alive lists the members whose sessions live, in order of their names.
func (s *Share) alive(now time.Time) []string {
	var out []string
	for id, m := range s.members {
		if id == s.id {
			continue
		}
		if now.Sub(m.seen) < max(m.ttl, s.ttl) {
			out = append(out, id)
		}
	}
	if now.Before(s.until) {
		out = append(out, s.id)
	}
	slices.Sort(out)
	return out
}

// watch keeps up with the keys of the group.
func (s *Share) watch(w jetstream.KeyWatcher) {
	for e := range w.Updates() {
		if e != nil {
			s.note(e)
		}
	}
}

// note takes note of a key.
func (s *Share) note(e jetstream.KeyValueEntry) {
	kind, name, _ := strings.Cut(strings.TrimPrefix(e.Key(), s.group+"."), ".")
	gone := e.Operation() != jetstream.KeyValuePut
	s.mu.Lock()
	defer s.mu.Unlock()
	switch kind {
	case "member":
		s.heard(name, e, gone)
	case "part":
		if p, err := strconv.Atoi(name); err == nil && p >= 0 && p < s.parts && e.Revision() >= s.claims[p].revision {
			c := &s.claims[p]
			var v session
			if gone || json.Unmarshal(e.Value(), &v) != nil {
				v.Holder = ""
			}
			if v.Holder != s.id || c.holder != s.id {
				c.won = 0
			}
			c.holder, c.revision = v.Holder, e.Revision()
		}
	}
	if kind == "part" || gone {
		s.wake()
	}
}

// heard notes a member's session.
func (s *Share) heard(id string, e jetstream.KeyValueEntry, gone bool) {
	m := s.members[id]
	if gone {
		if m != nil && e.Revision() > m.revision {
			delete(s.members, id)
		}
		return
	}
	if m == nil {
		m = &member{}
		s.members[id] = m
	}
	if e.Revision() <= m.revision {
		return
	}
	var v session
	if json.Unmarshal(e.Value(), &v) != nil {
		return
	}
	if m.revision == 0 || !bytes.Equal(m.ready, v.Ready) {
		defer s.wake()
	}
	m.revision, m.seen, m.told = e.Revision(), time.Now(), false
	m.ttl, m.ready = time.Duration(v.TTL)*time.Millisecond, v.Ready
}

func (s *Share) run(ctx context.Context) {
	log := s.bus.Log.With("share", s.group, "member", s.id)
	members := 0
	for ctx.Err() == nil {
		s.renew(ctx)
		s.doubt(ctx)
		s.settle(ctx)
		if n := s.View().Members; n != members {
			log.Info("share", "members", n)
			members = n
		}
		t := time.NewTimer(s.ttl / 4)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-s.kick:
		}
		t.Stop()
	}
	s.leave(log)
}

func (s *Share) memberKey(id string) string { return s.group + ".member." + id }
func (s *Share) partKey(p int) string       { return s.group + ".part." + strconv.Itoa(p) }

// value is what a key of ours holds.
func (s *Share) value(ready []byte) []byte {
	b, err := json.Marshal(session{Holder: s.id, Role: s.bus.Role, TTL: s.ttl.Milliseconds(), Ready: ready})
	if err != nil { // strings and numbers: cannot happen
		s.bus.Log.Error("share", "err", err)
	}
	return b
}

// renew keeps the session alive.
func (s *Share) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, max(s.ttl/3, minTTL))
	defer cancel()
	s.mu.Lock()
	ready, current := slices.Clone(s.ready), s.current
	s.mu.Unlock()
	sent := time.Now()
	rev, err := s.kv.Update(ctx, s.memberKey(s.id), s.value(ready), current)
	if isWrongSequence(err) { // an earlier one was stored, and its acknowledgement lost
		e, gerr := s.kv.Get(ctx, s.memberKey(s.id))
		switch {
		case gerr == nil:
			rev, err = s.kv.Update(ctx, s.memberKey(s.id), s.value(ready), e.Revision())
		case errors.Is(gerr, jetstream.ErrKeyNotFound):
			rev, err = s.kv.Create(ctx, s.memberKey(s.id), s.value(ready))
		}
	}
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = rev
	s.until = sent.Add(s.ttl * 2 / 3)
}

// doubt asks the server itself about members that seem to have died: it may be our
// watch that has stopped.
func (s *Share) doubt(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, max(s.ttl/3, minTTL))
	defer cancel()
	s.mu.Lock()
	now := time.Now()
	type suspect struct {
		id       string
		revision uint64
		old      bool
	}
	var ask []suspect
	for id, m := range s.members {
		if id != s.id && now.Sub(m.seen) >= max(m.ttl, s.ttl) {
			ask = append(ask, suspect{id, m.revision, now.Sub(m.seen) > 10*max(m.ttl, s.ttl)})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(ask, func(a, b suspect) int { return cmp.Compare(a.id, b.id) })
	for _, a := range ask {
		e, err := s.kv.Get(ctx, s.memberKey(a.id))
		s.mu.Lock()
		m := s.members[a.id]
		switch {
		case m == nil:
		case err == nil && e.Revision() != a.revision:
			s.heard(a.id, e, false)
		case err == nil:
			m.told = true
		case errors.Is(err, jetstream.ErrKeyNotFound):
			delete(s.members, a.id)
		}
		s.mu.Unlock()
		if err == nil && a.old && e.Revision() == a.revision { // whoever comes first tidies up
			if err := s.kv.Delete(ctx, s.memberKey(a.id), jetstream.LastRevision(a.revision)); err != nil {
				s.bus.Log.Debug("session of a member that died not removed", "member", a.id, "err", err)
			}
		}
	}
}

// settle gives up what is to be given up and takes what is free and should be here.
func (s *Share) settle(ctx context.Context) {
	s.mu.Lock()
	now := time.Now()
	alive := s.alive(now)
	owners := Divide(s.group, alive, s.parts)
	dead := func(id string) bool {
		m := s.members[id]
		return m == nil || m.told && now.Sub(m.seen) >= max(m.ttl, s.ttl)
	}
	type act struct {
		part     int
		revision uint64
		drop     bool
	}
	var acts []act
	for p, c := range s.claims {
		ours := c.holder == s.id
		switch {
		case s.drops[p]:
			s.drops[p] = false
			if ours {
				acts = append(acts, act{p, c.revision, true})
			}
		case owners[p] != s.id:
		case ours && c.won != 0 && (c.written.IsZero() || now.Sub(c.written) < claimAge):
		case ours, c.holder == "", dead(c.holder):
			acts = append(acts, act{p, c.revision, false})
		}
	}
	s.mu.Unlock()
	for _, a := range acts {
		one, cancel := context.WithTimeout(ctx, max(s.ttl/3, minTTL))
		if a.drop {
			s.dropped(one, a.part, a.revision)
		} else {
			s.claim(one, a.part, a.revision)
		}
		cancel()
	}
}

// claim takes a part whose key has the given revision.
func (s *Share) claim(ctx context.Context, p int, revision uint64) {
	rev, err := s.kv.Update(ctx, s.partKey(p), s.value(nil), revision)
	if isWrongSequence(err) && revision == 0 {
		rev, err = s.kv.Create(ctx, s.partKey(p), s.value(nil)) // it was given up, or is not known here yet
	}
	if err != nil {
		return // another was faster, or the bus is away: the watch tells
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.claims[p]
	if rev < c.revision {
		return
	}
	if c.holder != s.id || c.won == 0 {
		c.won = rev
	}
	c.holder, c.revision, c.written = s.id, rev, time.Now()
}

func (s *Share) dropped(ctx context.Context, p int, revision uint64) {
	s.mu.Lock()
	s.claims[p].won = 0
	s.mu.Unlock()
	if err := s.kv.Delete(ctx, s.partKey(p), jetstream.LastRevision(revision)); err != nil && ctx.Err() == nil && !isWrongSequence(err) {
		s.bus.Log.Debug("part not given up; tried again", "share", s.group, "part", p, "err", err)
		s.mu.Lock()
		s.drops[p] = true
		s.mu.Unlock()
	}
}

// leave gives up everything, so that the others need not wait.
func (s *Share) leave(log interface{ Warn(string, ...any) }) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	s.mu.Lock()
	claims, current := slices.Clone(s.claims), s.current
	s.until = time.Time{}
	s.mu.Unlock()
	if current == 0 || !s.bus.Tel.NC.IsConnected() {
		return
	}
	if err := s.kv.Delete(ctx, s.memberKey(s.id)); err != nil {
		log.Warn("session not given up; it runs out by itself", "err", err)
		return
	}
	for p, c := range claims {
		if c.holder == s.id {
			s.dropped(ctx, p, c.revision)
		}
	}
}
