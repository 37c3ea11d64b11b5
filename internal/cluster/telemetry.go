package cluster

import (
	"fmt"
	"math"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// demand is what a guest will want: a level, and peaks that come every day.
type demand struct {
	cores, gib float64
	peaks      []peak
}

type peak struct {
	from, steps int // of the day
	cores       float64
}

// at is the demand of a step in cores, in a future in which peaks come out this large.
func (d *demand) at(s schemas.Step, size float64) float64 {
	of := int(s % schemas.StepsPerDay)
	v := d.cores
	for _, p := range d.peaks {
		if of >= p.from && of < p.from+p.steps {
			v += p.cores * size
		}
	}
	return v
}

// drawDemand gives the guests demands under which some hosts will run short.
func (w *world) drawDemand(d dice) {
	rush := d.IntN(schemas.StepsPerDay)
	for _, g := range w.guests {
		g.plan = demand{cores: .3 + d.Float64()*1.2, gib: float64(2 + d.IntN(7))}
		for range 1 + d.IntN(3) {
			from := d.IntN(schemas.StepsPerDay)
			if d.IntN(2) == 0 {
				from = (rush + d.IntN(12)) % schemas.StepsPerDay
			}
			g.plan.peaks = append(g.plan.peaks, peak{from, 6 + d.IntN(30), 1 + d.Float64()*4})
		}
	}
}

// drawPolicy is what the operator wants: auto, the default budgets or tighter ones, a
// pinned VM, a group that must be apart, sometimes approval.
func (w *world) drawPolicy() policy.Policy {
	d := newDice(w.seed, "policy")
	w.drawDemand(newDice(w.seed, "demand"))
	p := policy.Default()
	p.Mode, p.AutoOnlySimulated = schemas.ModeAuto, false
	p.MinBenefit, p.HoldSteps = 100, d.IntN(3)
	p.MaxPerCluster, p.MaxPerHour = 1+d.IntN(5), 2+d.IntN(10)
	p.Pinned = []schemas.VMID{w.guests[0].id}
	p.Apart = [][]schemas.VMID{{w.guests[1].id, w.guests[2].id, w.guests[3].id}}
	if d.IntN(3) != 0 {
		p.Cordoned = []schemas.HostID{w.hosts[d.IntN(len(w.hosts))].id}
	}
	return policy.Complete(p)
}

// told is the policy as deciders are told it: without what a guard that is left out
// would hold.
func (w *world) told() policy.Policy {
	p := w.truth
	for _, off := range w.off {
		switch off {
		case "budget-cluster":
			p.MaxPerCluster = 1000
		case "budget-host":
			p.MaxPerHost = 60
		case "budget-hour":
			p.MaxPerHour = 100000
		case "budget-vm":
			p.MaxPerVMDay = 1000
		case "cool-down":
			p.CoolDownSteps = 0
		case "breaker":
			p.BreakerRow, p.BreakerShare = 1000, 1
		case "pinned":
			p.Pinned = nil
		case "apart":
			p.Apart = nil
		case "cordoned":
			p.Cordoned = nil
		}
	}
	return p
}

// tells reports whether a decider is told an event: not what a guard that is left out
// would heed.
func (w *world) tells(e *streams.Event) bool {
	switch m := e.Msg.(type) {
	case *schemas.Act:
		return !(w.without("placer-paused") && m.Act == schemas.ActPause || w.without("drained") && (m.Act == schemas.ActDrain || m.Act == schemas.ActCordon))
	case *schemas.Outcome:
		if w.without("unknown-holds") && m.Result == schemas.ResultUnknown { // it is taken for an end
			c := *m
			c.Result, c.Reason = schemas.ResultFailed, schemas.Reason{Code: schemas.ReasonAborted}
			e.Msg = &c
		}
	}
	return true
}

// telemetry starts the agents and the forecaster.
func (w *world) telemetry() {
	for _, h := range w.hosts {
		h.agent = &process{w: w, name: "agent " + string(h.id), node: h.index, up: true}
		h.agent.later(w.net.between(0, 30*time.Second), h.report)
	}
	w.prophet = &process{w: w, name: "forecaster", node: w.mix.hosts, up: true}
	w.prophet.later(time.Second, w.foretell)
	w.prophet.later(2*time.Second, w.probe)
}

// report is one flush of a host's agent: what it has and whom it carries.
func (h *host) report() {
	w := h.w
	h.agent.later(30*time.Second, h.report)
	if !h.answers() {
		return
	}
	now := schemas.Time(h.agent.clock())
	m := &schemas.CapacityHost{Host: h.id, Site: h.site, Time: now, URI: "sim:///", Speed: 1, Overcommit: schemas.Overcommit{CPU: 1, Mem: 1}, Simulated: true,
		Capacity: schemas.Amounts{CPU: schemas.MilliCPU(1000 * h.cores), Mem: schemas.Bytes(h.gib * (1 << 30))}}
	if w.without("capacity") {
		m.Capacity.Mem *= 100
	}
	step := schemas.StepAt(now, base)
	for _, g := range w.guests {
		c := g.at(h)
		if c.state == migration.Absent || c.incoming {
			continue
		}
		v := schemas.InventoryVM{VM: g.id, Name: g.name, State: schemas.VMRunning, VCPUs: 8, AllocCPU: 8000, AllocMem: schemas.Bytes(g.plan.gib * (1 << 30)), Resident: schemas.Bytes(g.plan.gib * (1 << 30)),
			Persistent: true, Movable: true, Migrating: c.alien || c.job != nil, DirtyRate: 2e6, DirtyHigh: 4e6, Disks: []schemas.VMDisk{{Target: "vda", Path: "/pool/" + g.name, Shared: !g.local}}}
		switch c.state {
		case migration.Paused:
			v.State = schemas.VMPaused
		case migration.ShutOff:
			v.State = schemas.VMShutOff
		default:
			m.Used.CPU += schemas.MilliCPU(1000 * g.plan.at(step, 1))
		}
		m.VMs = append(m.VMs, v)
	}
	w.send(h.agent, out{Out: streams.Out{Subject: streams.SubjectCapacityHost(h.id), ID: fmt.Sprintf("%s-%d", h.id, now), Msg: m}})
}

// probe measures the link between the sites.
func (w *world) probe() {
	w.prophet.later(2*time.Minute, w.probe)
	now := schemas.Time(w.prophet.clock())
	w.send(w.prophet, out{Out: streams.Out{Subject: streams.SubjectCapacityLink("site-a", "site-b"), ID: fmt.Sprintf("link-%d", now),
		Msg: &schemas.CapacityLink{A: "site-a", B: "site-b", Time: now, RTT: 8, Bandwidth: 1.25e8, Free: 1e8, By: "sim"}}})
}

// foretell publishes the forecasts of a step that has closed: peaks as they will come,
// in futures in which they come out smaller and larger. At times it publishes garbage
// (F11).
func (w *world) foretell() {
	p := w.prophet
	now := p.clock()
	step := schemas.StepAt(schemas.Time(now), base)
	p.later(time.Duration(int64((step+1).Start(base))-now)+w.net.between(20*time.Second, 50*time.Second), w.foretell)
	byPart := [4][]*guest{}
	for _, g := range w.guests {
		byPart[g.id.Partition()] = append(byPart[g.id.Partition()], g)
	}
	for part, gs := range byPart {
		if len(gs) == 0 {
			continue
		}
		m := w.forecast(gs, step-1)
		m.Partition = part
		w.spoil(m)
		w.sendRaw(p, streams.SubjectForecasts(part), fmt.Sprintf("f-%d-%d", part, now), m)
	}
}

func (w *world) forecast(gs []*guest, issued schemas.Step) *schemas.Forecasts {
	const k = schemas.NumScenarios
	m := &schemas.Forecasts{Chunks: 1, Issued: issued, Grid: schemas.Grid{Start: issued + 1}, Base: base, Lease: 1, Model: "sim", K: k}
	for i := range k {
		m.Origins = append(m.Origins, issued-schemas.Step((k-1-i)*schemas.StepsPerDay/2))
	}
	m.Weight = make([]float32, k*schemas.Slots)
	for s := range schemas.Slots {
		p := 0.
		if s < 12 {
			p = .4
		}
		for i := range k - 1 {
			m.Weight[i*schemas.Slots+s] = float32((1 - p) / (k - 1))
		}
		m.Weight[(k-1)*schemas.Slots+s] = float32(p)
	}
	for _, g := range gs {
		m.VM, m.Host = append(m.VM, g.id), append(m.Host, "h0")
		m.AllocCPU, m.AllocMem = append(m.AllocCPU, 8000), append(m.AllocMem, float32(g.plan.gib*(1<<30)))
		mem := float32(g.plan.gib * (1 << 30))
		for i := range k {
			size := .6 + .07*float64(i)
			for s := range schemas.Slots {
				first, n := m.Grid.Slot(s)
				at := first + schemas.Step(n/2)
				if i == k-1 {
					at = issued
				}
				m.D = append(m.D, float32(1000*g.plan.at(at, size)), mem)
			}
		}
		for s := range schemas.Slots {
			first, n := m.Grid.Slot(s)
			at := first + schemas.Step(n/2)
			for l := range schemas.NumLevels {
				m.Q[schemas.CPU] = append(m.Q[schemas.CPU], float32(1000*g.plan.at(at, .5+float64(l)*.07)))
				m.Q[schemas.Memory] = append(m.Q[schemas.Memory], mem)
				m.Q[schemas.Net] = append(m.Q[schemas.Net], 1e6)
				m.Q[schemas.Disk] = append(m.Q[schemas.Disk], 0)
			}
		}
	}
	return m
}

// spoil makes garbage of a forecast: not a number, infinite, absurd, stuck.
func (w *world) spoil(m *schemas.Forecasts) {
	if w.now >= w.garbage {
		return
	}
	w.counts.fault(11)
	i := w.work.IntN(len(m.D))
	switch w.work.IntN(5) {
	case 0:
		m.D[i] = schemas.NaN()
	case 1:
		m.D[i] = float32(math.Inf(1))
	case 2:
		for j := range m.D {
			m.D[j] *= 50
		}
	case 3:
		m.Issued, m.Grid.Start = m.Issued-3, m.Grid.Start-3
	default:
		m.Q[schemas.CPU][w.work.IntN(len(m.Q[schemas.CPU]))] = -1e9
	}
}

// sendRaw publishes without the check that a sender makes: readers must look.
func (w *world) sendRaw(p *process, subject, id string, msg schemas.Message) {
	m := &message{subject: subject, id: id, msg: msg, lease: 1}
	n := 1
	if w.now < w.garbage && w.work.IntN(4) == 0 {
		n = 20 // a flood
	}
	for i := range n {
		c := *m
		if i > 0 {
			c.id = fmt.Sprintf("%s-%d", id, i)
		}
		w.links.toNATS(p.node, func() {
			if w.nats.present() {
				w.nats.streams[streams.Forecasts].put(&c, nil)
			}
		})
	}
}
