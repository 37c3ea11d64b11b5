package roadef

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/foreshift/foreshift/placer/search"
)

// Tuning says how moves are drawn, in shares of 1024.
type Tuning struct {
	Swap  int // two processes change places
	Eject int // one process, for which smaller ones make room
	Home  int // of shifts: back to the first machine
	Near  int // of swaps: with a process of about the same size
	Big   int // of all: the process is drawn in proportion to its size
	// Gone, of all: the process is one that is away from home. It goes elsewhere, or
	// another leaves in its stead, without more room taken for transient resources:
	// once these are scarce, hardly any other move is possible, and few processes of
	// many are away.
	Gone  int
	Stead int // of swaps of one that is away: with one that is where its home is
	// Bunch is how many processes an ejection moves out of the way at most, Refuges how
	// many machines each tries.
	Bunch, Refuges int
	// Stay is the price of being away from home, in temperatures. Small processes
	// would otherwise wander at no cost and fill with their transient leftovers the
	// room that large ones need: there are many machines to be away on and one home.
	Stay float64
}

// few is how many processes do not fill the room of transient resources by wandering,
// many from how many on exchanges cost more time than they are worth.
const few, many = 2000, 10000

// Suited is what did best over the published instances of a number of processes, with
// transient resources or without.
func Suited(processes int, transient bool) Tuning {
	t := Tuning{Swap: 512, Eject: 200, Home: 64, Near: 512, Big: 300, Gone: 500, Stead: 400, Bunch: 6, Refuges: 4}
	if processes > many {
		t.Eject = 64
	} else if processes > few && !transient {
		t.Gone = 100
	}
	t.Stay = math.Sqrt(max(0, float64(processes-few)) / 600)
	return t
}

// drawSlots is how finely a process is drawn by its size: a power of 2.
const drawSlots = 1 << 15

// sizes ranks processes by their share of the fleet's capacity, summed over
// resources.
func (p *Problem) sizes() {
	total := make([]float64, p.nr)
	for _, k := range p.m.Machines {
		for r, c := range k.Capacity {
			total[r] += float64(c)
		}
	}
	size := make([]float64, p.np)
	for i := range size {
		for r, q := range p.m.Processes[i].Requirement {
			if total[r] > 0 {
				size[i] += float64(q) / total[r]
			}
		}
	}
	p.bySize = make([]int32, p.np)
	for i := range p.bySize {
		p.bySize[i] = int32(i)
	}
	slices.SortFunc(p.bySize, func(a, b int32) int {
		return cmp.Or(cmp.Compare(size[a], size[b]), cmp.Compare(a, b))
	})
	// A process takes slots of the draw in proportion to its size.
	var sum, upTo float64
	for _, x := range size {
		sum += x
	}
	p.draw = make([]int32, drawSlots)
	n := 0
	for slot := range p.draw {
		for n < p.np-1 && (upTo+size[p.bySize[n]])*drawSlots < (float64(slot)+0.5)*sum {
			upTo += size[p.bySize[n]]
			n++
		}
		p.draw[slot] = p.bySize[n]
	}
	p.rank = make([]int32, p.np)
	for n, i := range p.bySize {
		p.rank[i] = int32(n)
	}
}

func (p *Problem) tryShift(rng *rand.Rand, i int32, limit int64) (int64, bool) {
	x := rng.Uint64()
	b := pick(x, p.nm)
	if int(x>>32)&1023 < p.options.Home {
		b = p.first[i]
	}
	limit -= p.price * int64(p.awayBy(i, p.at[i], b))
	if p.shiftDelta(i, b, limit) > limit {
		return 0, false
	}
	return p.apply(i, b), true
}

func (p *Problem) trySwap(rng *rand.Rand, i int32, limit int64) (int64, bool) {
	x := rng.Uint64()
	j := pick(x, p.np)
	if int(x>>32)&1023 < p.options.Near {
		reach := p.np/32 + 1
		n := int(p.rank[i]) + int(pick(x, 2*reach+1)) - reach
		j = p.bySize[min(max(n, 0), p.np-1)]
	}
	if p.goneAt[i] >= 0 && int(x>>42)&1023 < p.options.Stead {
		if on := p.on[p.first[i]]; len(on) > 0 {
			j = on[pick(x, len(on))]
		}
	}
	limit -= p.price * int64(p.awayBy(i, p.at[i], p.at[j])+p.awayBy(j, p.at[j], p.at[i]))
	if p.swapDelta(i, j, limit) > limit {
		return 0, false
	}
	return p.swap(i, j), true
}

