package plan

import (
	"math"
	"time"

	"github.com/foreshift/foreshift/placer/fleet"
	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
)

// What a move is taken to cost beyond what is measured of it.
const (
	setup      = 1.0     // s, to prepare, define and hand over
	resume     = .1      // s of downtime besides the last round
	switchover = .3      // s that the last round of pre-copy may take
	maxRounds  = 30      // of pre-copy
	converges  = .8      // dirty rate / bandwidth from which pre-copy is not begun
	shared     = .5      // dirty rates / bandwidth up to which moves may share a link
	brownOut   = .1      // share of its demand that a guest loses while it is copied
	feePerGiB  = 5.0     // core-seconds a GiB sent, at a base step of 5 min
	dirtyCore  = 4 << 20 // bytes/s that one busy core is taken to dirty when nobody measured it
	trips      = 12      // round trips of a move besides its stream: handshakes, requests, rounds
	stillTrips = 4       // of them while the guest stands still
	leastShare = .1      // of a host's network that a move gets even when VMs want all of it
)

// Transfer is what pre-copy of one VM over one link is expected to take.
type Transfer struct {
	Duration  time.Duration
	Downtime  time.Duration
	Volume    schemas.Bytes
	Rounds    int
	Lambda    float64 // dirty rate over bandwidth
	Failing   float64 // chance that it fails
	Converges bool
}

// PreCopy expects the pre-copy of memory bytes, dirtied at dirty bytes/s, over
// bandwidth bytes/s. With lambda = dirty/bandwidth and n rounds after the first it
// sends V(1-lambda^(n+1))/(1-lambda) and leaves V*lambda^n for the switchover; n
// is the least for which that rest takes 0.3 s.
func PreCopy(memory schemas.Bytes, dirty, bandwidth schemas.BytesPerSecond) Transfer {
	if bandwidth <= 0 {
		return Transfer{}
	}
	v, b := max(float64(memory), 1), float64(bandwidth)
	l := max(0, float64(dirty)) / b
	t := Transfer{Lambda: l}
	if l >= converges {
		return t
	}
	t.Converges = true
	rest := v
	for rest > switchover*b && t.Rounds < maxRounds {
		rest *= l
		t.Rounds++
	}
	volume := v * (1 - math.Pow(l, float64(t.Rounds+1))) / (1 - l)
	t.Volume = schemas.Bytes(volume)
	t.Duration = time.Duration((setup + volume/b) * float64(time.Second))
	t.Downtime = time.Duration((resume + rest/b) * float64(time.Second))
	t.Failing = .01 + .2*l*l
	return t
}

// way is how a VM would travel from where it is to a site: when, for how long, and at
// what price. All hosts of a site are equally far.
type way struct {
	timing
	why   schemas.ReasonCode
	known bool
	bps   schemas.BytesPerSecond
	to    schemas.SiteID
	rtt   time.Duration // round trip to the site
	price price
	stamp uint32  // of the source, when leaving was worked out
	gone  float64 // change of the source's cost when the VM leaves it, below 0 is better
}

// price is what a move itself costs, in weighted core-seconds.
type price struct{ sending, downtime, brownOut float64 }

func (p price) sum() float64 { return p.sending + p.downtime + p.brownOut }

// early is how many base steps before the latest start a move is due: one hour of
// 5-minute steps. A forecast of a steep rise tends to see the onset come nearer
// more slowly than time passes, and a move that waits for the last moment is late.
const early = 12

// cheaper is how much less than at the usual time a start must cost to be preferred:
// forecasts change, and what need not be decided yet should not be.
const cheaper = .8

// travel sets the time of VM i's move to a site. It must end a margin before the
// onset (Latest). Usually it starts an hour of steps before that, or twice its own
// duration: early enough for one more try, and not hours ahead on a forecast that may
// change. It starts sooner, in the slot in which the guest is quietest and its host
// has most of its network free, where that is cheaper by a fifth. Never later.
func (s *State) travel(i int, site int32) way {
	m := &s.V.VMs[i]
	a := m.Host
	bps, ok := s.V.Bandwidth(s.V.Hosts[a].Site, site)
	w := way{known: true, to: s.V.Sites[site], why: schemas.ReasonOK, stamp: s.sums.stamp[a] - 1}
	if !ok {
		w.why = schemas.ReasonStale
		return w
	}
	if l := s.linkIndex(s.V.Hosts[a].Site, site); l >= 0 {
		bps /= schemas.BytesPerSecond(1 + s.V.Uncounted(s.V.Hosts[a].Site, site, s.limits.flying[l]))
	}
	w.bps = bps
	rtt, _ := s.V.RTT(s.V.Hosts[a].Site, site)
	w.rtt = time.Duration(float64(rtt) * float64(time.Millisecond))
	w.cheapest(s, i, 0, s.V.Now)
	w.latest, w.due = s.V.Now, s.V.Now
	if p := &s.Pressure[a]; p.OnsetSlot >= 0 && w.transfer.Converges {
		w.latest = p.Onset.Add(-w.transfer.Duration - steps(s.P.MarginSteps, s.V.Base))
		w.due = max(s.V.Now, w.latest.Add(-max(2*w.transfer.Duration, early*s.V.Base)))
	}
	s.quiet(&w, i)
	if !w.transfer.Converges || bps <= 0 {
		w.why = schemas.ReasonCannotConverge
	}
	w.end = w.due.Add(w.transfer.Duration)
	w.from = fleet.SlotAfter(s.V.Grid, s.V.Base, w.end)
	return w
}

