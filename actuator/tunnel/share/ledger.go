package share

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Config are the fixed facts of the links of one tunnel role.
type Config struct {
	// Serves says which links are shared out here; nil: all that are measured.
	Serves func(a, b schemas.SiteID) bool
	// Rate is what a link is shaped to; 0: the bandwidth that is measured of it.
	Rate schemas.BytesPerSecond
	// Reserved is the part of a link that is guaranteed to all that is no move;
	// 0 takes a tenth.
	Reserved schemas.Ratio
	// By is the name under which this role reports a link.
	By string
}

// Times of the ledger, in stream time.
const (
	linkAge   = 5 * time.Minute // a link not measured for so long is not known
	lateGrace = time.Minute     // so long after its deadline a silent move is forgotten
	deafGrace = 5 * time.Second // so long after its command's expiry one that never began is
	repeat    = 2 * time.Second // a share-out is said again, so that readers see it is fresh
	maxLinks  = 1024
	maxVMs    = 1 << 18
	maxMoves  = 1024 // of one link; more wait unseen
	smoothing = .5   // weight of the newest dirty rate
)

// Input is one event as the ledger folds it.
type Input struct {
	Seq  uint64
	Time schemas.Time // stream time
	Msg  any
}

// pair is a link: two sites in order.
type pair struct{ a, b schemas.SiteID }

func pairOf(a, b schemas.SiteID) pair {
	if b < a {
		a, b = b, a
	}
	return pair{a, b}
}

type link struct {
	last  schemas.CapacityLink // as measured
	other schemas.BytesPerSecond
	seq   uint64
	out   schemas.Tunnel // as last decided
	said  schemas.Time
}

type vm struct {
	memory schemas.Bytes
	dirty  schemas.BytesPerSecond
}

// move is a command that has not ended.
type move struct {
	cmd   schemas.Command
	seq   uint64
	rate  schemas.BytesPerSecond // in force
	begun bool                   // it was let start, or started by itself
}

// report is the newest progress of a VM's move.
type report struct {
	schemas.Progress
	dirty schemas.BytesPerSecond // smoothed; 0 until measured
}

// Ledger keeps the links, and the moves that cross them, from what the bus tells. It is
// a pure fold: owned by one goroutine, without a clock.
type Ledger struct {
	cfg     Config
	sites   map[schemas.HostID]schemas.SiteID
	vms     map[schemas.VMID]vm
	links   map[pair]*link
	moves   map[schemas.CommandID]*move
	reports map[schemas.VMID]*report
	force   map[pair]*schemas.Tunnel           // what another holder of the lease said last
	ended   map[schemas.CommandID]schemas.Time // outcomes may be read before their commands
	divider Divider
}

// NewLedger makes an empty one.
func NewLedger(cfg Config) *Ledger {
	if cfg.Reserved <= 0 || cfg.Reserved > 1 {
		cfg.Reserved = .1
	}
	return &Ledger{cfg: cfg, sites: map[schemas.HostID]schemas.SiteID{}, vms: map[schemas.VMID]vm{}, links: map[pair]*link{}, moves: map[schemas.CommandID]*move{},
		reports: map[schemas.VMID]*report{}, force: map[pair]*schemas.Tunnel{}, ended: map[schemas.CommandID]schemas.Time{}}
}

// Apply folds one event; the error says what is wrong with it.
func (l *Ledger) Apply(in Input) error {
	switch m := in.Msg.(type) {
	case *schemas.CapacityHost:
		l.host(m)
	case *schemas.CapacityLink:
		return l.measured(in, m)
	case *schemas.Command:
		return l.command(in, m)
	case *schemas.Outcome:
		if m.Result != schemas.ResultUnknown {
			delete(l.moves, m.Command)
			l.ended[m.Command] = in.Time
		}
	case *schemas.Progress:
		l.progress(m)
	case *schemas.Tunnel:
		if key := pairOf(m.A, m.B); len(l.force) < maxLinks || l.force[key] != nil {
			l.force[key] = m
		}
	case *schemas.Effect, *schemas.TunnelPeer, nil:
	default:
		return fmt.Errorf("tunnel: message %T is none of the tunnels'", in.Msg)
	}
	return nil
}

func (l *Ledger) host(m *schemas.CapacityHost) {
	l.sites[m.Host] = m.Site
	if len(l.vms) > maxVMs {
		clear(l.vms) // every host tells of its own again within seconds
	}
	for i := range m.VMs {
		v := &m.VMs[i]
		mem := v.Resident
		if mem <= 0 {
			mem = v.AllocMem
		}
		if v.State == schemas.VMRunning {
			l.vms[v.VM] = vm{mem, max(v.DirtyRate, v.DirtyHigh)}
		}
	}
}