// tryEject moves process i to a machine where it may lack room, and then others from
// there until the rest fits. Each obeys the rules by itself but for that machine's
// capacity, and all go back when room or limit does not suffice.
func (p *Problem) tryEject(rng *rand.Rand, i int32, limit int64) (int64, bool) {
	x := rng.Uint64()
	b := pick(x, p.nm)
	a, s := p.at[i], p.service[i]
	if b == a || p.alreadyThere(s, b) || !p.fits(i, b) || !p.spreads(s, a, b) || !p.depends(s, a, b) {
		return 0, false
	}
	limit -= p.price * int64(p.awayBy(i, a, b))
	// At best the machine it leaves gains what it can, and the other's cost vanishes;
	// where that is not enough, all of what follows is in vain.
	if p.sited(i, b)-p.sited(i, a)-p.cost[b]-p.relief(i, a)-p.m.ServiceWeight > limit {
		return 0, false
	}
	p.undo = append(p.undo[:0], step{i, a})
	d := p.apply(i, b)
	for n := 0; ; n++ {
		// Later moves relieve b of its cost at most, and of the price of a few visitors.
		r, lack := p.lack(b)
		if lack == 0 {
			if d <= limit {
				return d, true
			}
			break
		}
		if n == p.options.Bunch || d-p.cost[b] > limit+4*p.price {
			break
		}
		j := p.victim(rng, b, i, r, lack)
		if j < 0 {
			break
		}
		k := p.refuge(rng, j, a)
		if k < 0 {
			break
		}
		p.undo = append(p.undo, step{j, b})
		limit -= p.price * int64(p.awayBy(j, b, k))
		d += p.apply(j, k)
	}
	for n := len(p.undo) - 1; n >= 0; n-- {
		p.apply(p.undo[n].item, p.undo[n].from)
	}
	return 0, false
}

// relief is by how much the cost of machine a falls when process i leaves it.
func (p *Problem) relief(i, a int32) int64 {
	w := p.nr + p.nk
	inc := p.proc[int(i)*p.nk:][:p.nk]
	row := p.mach[int(a)*w+p.nr : int(a)*w+w]
	c := p.cost[a]
	for l, wt := range p.weight {
		v := row[l] - inc[l]
		c -= wt * (v &^ (v >> 63))
	}
	return c
}

// fits says whether an empty machine b would do for process i.
func (p *Problem) fits(i, b int32) bool {
	c := p.m.Machines[b].Capacity
	for r, q := range p.proc[int(i)*p.nk:][:p.nr] {
		if q > c[r] {
			return false
		}
	}
	return true
}

// lack is the resource that machine b lacks most, in shares of its capacity, and how
// much of it.
func (p *Problem) lack(b int32) (res int, lack int64) {
	row := p.mach[int(b)*(p.nr+p.nk):][:p.nr]
	worst := 0.0
	for r, free := range row {
		if free < 0 {
			if share := float64(-free) / float64(p.m.Machines[b].Capacity[r]+1); share > worst {
				worst, res, lack = share, r, -free
			}
		}
	}
	return res, lack
}

// victim picks a process on machine b whose leaving gives back resource r: of a few
// drawn, the smallest that gives all that lacks, else the one that gives most; -1
// when none gives any.
func (p *Problem) victim(rng *rand.Rand, b, but int32, r int, lack int64) int32 {
	on := p.on[b]
	best, bestGain := int32(-1), int64(0)
	for range 4 {
		j := on[pick(rng.Uint64(), len(on))]
		if j == but {
			continue
		}
		gain := p.proc[int(j)*p.nk+r] &^ (p.hold[r] & p.homeMask(j, b))
		switch {
		case gain == 0:
		case bestGain >= lack:
			if gain >= lack && gain < bestGain {
				best, bestGain = j, gain
			}
		case gain > bestGain:
			best, bestGain = j, gain
		}
	}
	return best
}

// refuge finds a machine that takes process j as it is: where room was just made, its
// home, or one of a few at random.
func (p *Problem) refuge(rng *rand.Rand, j, a int32) int32 {
	x := rng.Uint64()
	for n := range p.options.Refuges {
		k := a
		if n > 0 || x>>62 > 1 {
			k = pick(rng.Uint64(), p.nm)
			if n == 1 {
				k = p.first[j]
			}
		}
		if p.shiftDelta(j, k, never/2) < never/2 {
			return k
		}
	}
	return -1
}

// Warm sets the price of being away from home.
func (p *Problem) Warm(t float64) { p.price = int64(min(p.options.Stay*t, 1<<50)) }

// Tune changes how moves are drawn.
func (p *Problem) Tune(t Tuning) { p.options = t }

// Schedule is how to cool this problem. At first a process of common size may take
// room above the safety capacity on a whim; where processes are so many that time
// will not do for that, the start is colder. At the end little is undecided but
// costs of moving.
func (p *Problem) Schedule() search.Schedule {
	var size float64
	for i := range p.np {
		inc := p.proc[i*p.nk:]
		for l, w := range p.weight {
			size += float64(w) * float64(max(inc[l], -inc[l]))
		}
	}
	n := float64(p.np)
	start := max(size/n*min(max(math.Pow(5000/n, 1.3), 0.2), 2), 10)
	end := start * 3e-5
	if p.np <= few { // few are soon done with all else, and each is large against them
		end = start * 1e-6
	}
	return search.Schedule{Start: start, End: end}
}

// cooled is how far the cooling is at leg k. One slow cooling is best where processes
// are neither few, and soon cooled, nor many, each small. Those are heated twice
// more, and the best of three stays: now and then a cooling ends with one large
// process in a corner.
func (p *Problem) cooled(k int) float64 {
	if p.np > few && p.np <= many {
		return float64(k) / (legs - 1)
	}
	if k < legs/2 {
		return float64(k) / (legs/2 - 1)
	}
	return float64(k%(legs/4)) / (legs/4 - 1)
}