// quiet looks for the cheapest start between now and when the move is due.
func (s *State) quiet(w *way, i int) {
	last := w.due
	if last <= s.V.Now {
		return
	}
	best := *w
	best.cheapest(s, i, s.V.Grid.SlotOf(schemas.StepAt(last, s.V.Base)), last)
	found := false
	// From the latest to the earliest: of equals the later, and now only for a reason.
	for t := schemas.Slots - 1; t >= 0; t-- {
		first, _ := s.V.Grid.Slot(t)
		at := max(s.V.Now, first.Start(s.V.Base))
		if at >= last {
			continue
		}
		x := *w
		x.cheapest(s, i, t, at)
		if x.transfer.Converges && (!best.transfer.Converges || x.price.sum() < cheaper*best.price.sum()) {
			best, found = x, true
		}
		if at == s.V.Now {
			break
		}
	}
	if !found {
		best.due = last
	}
	*w = best
}

// cheapest prices a start in a slot.
func (w *way) cheapest(s *State, i, slot int, at schemas.Time) {
	if slot < 0 {
		slot = schemas.Slots - 1
		if at <= s.V.Now {
			slot = 0
		}
	}
	m := &s.V.VMs[i]
	bps := w.bps
	if limit := s.sums.limit[m.Host][0]; limit > 0 {
		s.sums.exact(int(m.Host))
		// What the VMs of its host leave of the network; the VM's own traffic included.
		free := max(leastShare*limit, limit-s.sums.nd[int(m.Host)*schemas.Slots+slot][0].upper())
		bps = min(bps, schemas.BytesPerSecond(1000*free))
	}
	w.due = at
	w.transfer = PreCopy(s.resident(i), s.dirty(i, slot), bps)
	w.transfer.Duration += trips * w.rtt
	w.transfer.Downtime += stillTrips * w.rtt
	if w.transfer.Converges {
		if disks, n := s.V.LocalDisks(int32(i)); n > 0 {
			w.transfer.Volume += disks
			w.transfer.Duration += time.Duration(float64(disks) / float64(bps) * float64(time.Second))
		}
	}
	w.plain = w.transfer
	if w.transfer.Converges && (s.P.Learning == nil || !s.P.Learning.FixedCosts) {
		took := s.V.Costs.Correct(s.V.Sites[s.V.Hosts[m.Host].Site], w.to, learning.Took{Duration: w.plain.Duration, Downtime: w.plain.Downtime, Volume: w.plain.Volume})
		w.transfer.Duration, w.transfer.Downtime, w.transfer.Volume = took.Duration, took.Downtime, took.Volume
	}
	cores := s.sums.demandAt(i, schemas.CPU, slot) / 1000
	w.price = price{
		sending:  feePerGiB * float64(w.transfer.Volume) / (1 << 30) * s.scale,
		downtime: s.sums.vweight[i] * cores * w.transfer.Downtime.Seconds(),
		brownOut: s.sums.vweight[i] * cores * brownOut * w.transfer.Duration.Seconds(),
	}
}

// resident is how much memory a move of VM i sends.
func (s *State) resident(i int) schemas.Bytes {
	inv := s.V.VMs[i].Inv
	switch {
	case inv.Resident > 0:
		return inv.Resident
	case inv.AllocMem > 0:
		return inv.AllocMem
	}
	return schemas.Bytes(s.sums.vpeak[i]) * mib
}

// dirty is the rate at which VM i dirties its memory in a slot: what was measured, in
// proportion to how busy it will be then; so much a busy core when nobody measured it.
func (s *State) dirty(i, slot int) schemas.BytesPerSecond {
	if rate, ok := s.V.Dirty(int32(i), slot); ok {
		return rate
	}
	return schemas.BytesPerSecond(dirtyCore * s.sums.demandAt(i, schemas.CPU, slot) / 1000)
}
