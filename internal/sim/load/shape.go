package load

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

const day = schemas.StepsPerDay

// Class is the kind of work of a VM.
type Class uint8

// The classes.
const (
	Web      Class = iota // daily and weekly shape in its time zone
	Batch                 // full speed at fixed hours of the night
	Database              // steady, with slow growth or decline
	Flash                 // quiet, with a crowd on some days
	Idle                  // next to nothing
	Office                // development machines: working hours of working days
	NumClasses
)

var classNames = [NumClasses]string{"web", "batch", "database", "flash", "idle", "office"}

func (c Class) String() string {
	if c < NumClasses {
		return classNames[c]
	}
	return "unknown"
}

// Profile is one VM's habit.
type Profile struct {
	Seed  uint64
	Class Class
	VCPUs int
	Mem   float64 // bytes allocated
	Zone  int     // steps by which its day begins later than the fleet's
	Level float64 // share of its vCPUs at its usual daily peak, 0..1
}

// Demand is what a VM wants over one step: mCPU of reference speed, bytes, and
// bytes/s; Dirty is memory written a second by a guest that gets all it wants.
type Demand struct {
	CPU, Mem, NetRx, NetTx, DiskRd, DiskWr, Dirty float64
}

// hash mixes words into one (the finaliser of SplitMix64, Steele et al. 2014).
func hash(words ...uint64) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, w := range words {
		h ^= w
		h += 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// Unit is a uniform number in 0..1 that belongs to the words.
func Unit(words ...uint64) float64 { return float64(hash(words...)>>11) / (1 << 53) }

// noise is value noise: random in -1..1 at every multiple of period, cosine
// between them.
func noise(seed uint64, k int64, period int64) float64 {
	i := floorDiv(k, period)
	f := float64(k-i*period) / float64(period)
	f = (1 - math.Cos(math.Pi*f)) / 2
	a, b := Unit(seed, uint64(i)), Unit(seed, uint64(i+1))
	return 2*(a+f*(b-a)) - 1
}

// rough is noise of three time scales, mostly within -1..1.
func rough(seed uint64, k int64) float64 {
	return .45*noise(seed, k, 2) + .35*noise(seed+1, k, 9) + .3*noise(seed+2, k, 41)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// bump is a raised cosine of half-width w round c on the daily circle.
func bump(tod, c, w float64) float64 {
	d := math.Abs(math.Mod(tod-c+1.5*day, day) - .5*day)
	if d >= w {
		return 0
	}
	return (1 + math.Cos(math.Pi*d/w)) / 2
}

// clean is the usual share of its vCPUs that the VM wants at a time of day,
// without noise, growth or crowds. weekday 0 is Monday.
func (p *Profile) clean(tod int, weekday int64) float64 {
	t := float64(tod)
	weekend := weekday >= 5
	switch p.Class {
	case Web:
		low := .22 * p.Level
		x := max(bump(t, 140, 88), .62*bump(t, 238, 50))
		if weekend {
			x *= .5
		}
		return low + (p.Level-low)*x
	case Batch:
		begin := 6 + int(hash(p.Seed, 1)%40) // between 00:30 and 04:00
		length := 10 + int(hash(p.Seed, 2)%26)
		if tod >= begin && tod < begin+length {
			return p.Level
		}
		return .03
	case Database:
		return p.Level * (.75 + .25*bump(t, 150, 110))
	case Flash:
		return .12 + .1*bump(t, 150, 100)
	case Office:
		if weekend {
			return .04
		}
		x := max(bump(t, 124, 34), .9*bump(t, 180, 36)) // 10:20 and 15:00, lunch between
		return .04 + (p.Level-.04)*x
	default:
		return .025
	}
}

// crowd is the extra share of a flash crowd: a fast rise, a slow decay, on about
// one day in six.
func (p *Profile) crowd(tod int, d int64) float64 {
	if p.Class != Flash || Unit(p.Seed, 77, uint64(d)) > .16 {
		return 0
	}
	since := float64(tod) - (60 + 160*Unit(p.Seed, 78, uint64(d)))
	switch {
	case since < 0 || since > 60:
		return 0
	case since < 4:
		return .75 * since / 4
	}
	return .75 * math.Exp(-(since-4)/18)
}

// at is the VM's demand k steps after the fleet's Monday midnight.
func (p *Profile) at(k int64) Demand {
	local := k - int64(p.Zone)
	d := floorDiv(local, day)
	tod := int(local - d*day)
	weekday := d - 7*floorDiv(d, 7)

	share := p.clean(tod, weekday)
	if p.Class == Database { // up or down by up to .5 % a day, within bounds
		g := (Unit(p.Seed, 3) - .4) * .01 * float64(k) / day
		share *= min(max(1+g, .7), 1.4)
	}
	wobble := .06
	if p.Class == Idle || p.Class == Office {
		wobble = .3
	}
	share *= 1 + wobble*rough(hash(p.Seed, 4), k)
	share = min(max(share+p.crowd(tod, d), .005), 1)

	cores := float64(p.VCPUs)
	out := Demand{CPU: share * 1000 * cores}
	// Memory: a base of its own, slow wandering, and some that follows the work.
	m := .34 + .22*Unit(p.Seed, 5) + .05*noise(hash(p.Seed, 6), k, 150) + .12*share
	if p.Class == Database {
		m += .12
	}
	out.Mem = min(m, .9) * p.Mem
	out.Dirty = p.dirty(share) * 1e6
	p.traffic(k, share, &out)
	return out
}

// dirty is memory written in MB/s at a share of full speed.
func (p *Profile) dirty(share float64) float64 {
	full := [NumClasses]float64{Web: 40, Batch: 110, Database: 70, Flash: 35, Idle: 5, Office: 25}[p.Class]
	return .3 + full*(.5+Unit(p.Seed, 7))*share
}

// traffic fills network and disk. Both are zero-inflated: a hashed block of steps
// is silent or has a burst of its own height.
func (p *Profile) traffic(k int64, share float64, out *Demand) {
	burst := func(purpose uint64, period int64, often, height float64) float64 {
		b := uint64(floorDiv(k, period))
		if Unit(p.Seed, purpose, b) >= often {
			return 0
		}
		u := Unit(p.Seed, purpose+1, b)
		return height * u * u * (1 + .2*noise(p.Seed+purpose, k, 1))
	}
	switch p.Class {
	case Web, Flash:
		rate := 4e6 * float64(p.VCPUs) * share * (1 + .2*rough(hash(p.Seed, 8), k))
		out.NetRx, out.NetTx = max(rate*.25, 0), max(rate, 0)
		out.DiskRd = burst(20, 3, .06, 8e6)
		out.DiskWr = burst(22, 2, .3, 3e6)
	case Database:
		rate := 2.5e6 * float64(p.VCPUs) * share * (1 + .2*rough(hash(p.Seed, 8), k))
		out.NetRx, out.NetTx = max(rate, 0), max(rate*1.5, 0)
		out.DiskRd = burst(20, 2, .4, 3e7)
		out.DiskWr = 2e6*share + burst(22, 1, .5, 2e7)
	case Batch:
		out.NetRx = burst(24, 4, .1+.6*share, 2e7) * share
		out.NetTx = out.NetRx * .1
		out.DiskRd = burst(20, 2, .02+.8*share, 9e7)
		out.DiskWr = burst(22, 2, .02+.7*share, 6e7)
	default:
		out.NetRx = burst(24, 3, .2, 4e5)
		out.NetTx = burst(26, 3, .2, 2e5)
		out.DiskRd = burst(20, 6, .05, 2e6)
		out.DiskWr = burst(22, 4, .15, 1e6)
	}
}
