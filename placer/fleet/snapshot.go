package fleet

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"sort"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
)

// snapshotVersion is the first byte of a snapshot; another is refused.
const snapshotVersion = 4

// entry is one pair of a map, so that a snapshot has one order.
type entry[K, V any] struct {
	Key   K
	Value V
}

func entries[K comparable, V any](m map[K]V, less func(a, b K) bool) []entry[K, V] {
	out := make([]entry[K, V], 0, len(m))
	for k, v := range m {
		out = append(out, entry[K, V]{k, v})
	}
	sort.Slice(out, func(i, j int) bool { return less(out[i].Key, out[j].Key) })
	return out
}

func fromEntries[K comparable, V any](in []entry[K, V]) map[K]V {
	m := make(map[K]V, len(in))
	for _, e := range in {
		m[e.Key] = e.Value
	}
	return m
}

func byText[S ~string](a, b S) bool   { return a < b }
func byVM(a, b schemas.VMID) bool     { return string(a[:]) < string(b[:]) }
func byLink(a, b policy.Link) bool    { return a.A < b.A || a.A == b.A && a.B < b.B }
func byNumber[N ~uint64](a, b N) bool { return a < b }
func hostsOf[V any](m map[schemas.HostID]V) []entry[schemas.HostID, V] {
	return entries(m, byText[schemas.HostID])
}

type hostSnapshot struct {
	Msg   schemas.CapacityHost
	Seq   uint64
	At    schemas.Time
	Prev  schemas.Time
	Since []entry[schemas.VMID, schemas.Time]

	CPUSince schemas.Time
}

type snapshot struct {
	Hosts     []entry[schemas.HostID, hostSnapshot]
	HostClock schemas.Time
	Links     []entry[policy.Link, linkState]
	Forecasts []entry[schemas.VMID, forecastRow]
	Issued    schemas.Step
	OwnLimit  []entry[schemas.VMID, ownLimitState]
	Moves     []entry[schemas.CommandID, Move]
	Record    []entry[schemas.VMID, uint64]
	Dirty     []entry[schemas.VMID, dirtyState]
	Costs     learning.Costs
	Ends      learning.Ends
	Unfit     []entry[cpuKey, cpuRefusal]

	Acts      actState
	HostModes []entry[schemas.HostID, modeAct]
	VMModes   []entry[schemas.VMID, modeAct]
	Cordon    []entry[schemas.HostID, bool]
	Drain     []entry[schemas.HostID, schemas.Time]
	ActPast   []entry[uint64, schemas.Policy]

	Policy     *schemas.Policy
	PolicyAt   schemas.Time
	PolicySeq  uint64
	PolicyPast []entry[uint64, schemas.Policy]

	Memory Memory
	Held   []entry[schemas.HostID, Held]
	Skip   []entry[schemas.VMID, schemas.Time]

	Plans     planState
	PlanItems []entry[schemas.PlanID, []schemas.CommandID]
}

// AppendSnapshot appends the whole state to b.
func (f *Fleet) AppendSnapshot(b []byte) ([]byte, error) {
	s := snapshot{HostClock: f.hostClock, Links: entries(f.links, byLink), Issued: f.issued,
		OwnLimit: entries(f.ownLimit, byVM), Record: entries(f.record, byVM), Dirty: entries(f.dirty, byVM), Costs: f.costs, Ends: f.ends, Unfit: entries(f.unfit, byCPU),
		Acts: f.acts, HostModes: hostsOf(f.acts.HostMode), VMModes: entries(f.acts.VMMode, byVM), Cordon: hostsOf(f.acts.Cordon), Drain: hostsOf(f.acts.Drain), ActPast: entries(f.acts.Versions, byNumber[uint64]),
		Policy: f.kv.Now, PolicyAt: f.kv.At, PolicySeq: f.kv.Seq, PolicyPast: entries(f.kv.Versions, byNumber[uint64]),
		Memory: f.Memory, Held: hostsOf(f.Memory.Held), Skip: entries(f.Memory.Skip, byVM),
		Plans: f.plans, PlanItems: entries(f.plans.Actions, byText[schemas.PlanID])}
	s.Acts.HostMode, s.Acts.VMMode, s.Acts.Cordon, s.Acts.Drain, s.Acts.Versions = nil, nil, nil, nil, nil
	s.Memory.Held, s.Memory.Skip, s.Plans.Actions = nil, nil, nil
	for _, e := range hostsOf(f.hosts) {
		h := e.Value
		s.Hosts = append(s.Hosts, entry[schemas.HostID, hostSnapshot]{e.Key, hostSnapshot{*h.Msg, h.Seq, h.At, h.Prev, entries(h.Since, byVM), h.CPUSince}})
	}
	for _, e := range entries(f.forecasts, byVM) {
		s.Forecasts = append(s.Forecasts, entry[schemas.VMID, forecastRow]{e.Key, *e.Value})
	}
	for _, e := range entries(f.moves, byText[schemas.CommandID]) {
		s.Moves = append(s.Moves, entry[schemas.CommandID, Move]{e.Key, *e.Value})
	}
	buf := bytes.NewBuffer(append(b, snapshotVersion))
	if err := gob.NewEncoder(buf).Encode(&s); err != nil {
		return b, fmt.Errorf("fleet snapshot: %w", err)
	}
	return buf.Bytes(), nil
}

// Restore takes back what AppendSnapshot gave; the fleet is unchanged on error.
func (f *Fleet) Restore(b []byte) error {
	if len(b) == 0 || b[0] != snapshotVersion {
		return fmt.Errorf("fleet snapshot: not of version %d", snapshotVersion)
	}
	var s snapshot
	if err := gob.NewDecoder(bytes.NewReader(b[1:])).Decode(&s); err != nil {
		return fmt.Errorf("fleet snapshot: %w", err)
	}
	n := New(f.cfg)
	n.hostClock, n.issued = s.HostClock, s.Issued
	n.links, n.ownLimit, n.record, n.dirty = fromEntries(s.Links), fromEntries(s.OwnLimit), fromEntries(s.Record), fromEntries(s.Dirty)
	for i := range s.Hosts {
		h := &s.Hosts[i].Value
		n.hosts[s.Hosts[i].Key] = &hostState{&h.Msg, h.Seq, h.At, h.Prev, fromEntries(h.Since), modelSet(h.Msg.CPUModels), h.CPUSince}
	}
	for i := range s.Forecasts {
		n.forecasts[s.Forecasts[i].Key] = &s.Forecasts[i].Value
	}
	for i := range s.Moves {
		n.moves[s.Moves[i].Key] = &s.Moves[i].Value
	}
	n.costs, n.ends, n.unfit = s.Costs, s.Ends, fromEntries(s.Unfit)
	n.acts = s.Acts
	n.acts.HostMode, n.acts.VMMode, n.acts.Cordon = fromEntries(s.HostModes), fromEntries(s.VMModes), fromEntries(s.Cordon)
	n.acts.Drain, n.acts.Versions = fromEntries(s.Drain), fromEntries(s.ActPast)
	n.kv = policyState{s.Policy, s.PolicyAt, s.PolicySeq, fromEntries(s.PolicyPast)}
	n.Memory = s.Memory
	n.Memory.Held, n.Memory.Skip = fromEntries(s.Held), fromEntries(s.Skip)
	n.plans = s.Plans
	n.plans.Actions = fromEntries(s.PlanItems)
	*f = *n
	return nil
}