func (l *Ledger) measured(in Input, m *schemas.CapacityLink) error {
	if m.A == m.B {
		return fmt.Errorf("link %s-%s: want two different sites", m.A, m.B)
	}
	key := pairOf(m.A, m.B)
	if m.Shared && l.links[key] != nil {
		return nil // a tunnel role's own word comes back
	}
	if l.cfg.Serves != nil && !l.cfg.Serves(key.a, key.b) {
		return nil
	}
	k := l.links[key]
	if k == nil {
		if len(l.links) >= maxLinks {
			return fmt.Errorf("link %s-%s: %d links are kept already", m.A, m.B, maxLinks)
		}
		k = &link{}
		l.links[key] = k
	} else if in.Seq <= k.seq {
		return nil
	}
	k.last, k.seq = *m, in.Seq
	k.last.Time = in.Time
	k.other = l.otherOf(k, l.crossing(key))
	return nil
}

// byTunnel begins the name of a tunnel role that measures its own link: it knows its
// moves' traffic apart.
const byTunnel = "tunnel:"

// ByTunnel is the name under which a site's tunnel role measures.
func ByTunnel(site schemas.SiteID) string { return byTunnel + string(site) }

func (l *Ledger) command(in Input, m *schemas.Command) error {
	if m.Run != "" {
		return fmt.Errorf("command %s: of run %q, not live", m.ID, m.Run)
	}
	if _, over := l.ended[m.ID]; over || l.moves[m.ID] != nil {
		return nil
	}
	l.moves[m.ID] = &move{cmd: *m, seq: in.Seq}
	return nil
}

func (l *Ledger) progress(m *schemas.Progress) {
	r := l.reports[m.VM]
	if r == nil || r.Command != m.Command {
		if len(l.reports) > maxVMs {
			clear(l.reports)
		}
		r = &report{}
		l.reports[m.VM] = r
	}
	if r.Progress = *m; m.DirtyRate > 0 {
		if r.dirty == 0 {
			r.dirty = m.DirtyRate
		}
		r.dirty += smoothing * (m.DirtyRate - r.dirty)
	}
}

// reportOf is what is known of a move under way.
func (l *Ledger) reportOf(m *move) *report {
	if r := l.reports[m.cmd.VM]; r != nil && r.Command == m.cmd.ID {
		return r
	}
	return &report{Progress: schemas.Progress{Phase: schemas.PhaseAccepted}}
}

// inForce takes over the rates that another holder of the lease has set.
func (l *Ledger) inForce(key pair, k *link) {
	t := l.force[key]
	if t == nil || t.Time <= k.out.Time {
		return
	}
	for i := range t.Shares {
		s := &t.Shares[i]
		if mv := l.moves[s.Command]; mv != nil && !s.Waits {
			mv.rate, mv.begun = s.Rate, true
		}
	}
}

// otherOf is what all but the moves take of the link. It is left as it is while it
// changes little.
func (l *Ledger) otherOf(k *link, on []*move) schemas.BytesPerSecond {
	other := k.last.Bandwidth - k.last.Free
	if !k.last.Shared && !strings.HasPrefix(k.last.By, byTunnel) {
		// An agent counts all that passes: what the moves send is not other traffic.
		for _, m := range on {
			other -= l.reportOf(m).Speed
		}
	}
	if other = max(0, other); other == 0 || math.Abs(float64(other-k.other)) > Band*float64(k.last.Bandwidth) {
		return other
	}
	return k.other
}

func (l *Ledger) linkOf(m *move) pair {
	a, okA := l.sites[m.cmd.Source]
	b, okB := l.sites[m.cmd.Destination]
	if !okA || !okB || a == b {
		return pair{}
	}
	return pairOf(a, b)
}

// sent reports that the move no longer needs the link.
func sent(p schemas.Phase) bool {
	switch p {
	case schemas.PhaseHandOver, schemas.PhaseFinish, schemas.PhaseResume, schemas.PhaseConfirm, schemas.PhaseRollback, schemas.PhaseDone, schemas.PhaseUnknown:
		return true
	}
	return false
}

// Verdict is what one tick decides of one link.
type Verdict struct {
	Tunnel *schemas.Tunnel
	Link   *schemas.CapacityLink
}

// Decide shares out every link at a moment, and gives what is new or due to be said
// again.
func (l *Ledger) Decide(now schemas.Time) []Verdict {
	l.forget(now)
	keys := make([]pair, 0, len(l.links))
	for k := range l.links {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y pair) int { return strings.Compare(string(x.a)+"="+string(x.b), string(y.a)+"="+string(y.b)) })
	var out []Verdict
	for _, key := range keys {
		if v := l.decide(now, key, l.links[key]); v.Tunnel != nil {
			out = append(out, v)
		}
	}
	return out
}

func (l *Ledger) forget(now schemas.Time) {
	for id, m := range l.moves {
		// One that no host has spoken of cannot begin any more once its command has expired:
		// its host is gone, and must not hold a place on the link.
		deaf := l.reportOf(m).Command != id && now > m.cmd.Expires.Add(deafGrace)
		if deaf || now > max(m.cmd.Deadline, m.cmd.Expires).Add(lateGrace) {
			delete(l.moves, id)
		}
	}
	for id, at := range l.ended {
		if now.Sub(at) > lateGrace+schemas.CommandLife {
			delete(l.ended, id)
		}
	}
	for k, v := range l.links {
		if now.Sub(v.last.Time) > linkAge {
			delete(l.links, k)
			delete(l.force, k)
		}
	}
}

