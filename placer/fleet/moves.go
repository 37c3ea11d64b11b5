package fleet

import (
	"fmt"
	"sort"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// Move is one commanded move and what became of it.
type Move struct {
	Command   schemas.Command
	Epoch     uint64       // sequence of the command; 0 = decided here, not yet seen on the bus
	At        schemas.Time // stream time of the command
	Outcome   schemas.Result
	Reason    schemas.ReasonCode
	RunsAt    schemas.HostID
	OutcomeAt schemas.Time
	OutSeq    uint64
}

// final reports whether the move has an end that everybody knows.
func (m *Move) final() bool { return m.Outcome != "" && m.Outcome != schemas.ResultUnknown }

func (f *Fleet) touchRecord(v schemas.VMID, seq uint64) {
	if seq > f.record[v] {
		f.record[v] = seq
	}
	if len(f.record) > maxRecords {
		// The oldest record goes: a command on it would at worst lose its race.
		var oldest schemas.VMID
		low := seq + 1
		for id, s := range f.record {
			if s < low {
				oldest, low = id, s
			}
		}
		delete(f.record, oldest)
	}
}

func (f *Fleet) applyCommand(in Input, m *schemas.Command) error {
	if m.Run != "" {
		return fmt.Errorf("command %s: of run %q, not live", m.ID, m.Run)
	}
	f.touchRecord(m.VM, in.Seq)
	mv := f.moves[m.ID]
	switch {
	case mv == nil:
		f.moves[m.ID] = &Move{Command: *m, Epoch: in.Seq, At: in.Time}
	case mv.Epoch == 0 || mv.At == 0:
		mv.Command, mv.Epoch, mv.At = *m, in.Seq, in.Time
	}
	f.pruneMoves(in.Time)
	return nil
}

func (f *Fleet) applyOutcome(in Input, m *schemas.Outcome) error {
	f.touchRecord(m.VM, in.Seq)
	mv := f.moves[m.Command]
	if mv == nil && m.Result == schemas.ResultRefused {
		return nil // of a command that nobody here believes, or that is long past: it never began
	}
	if mv != nil && m.Result == schemas.ResultRefused && m.Host != "" && mv.Command.Source != "" && m.Host != mv.Command.Source {
		return nil // another host was given the command too, and refused it: its source says how it ends
	}
	if mv == nil {
		// Its command is older than what was read: budgets still want to know.
		mv = &Move{Command: schemas.Command{ID: m.Command, VM: m.VM, Source: m.Source, Destination: m.Destination, Issued: m.Started, Deadline: m.Time}, Epoch: m.Epoch, At: in.Time}
		f.moves[m.Command] = mv
	}
	if in.Seq <= mv.OutSeq {
		return nil
	}
	// A known end is not taken back by a later "unknown", nor by a refusal of the
	// same command delivered twice.
	if mv.final() && (m.Result == schemas.ResultUnknown || m.Result == schemas.ResultRefused) {
		return nil
	}
	f.noteCPU(in.Time, &mv.Command, m)
	if !mv.final() && m.Reason.Code != schemas.ReasonCPUModel { // which says nothing of what moves take
		f.costs.Learn(m)
	}
	f.ends.Outcome(m, in.Time)
	mv.Outcome, mv.Reason, mv.RunsAt, mv.OutcomeAt, mv.OutSeq = m.Result, m.Reason.Code, m.RunsAt, in.Time, in.Seq
	f.pruneMoves(in.Time)
	return nil
}

// Sent notes a command that was just decided, so that its places are taken before
// it comes back on the bus. It lapses when the command expires unseen.
func (f *Fleet) Sent(c schemas.Command) {
	if f.moves[c.ID] == nil {
		f.moves[c.ID] = &Move{Command: c}
	}
}

// pruneMoves forgets moves that no limit looks back to: ended more than a day
// (of 288 steps, at least an hour) ago, save the last ten.
func (f *Fleet) pruneMoves(now schemas.Time) {
	keep := max(time.Hour, schemas.StepsPerDay*f.cfg.Base)
	var old []*Move
	for _, m := range f.moves {
		if m.final() && now.Sub(m.OutcomeAt) > keep {
			old = append(old, m)
		}
	}
	if len(old) <= 10 {
		return
	}
	sort.Slice(old, func(i, j int) bool {
		if old[i].OutcomeAt != old[j].OutcomeAt {
			return old[i].OutcomeAt < old[j].OutcomeAt
		}
		return old[i].Command.ID < old[j].Command.ID
	})
	for _, m := range old[:len(old)-10] {
		delete(f.moves, m.Command.ID)
	}
}

// sortedMoves are all moves in the order of their commands.
func (f *Fleet) sortedMoves() []*Move {
	out := make([]*Move, 0, len(f.moves))
	for _, m := range f.moves {
		out = append(out, m)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if (a.Epoch == 0) != (b.Epoch == 0) {
			return b.Epoch == 0
		}
		if a.Epoch != b.Epoch {
			return a.Epoch < b.Epoch
		}
		return a.Command.ID < b.Command.ID
	})
	return out
}

// lateGrace is how long after its deadline a silent move counts as unknown.
const lateGrace = time.Minute

// lapsed reports whether a command decided here never reached the bus.
func (m *Move) lapsed(now schemas.Time) bool { return m.Epoch == 0 && now > m.Command.Expires }

// unknown reports whether nobody knows how the move ended.
func (m *Move) unknown(now schemas.Time, a *actState) bool {
	if m.final() || m.Epoch == 0 || a.resolved(m) != nil {
		return false
	}
	return m.Outcome == schemas.ResultUnknown || now > max(m.Command.Deadline, m.Command.Expires).Add(lateGrace)
}

// attempts is the history for the budgets, in order.
func (f *Fleet) attempts(now schemas.Time) []policy.Attempt {
	moves := f.sortedMoves()
	out := make([]policy.Attempt, 0, len(moves))
	for _, m := range moves {
		if m.lapsed(now) {
			continue
		}
		a := policy.Attempt{Command: m.Command.ID, VM: m.Command.VM, Source: m.Command.Source, Destination: m.Command.Destination,
			Link: policy.LinkOf(f.siteOf(m.Command.Source), f.siteOf(m.Command.Destination)), At: m.At, Result: m.Outcome, Reason: m.Reason}
		if a.At == 0 {
			a.At = m.Command.Issued
		}
		if m.final() {
			a.Ended = m.OutcomeAt
		} else if r := f.acts.resolved(m); r != nil {
			a.Ended, a.Result = r.At, schemas.ResultUnknown
		}
		out = append(out, a)
	}
	return out
}

func (f *Fleet) siteOf(h schemas.HostID) schemas.SiteID {
	if s := f.hosts[h]; s != nil {
		return s.Msg.Site
	}
	return ""
}
