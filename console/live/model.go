// Package live keeps the fleet as it stands, for everybody who looks at it: a fold of
// the streams an operator may read, never read anew for a page.
//
// What comes in: events of the bus ([Model.Apply]), in the order of each stream, and
// the clock ([Model.Tick]). What goes out: values for pages, and a word when something
// has changed ([Model.Changed]).
//
// What is promised:
//
//   - Memory is bounded by the number of hosts and VMs, not by how long it runs: a day
//     of closed steps and one forecast a VM, as 16-bit numbers; the newest moves, plans
//     and acts; the newest plan whole. VMs and hosts that are gone are forgotten.
//   - What a host will be asked for is the sum of its VMs' joint scenarios, as the
//     placer reckons it, so that bursts that come together stay together.
//   - What is absent or old is told as such ([Feed], [console.Host.Stale]), never as
//     zero.
//   - Values given out are copies or never changed again: a page is drawn without a lock.
package live

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// Bounds of what is kept.
const (
	maxMoves  = 1000 // the newest; those under way are kept besides
	maxPlans  = 60
	maxSaid   = 200
	maxModels = 200
	maxPolicy = 64
	past      = schemas.StepsPerDay // closed steps kept of a VM and of a host
)

// forgetAfter is how long a VM or host nobody speaks of is kept.
const forgetAfter = 30 * time.Minute

// Model is the fold. Its methods may be called from anywhere.
type Model struct {
	mu      sync.RWMutex
	base    time.Duration
	version uint64
	changed chan struct{} // closed at the next change

	hosts      map[schemas.HostID]*host
	vms        map[schemas.VMID]*vm
	links      map[policy.Link]*schemas.CapacityLink
	shortfalls map[schemas.SiteID]*schemas.Shortfall
	moves      map[schemas.CommandID]*console.Move
	order      []*console.Move // by epoch
	progress   map[schemas.CommandID]*schemas.Progress
	plan       *schemas.Plan // the newest, whole
	plans      []PlanLine    // newest last
	words      *fleet.Fleet  // what operators said and the policy, folded as the placer does
	said       []schemas.Act // newest last, without heartbeats
	policies   []PolicyLine  // newest last
	heartbeat  schemas.Time
	calendar   map[string]*schemas.Calendar
	models     []schemas.Model
	learnt     learnt
	names      map[schemas.HostID]schemas.HostID // one copy of each host's name
	codes      map[schemas.ReasonCode]schemas.ReasonCode
	labels     map[string]map[string]string // one copy of each set of labels
	feeds      map[string]*Feed
}

// New makes an empty model of a fleet whose base step is base.
func New(base time.Duration) *Model {
	return &Model{
		base: base, changed: make(chan struct{}),
		hosts: map[schemas.HostID]*host{}, vms: map[schemas.VMID]*vm{},
		links:      map[policy.Link]*schemas.CapacityLink{},
		shortfalls: map[schemas.SiteID]*schemas.Shortfall{}, moves: map[schemas.CommandID]*console.Move{}, progress: map[schemas.CommandID]*schemas.Progress{},
		words: fleet.New(fleet.Config{Base: base}), calendar: map[string]*schemas.Calendar{}, names: map[schemas.HostID]schemas.HostID{},
		feeds: map[string]*Feed{}, codes: map[schemas.ReasonCode]schemas.ReasonCode{}, labels: map[string]map[string]string{},
	}
}

// Changed gives the version of the model and a channel that is closed when there is
// a newer one.
func (m *Model) Changed() (uint64, <-chan struct{}) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.version, m.changed
}

// bump tells everybody; the lock is held.
func (m *Model) bump() {
	m.version++
	close(m.changed)
	m.changed = make(chan struct{})
}

// Base is the length of the base step.
func (m *Model) Base() time.Duration {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.base
}

// intern keeps one copy of a host's name: every message brings its own.
func (m *Model) intern(h schemas.HostID) schemas.HostID {
	if s, ok := m.names[h]; ok {
		return s
	}
	m.names[h] = h
	return h
}

// maxLabels bounds the sets of labels that are shared.
const maxLabels = 4096

// internLabels keeps one copy of each set of labels; most VMs share theirs.
func (m *Model) internLabels(l map[string]string) map[string]string {
	if len(l) == 0 {
		return nil
	}
	var key strings.Builder
	for _, k := range slices.Sorted(maps.Keys(l)) {
		key.WriteString(k + "\x00" + l[k] + "\x00")
	}
	if known, ok := m.labels[key.String()]; ok {
		return known
	}
	if len(m.labels) >= maxLabels {
		clear(m.labels)
	}
	m.labels[key.String()] = l
	return l
}

// host is one host with what it was and will be asked for.
type host struct {
	console.Host
	report  schemas.CapacityHost // without the VMs
	vms     []schemas.VMID       // as it last listed them
	actual  track
	sum     sum
	touched schemas.Time
}

// vm is one VM. The maps of its messages are dropped: there are tens of thousands.
type vm struct {
	id         schemas.VMID
	name       string
	host       schemas.HostID   // where it was seen last
	running    []schemas.HostID // where a copy runs
	state      schemas.VMState
	vcpus      int
	allocCPU   schemas.MilliCPU
	allocMem   schemas.Bytes
	resident   schemas.Bytes
	dirty      schemas.BytesPerSecond
	dirtyHigh  schemas.BytesPerSecond
	pinned     string // why it cannot move live, empty when it can
	labels     map[string]string
	seen       schemas.Time // when a host last listed it; 0: never
	touched    schemas.Time
	own        *pressure
	contention *pressure
	benefit    *schemas.Benefit
	actual     track
	fan        fan
}

func (m *Model) hostOf(id schemas.HostID) *host {
	h := m.hosts[id]
	if h == nil {
		id = m.intern(id)
		h = &host{Host: console.Host{ID: id}}
		m.hosts[id] = h
	}
	return h
}

func (m *Model) vmOf(id schemas.VMID) *vm {
	x := m.vms[id]
	if x == nil {
		x = &vm{id: id, name: id.String()}
		m.vms[id] = x
	}
	return x
}

// Tick tells the time: sums that wait for nothing more are closed, what nobody speaks
// of any longer is forgotten, and everybody is told when something became stale.
func (m *Model) Tick(now schemas.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	news := false
	for id, h := range m.hosts {
		if h.sum.open && now.Sub(h.sum.at) > time.Second {
			h.sum.close()
			news = true
		}
		if stale := console.StaleHost(h.Seen, now); h.Seen != 0 && stale != h.Stale {
			h.Stale, news = stale, true
		}
		if now.Sub(max(h.touched, h.Seen)) > 24*time.Hour && h.touched != 0 {
			delete(m.hosts, id)
			delete(m.names, id)
			news = true
		}
	}
	for id, x := range m.vms {
		if len(x.running) == 0 && !m.listed(x) && now.Sub(x.touched) > forgetAfter {
			delete(m.vms, id)
			news = true
		}
	}
	if news {
		m.bump()
	}
}

// listed says whether the host where the VM was seen last still lists it.
func (m *Model) listed(x *vm) bool {
	h := m.hosts[x.host]
	return h != nil && x.seen != 0 && x.seen >= h.Seen
}