func (l *Ledger) decide(now schemas.Time, key pair, k *link) Verdict {
	rate := k.last.Bandwidth
	if l.cfg.Rate > 0 {
		if rate = l.cfg.Rate; strings.HasPrefix(k.last.By, byTunnel) && k.last.Bandwidth > 0 {
			rate = min(rate, k.last.Bandwidth) // the way is narrower than it was said to be
		}
	}
	reserved := rate * schemas.BytesPerSecond(l.cfg.Reserved)
	l.inForce(key, k)
	on := l.crossing(key)
	moves := make([]Move, len(on))
	for i, m := range on {
		moves[i] = l.moveOf(m)
	}
	dst := make([]Share, len(moves))
	ln := Link{Rate: rate, Reserved: reserved, Other: k.other}
	left := l.divider.Divide(now, ln, moves, dst)
	t := schemas.Tunnel{A: key.a, B: key.b, Time: now, Rate: rate, Reserved: reserved, Other: k.other, Left: left, Shares: make([]schemas.Share, 0, len(on))}
	for i, m := range on {
		s := dst[i]
		if k.last.Loss >= 1 && !m.begun {
			s.Waits, s.Rate, s.Why = true, 0, schemas.ReasonLinkDown
		}
		if !s.Waits {
			m.rate, m.begun = s.Rate, true
		}
		t.Shares = append(t.Shares, schemas.Share{Command: m.cmd.ID, VM: m.cmd.VM, Rate: s.Rate, Floor: s.Floor, Need: s.Need, Source: m.cmd.Source, Destination: m.cmd.Destination, Waits: s.Waits, Reason: reasonOf(s, ln), Ports: l.reportOf(m).Ports})
	}
	if k.last.Loss >= 1 {
		t.Left = 0
	}
	if !differs(&t, &k.out) && now.Sub(k.said) < repeat {
		return Verdict{}
	}
	k.out, k.said = t, now
	c := k.last
	c.Time, c.Shared, c.Left, c.Moves, c.By = now, true, t.Left, len(on), l.cfg.By
	c.Bandwidth, c.Free, c.Reserved, c.Shares = rate, max(0, rate-k.other), reserved, t.Shares
	return Verdict{&t, &c}
}

// crossing are the link's moves, in the order of their commands.
func (l *Ledger) crossing(key pair) []*move {
	var on []*move
	for _, m := range l.moves {
		if l.linkOf(m) == key && !sent(l.reportOf(m).Phase) {
			on = append(on, m)
		}
	}
	slices.SortFunc(on, func(x, y *move) int {
		if x.seq != y.seq {
			return int(int64(x.seq) - int64(y.seq))
		}
		return strings.Compare(string(x.cmd.ID), string(y.cmd.ID))
	})
	if len(on) > maxMoves {
		on = on[:maxMoves]
	}
	return on
}

// moveOf is a move as far as it is known: its own reports, else what its host tells of
// the VM, else what the placer expected.
func (l *Ledger) moveOf(m *move) Move {
	v, r := l.vms[m.cmd.VM], l.reportOf(m)
	switch r.Phase {
	case schemas.PhaseDisk, schemas.PhasePreCopy, schemas.PhaseSwitchover:
		m.begun = true
	}
	out := Move{Remaining: r.Remaining, Dirty: r.dirty, Deadline: m.cmd.Deadline, Expires: m.cmd.Expires, Running: m.begun, Rate: m.rate}
	if r.Total == 0 {
		if out.Remaining = v.memory; out.Remaining <= 0 {
			out.Remaining = m.cmd.Predicted.Volume
		}
	}
	if r.dirty == 0 {
		out.Dirty = v.dirty
	}
	return out
}

// reasonOf says in words why a move waits or has too little.
func reasonOf(s Share, l Link) schemas.Reason {
	r := schemas.Reason{Code: s.Why}
	switch s.Why {
	case schemas.ReasonCannotConverge:
		r.Detail = fmt.Sprintf("needs %.1f MB/s to converge (its guest writes %.1f); moves may have %.1f of the link's %.1f together",
			float64(s.Floor)/1e6, float64(s.Floor)/Margin/1e6, float64(l.Left())/1e6, float64(l.Rate)/1e6)
	case schemas.ReasonTurn:
		r.Detail = "others cross the link; it starts when they have gone, or when its deadline asks for it"
	case schemas.ReasonLinkDown:
		r.Detail = "the other site does not answer"
	}
	return r
}

// differs reports a change that somebody has to act on.
func differs(a, b *schemas.Tunnel) bool {
	if a.Rate != b.Rate || a.Reserved != b.Reserved || a.Other != b.Other || len(a.Shares) != len(b.Shares) {
		return true
	}
	for i := range a.Shares {
		x, y := &a.Shares[i], &b.Shares[i]
		if x.Command != y.Command || x.Rate != y.Rate || x.Waits != y.Waits || x.Reason.Code != y.Reason.Code || !slices.Equal(x.Ports, y.Ports) {
			return true
		}
	}
	return false
}
