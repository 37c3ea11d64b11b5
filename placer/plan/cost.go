package plan

import (
	"math"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// What a move is taken to cost beyond what is measured of it.
const (
	setup      = 1.0     // s, to prepare, define and hand over
	resume     = .1      // s of downtime besides the last round
	switchover = .3      // s that the last round of pre-copy may take
	maxRounds  = 30      // of pre-copy
	converges  = .8      // dirty rate / bandwidth from which pre-copy is not begun
	brownOut   = .1      // share of its demand that a guest loses while it is copied
	feePerGiB  = 5.0     // core-seconds a GiB sent, at a base step of 5 min
	dirtyCore  = 4 << 20 // bytes/s that one busy core is taken to dirty when nobody measured it
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

// transfer expects the move of VM i between two sites; ok is false when the link
// between them was not measured lately. Moves already on the link share it.
func (s *State) transfer(i, a, b int) (t Transfer, bps schemas.BytesPerSecond, ok bool) {
	sa, sb := s.V.Hosts[a].Site, s.V.Hosts[b].Site
	bps, ok = s.V.Bandwidth(sa, sb)
	if !ok {
		return Transfer{}, 0, false
	}
	if sa != sb {
		bps /= schemas.BytesPerSecond(1 + s.tally.Link[s.link(sa, sb)])
	}
	m := &s.V.VMs[i]
	memory := m.Inv.Resident
	if memory <= 0 {
		memory = m.Inv.AllocMem
	}
	if memory <= 0 {
		memory = schemas.Bytes(s.sums.vmPeak[i])
	}
	return PreCopy(memory, s.dirty(i), bps), bps, true
}

// dirty is the rate at which VM i is taken to dirty its memory: so much a busy
// core, until its own rate is told.
func (s *State) dirty(i int) schemas.BytesPerSecond {
	return schemas.BytesPerSecond(dirtyCore * s.cores(i))
}

// cores is VM i's expected CPU demand in the first slot.
func (s *State) cores(i int) float64 { return s.sums.demandAt(i, schemas.CPU, 0) / 1000 }

// moveCost is what the move itself costs in weighted core-seconds, before the
// chance that it fails.
func (s *State) moveCost(i int, t Transfer) float64 {
	cores := s.cores(i)
	lost := cores * (t.Downtime.Seconds() + brownOut*t.Duration.Seconds())
	fee := feePerGiB * float64(t.Volume) / (1 << 30) * s.V.Base.Seconds() / schemas.DefaultBase.Seconds()
	return s.sums.vmWeight[i]*lost + fee
}
