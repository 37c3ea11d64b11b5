package plan

import (
	"math"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// sticky is how much of the usual demands a move that is already planned must
// still meet to stay planned: a plan is kept unless another is clearly better. To begin,
// it must meet them whole.
const sticky = .7

// homesick is how many times the least benefit a move must bring that takes a VM back
// to a host it left within a day: what was wrong once may be wrong again.
const homesick = 3

// choice is one (VM, destination) pair, judged. Why is ok when it may be done; its
// words are made by explain, for the few that are shown.
type choice struct {
	vm, dest int32
	timing
	price price
	gain  schemas.Gain
	saved float64
	rank  float64
	why   schemas.ReasonCode
	res   schemas.Resource // that does not fit
	other int32            // VM that stands against it
}

// timing is when a move of a VM would start, and what it would take.
type timing struct {
	due, latest, end schemas.Time
	transfer, plain  Transfer // plain: before what was learnt of costs
	from             int      // first slot in which the VM is there
}

// candidate is a VM on its way through the search.
type candidate struct {
	vm, home int32
	why      schemas.Reason // why it does not move, ok while it may
	duty     schemas.Reason // why it must, whatever that costs: ok when it need not
	aid      bool           // not pressed itself: it moves only to make room
	ways     []way          // by site
	dest     int32          // where the board has it go, -1 when it stays
	from     int            // and from which slot on
	order    int            // position in the board's list of moves

	saves  float64   // no destination brings more than this, core-seconds
	bound  float64   // nor ranks higher than this
	tight  bool      // both count what its ways cost
	judged bool      // against its targets, as they are now
	seen   [2]uint32 // stamps of source and best destination when it was judged
	place  int       // in the queue of the greedy search, -1 outside
	partly bool      // judged in haste: not all hosts worth a look were looked at
	best   choice
	has    bool     // best is a choice that may be done
	whyNot []choice // the other hosts, best first
	counts map[schemas.ReasonCode]int
	score  float64 // best benefit over hosts, done or not
	near   []int32 // hosts worth a look, drawn once for the search
	leader *candidate
}

func (c *candidate) must() bool { return !c.duty.OK() }

func (s *State) candidate(i int32) *candidate {
	c := s.asCandidate(i)
	return &c
}

func (s *State) asCandidate(i int32) candidate {
	return candidate{vm: i, home: s.V.VMs[i].Host, why: s.vmWhy[i], dest: -1}
}

// way is how a candidate gets to a host's site.
func (s *State) way(c *candidate, b int32) *way { return s.wayTo(c, s.V.Hosts[b].Site) }

func (s *State) wayTo(c *candidate, site int32) *way {
	if c.ways == nil {
		c.ways = make([]way, len(s.V.Sites))
	}
	w := &c.ways[site]
	if !w.known {
		*w = s.travel(int(c.vm), site)
	}
	return w
}

// most bounds benefit and rank of a way: they are those of a destination that feels
// nothing of the VM.
func (s *State) most(c *candidate, w *way) (benefit, rank float64) {
	saved := s.wishable(c.vm) - s.gone(c, w)
	cost := w.price.sum() + w.transfer.Failing*max(0, saved)
	return saved - cost, s.rank(saved-cost, cost)
}

// gone is the change at the source when the candidate leaves it, worked out once for
// as long as the source does not change.
func (s *State) gone(c *candidate, w *way) float64 {
	if w.stamp != s.sums.stamp[c.home] {
		w.gone, w.stamp = s.sums.leaving(int(c.vm), int(c.home), w.from), s.sums.stamp[c.home]
	}
	return w.gone
}

// change is what the objective of the search changes by when an unmoved candidate
// goes to b: unmet demand and wishes, the price of the move, and the least that a move
// must bring, which is its fixed price.
func (s *State) change(c *candidate, b int32) (float64, schemas.ReasonCode) {
	if why, _, _ := s.allowed(c, b); why != schemas.ReasonOK {
		return 0, why
	}
	w := s.way(c, b)
	if w.why != schemas.ReasonOK {
		return 0, w.why
	}
	if _, fits := s.sums.trafficFits(int(c.vm), int(b), w.from); !fits {
		return 0, schemas.ReasonNoRoom
	}
	s.Evals++
	return s.gone(c, w) + s.sums.joining(int(c.vm), int(b), w.from) + s.wishes(c.vm, b) + w.price.sum() + s.least(c, b), schemas.ReasonOK
}

// floor bounds change from below without looking at the destination: no host can be
// relieved of more than it lacks.
func (s *State) floor(c *candidate, b int32) float64 {
	w := s.way(c, b)
	if w.why != schemas.ReasonOK {
		return math.Inf(1)
	}
	return s.gone(c, w) - s.sums.cost[b] - s.wishable(c.vm) + w.price.sum() + s.least(c, b)
}

// undone is what lift would give, without doing it: between unsettled and resettled,
// which take a move out of the books but not out of the sums.
func (s *State) undone(c *candidate) float64 {
	s.Evals++
	return s.sums.hostCost(int(c.home), int(c.vm), 1, c.from, c.from) - s.sums.cost[c.home] + s.parting(c)
}

// parting is undone without what the source feels.
func (s *State) parting(c *candidate) float64 {
	d := s.sums.hostCost(int(c.dest), int(c.vm), -1, c.from, 0) - s.sums.cost[c.dest]
	return d - s.wishes(c.vm, c.dest) - s.way(c, c.dest).price.sum() - s.least(c, c.dest)
}

// elsewhere is the change when a move goes to b instead, at the same time.
func (s *State) elsewhere(c *candidate, b int32) (float64, schemas.ReasonCode) {
	s.unsettled(c)
	defer s.resettled(c)
	w := s.way(c, b)
	if why, _, _ := s.allowed(c, b); why != schemas.ReasonOK {
		return 0, why
	}
	if _, fits := s.sums.trafficFits(int(c.vm), int(b), w.from); !fits {
		return 0, schemas.ReasonNoRoom
	}
	s.Evals++
	return s.parting(c) + s.sums.joining(int(c.vm), int(b), w.from) + s.wishes(c.vm, b) + w.price.sum() + s.least(c, b), schemas.ReasonOK
}

func (s *State) unsettled(c *candidate) { s.placed(c, c.home, -1) }

func (s *State) resettled(c *candidate) { s.placed(c, c.dest, 1) }

// least is the benefit that a move must bring.
func (s *State) least(c *candidate, b int32) float64 {
	if c.must() {
		return 0
	}
	least := s.minBenefit
	if p := s.planned[c.vm]; p != nil && p.Destination == s.V.Hosts[b].ID {
		least *= sticky
	}
	if s.left[left{c.vm, b}] {
		least *= homesick
	}
	return least
}

// put sends an unmoved candidate to b, lift takes that back; both give the change of
// the search's objective.
func (s *State) put(c *candidate, b int32) float64 {
	w := s.way(c, b)
	a := c.home
	d := w.price.sum() + s.least(c, b) + s.wishes(c.vm, b) - s.sums.cost[a] - s.sums.cost[b]
	s.sums.move(int(c.vm), int(a), int(b), w.from)
	c.dest, c.from = b, w.from
	s.changed(c, b, 1)
	return d + s.sums.cost[a] + s.sums.cost[b]
}

func (s *State) lift(c *candidate) float64 {
	a, b := c.home, c.dest
	d := -s.way(c, b).price.sum() - s.least(c, b) - s.sums.cost[a] - s.sums.cost[b]
	s.sums.back(int(c.vm), int(a), int(b), c.from)
	s.changed(c, a, -1)
	c.dest = -1
	return d - s.wishes(c.vm, b) + s.sums.cost[a] + s.sums.cost[b]
}

// changed renews what hangs on a move that was made (n 1) or taken back (n -1): the
// VM is now at place.
func (s *State) changed(c *candidate, place int32, n int) {
	s.sums.refresh(int(c.home))
	s.sums.refresh(int(c.dest))
	s.placed(c, place, n)
}

// placed writes into the books that a move is made (n 1) or taken back (n -1).
func (s *State) placed(c *candidate, place int32, n int) {
	s.settleAt(c.vm, place)
	s.book(c.home, c.dest, n)
	if _, disks := s.V.LocalDisks(c.vm); disks > 0 {
		s.copies[c.dest] += n
	}
}

// pair judges the move of a candidate to b.
func (s *State) pair(c *candidate, b int32) choice {
	ch := choice{vm: c.vm, dest: b}
	if ch.why, ch.res, ch.other = s.allowed(c, b); ch.why != schemas.ReasonOK {
		return ch
	}
	w := s.way(c, b)
	if ch.timing, ch.price, ch.why = w.timing, w.price, w.why; ch.why != schemas.ReasonOK {
		return ch
	}
	if r, fits := s.sums.trafficFits(int(c.vm), int(b), ch.from); !fits {
		ch.why, ch.res = schemas.ReasonNoRoom, r
		return ch
	}
	s.Evals++
	s.judge(c, &ch)
	return ch
}

// judge fills in gain and rank of a move not made and, where the gain is too small,
// the reason.
func (s *State) judge(c *candidate, ch *choice) {
	before := s.sums.cost[c.home] + s.sums.cost[ch.dest]
	ch.saved = -(s.gone(c, s.way(c, ch.dest)) + s.sums.joining(int(c.vm), int(ch.dest), ch.from) + s.wishes(c.vm, ch.dest))
	cost := ch.price.sum() + ch.transfer.Failing*max(0, ch.saved)
	ch.gain = schemas.Gain{Before: before, After: max(0, before-ch.saved), Cost: cost, Benefit: ch.saved - cost}
	if before > 0 {
		ch.gain.Ratio = schemas.Ratio(min(1, max(0, ch.gain.Benefit/before)))
	}
	least := s.least(c, ch.dest)
	ch.rank = s.rank(ch.gain.Benefit, cost)
	if least < s.minBenefit && !c.must() {
		ch.rank /= sticky
	}
	switch {
	case c.must():
		ch.why = schemas.ReasonOK // it goes where it does least harm
	case ch.saved <= 0:
		ch.why = schemas.ReasonWorse
	case ch.gain.Benefit <= 0:
		ch.why = schemas.ReasonNoBenefit
	case ch.gain.Benefit < least:
		ch.why = schemas.ReasonBelowMinimum
	case s.heldOut(c, ch.gain.Benefit):
		ch.why = schemas.ReasonHeldOut
	default:
		ch.why = schemas.ReasonOK
	}
}

// rank orders moves by benefit per cost. The least benefit is also the fixed price
// of any move: it keeps many small moves of little memory from going before one
// that settles the matter.
func (s *State) rank(benefit, cost float64) float64 {
	return benefit / (cost + s.minBenefit + 1e-9)
}

// allowed holds the rules that do not depend on demand over time, but for memory. A
// move that must be made keeps to the budgets by waiting its turn, so they do not
// forbid it here.
func (s *State) allowed(c *candidate, b int32) (why schemas.ReasonCode, res schemas.Resource, other int32) {
	host, from, l := &s.V.Hosts[b], &s.V.Hosts[c.home], s.limits
	switch {
	case c.home == b:
		return schemas.ReasonSelf, 0, -1
	case !s.hostWhy[b].OK():
		return s.hostWhy[b].Code, 0, -1
	case !s.V.CPUFits(c.vm, b):
		return schemas.ReasonCPUModel, 0, -1
	}
	if ok := s.rules.sites[c.vm]; ok != nil && !ok[host.Site] {
		if s.site(c.vm) != "" {
			return schemas.ReasonSite, 0, -1
		}
		return schemas.ReasonResidency, 0, -1
	}
	if why, other = s.tied(c.vm, b); why != schemas.ReasonOK {
		return why, schemas.Memory, other
	}
	link, waived := s.linkIndex(from.Site, host.Site), s.free || c.must()
	switch {
	case s.mode[b] == schemas.ModeObserve && s.modeOf(int(c.vm), int(c.home)) != schemas.ModeObserve:
		return schemas.ReasonMode, 0, -1
	case !waived && (l.in[b] <= 0 || l.out[c.home] <= 0):
		return schemas.ReasonBudgetHost, 0, -1
	case !waived && link >= 0 && l.link[link] <= 0:
		return schemas.ReasonBudgetLink, 0, -1
	case !waived && l.left() <= 0:
		return schemas.ReasonBudgetCluster, 0, -1
	}
	if _, disks := s.V.LocalDisks(c.vm); disks > 0 && (s.copies[b] > 0 || !s.V.StorageFits(c.vm, b).OK()) {
		return schemas.ReasonStorage, 0, -1
	}
	if !s.sums.memFits(int(c.vm), int(b)) {
		return schemas.ReasonNoRoom, schemas.Memory, -1
	}
	return schemas.ReasonOK, 0, -1
}

// site is where the VM's label binds it to; empty when anywhere.
func (s *State) site(vm int32) schemas.SiteID {
	return schemas.SiteID(s.V.VMs[vm].Inv.Labels[policy.LabelSite])
}

func (s *State) modeOf(i, a int) schemas.Mode {
	return policy.ModeOf(s.P, s.V.VMs[i].ID, s.V.VMs[i].Inv.Labels, s.mode[a])
}

// ModeOf is the mode under which a move falls: the most careful of VM, source and
// destination.
func (s *State) ModeOf(vm, source, destination int32) schemas.Mode {
	return policy.Careful(s.modeOf(int(vm), int(source)), s.mode[destination])
}

// explain puts a choice's reason into words.
func (s *State) explain(c *choice) schemas.Reason {
	host, m := &s.V.Hosts[c.dest], &s.V.VMs[c.vm]
	from := &s.V.Hosts[m.Host]
	switch c.why {
	case schemas.ReasonStale:
		if host.Fresh {
			return no(c.why, "the link to %s was not measured lately", host.Msg.Site)
		}
		return s.hostWhy[c.dest]
	case schemas.ReasonSite:
		return no(c.why, "%s must stay at site %s", m.Name, s.site(c.vm))
	case schemas.ReasonResidency:
		return no(c.why, "%s may not be at site %s", m.Name, host.Msg.Site)
	case schemas.ReasonCPUModel:
		return s.V.WhyNotCPU(c.vm, c.dest)
	case schemas.ReasonAntiAffinity:
		return no(c.why, "%s is there and must be apart", s.V.VMs[c.other].Name)
	case schemas.ReasonAffinity:
		if c.other < 0 {
			return no(c.why, "the others of its group are elsewhere")
		}
		return no(c.why, "%s must be on the same host and is not there", s.V.VMs[c.other].Name)
	case schemas.ReasonSpread:
		return no(c.why, "%s and others of its group are there; no more may be", s.V.VMs[c.other].Name)
	case schemas.ReasonMode:
		return no(c.why, "mode observe: nothing is planned to go to %s", host.ID)
	case schemas.ReasonBudgetHost:
		if r := s.tally.Destination(host.ID); !r.OK() {
			return r
		}
		return s.tally.Source(from.ID)
	case schemas.ReasonBudgetLink:
		return s.tally.Between(s.link(from.Site, host.Site))
	case schemas.ReasonBudgetCluster:
		return s.tally.Fleet()
	case schemas.ReasonStorage:
		if s.copies[c.dest] > 0 {
			return no(c.why, "another VM of this plan has its disks copied to %s", host.ID)
		}
		return s.V.StorageFits(c.vm, c.dest)
	case schemas.ReasonNoRoom:
		if c.other == c.vm {
			return no(c.why, "%s has not the memory for all that must be together with %s", host.ID, m.Name)
		}
		if b := c.dest; c.res == schemas.Memory && s.sums.promised[b]+s.sums.vpromise[c.vm] > s.sums.room[b] {
			return no(c.why, "%s has promised %.4g GiB of memory to its VMs and may promise %.4g; what it may is its memory times its overcommit", host.ID, s.sums.promised[b]/1024, s.sums.room[b]/1024)
		}
		if c.res == schemas.Memory {
			return no(c.why, "%s has not the memory at the %.3g quantile", host.ID, s.sums.q)
		}
		return no(c.why, "%s has not enough %s", host.ID, c.res)
	case schemas.ReasonCannotConverge:
		if c.transfer.Lambda == 0 {
			return no(c.why, "the link to %s has nothing free", host.Msg.Site)
		}
		return no(c.why, "memory is dirtied at %.0f %% of what the way to %s carries", 100*c.transfer.Lambda, host.ID)
	case schemas.ReasonWorse:
		return no(c.why, "%s would be worse off by more than is gained", host.ID)
	case schemas.ReasonNoBenefit:
		return no(c.why, "saves %s core-seconds, costs %s", schemas.Figure(c.saved), schemas.Figure(c.gain.Cost))
	case schemas.ReasonBelowMinimum:
		if s.left[left{c.vm, c.dest}] {
			return no(c.why, "benefit %s core-seconds; to go back where it came from it takes %s", schemas.Figure(c.gain.Benefit), schemas.Figure(homesick*s.minBenefit))
		}
		return no(c.why, "benefit %s core-seconds, least %s", schemas.Figure(c.gain.Benefit), schemas.Figure(s.minBenefit))
	case schemas.ReasonHeldOut:
		return no(c.why, "benefit %s core-seconds, left out by lot today: what comes of it shows what moves achieve", schemas.Figure(c.gain.Benefit))
	case schemas.ReasonOK:
		return schemas.Reason{Code: c.why}
	case schemas.ReasonSelf:
		return schemas.Reason{Code: c.why, Detail: "it is there"}
	}
	return s.hostWhy[c.dest]
}
