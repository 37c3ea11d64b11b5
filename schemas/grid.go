package schemas

// Slots is the number of slots of a [Grid]: 12 of 1 step, 12 of 3 and 20 of 12,
// together 288 steps = 24 hours of 5 minutes.
const Slots = 44

// Grid is the forecast grid whose first slot begins at step Start.
type Grid struct{ Start Step }

// slotStart holds the offset of each slot from the grid's start, and the end.
var slotStart = func() (a [Slots + 1]int32) {
	for i := 0; i < Slots; i++ {
		n := int32(1)
		if i >= 12 {
			n = 3
		}
		if i >= 24 {
			n = 12
		}
		a[i+1] = a[i] + n
	}
	return a
}()

// Slot gives the first step of slot i and its length in steps.
func (g Grid) Slot(i int) (Step, int) {
	return g.Start + Step(slotStart[i]), int(slotStart[i+1] - slotStart[i])
}

// SlotOffset is the first step of slot i relative to the grid's start.
func SlotOffset(i int) int { return int(slotStart[i]) }

// SlotLen is the length of slot i in steps.
func SlotLen(i int) int { return int(slotStart[i+1] - slotStart[i]) }

// SlotOf is the slot that holds step s, or -1 outside the grid.
func (g Grid) SlotOf(s Step) int {
	o := s - g.Start
	switch {
	case o < 0 || o >= StepsPerDay:
		return -1
	case o < 12:
		return int(o)
	case o < 48:
		return 12 + int(o-12)/3
	default:
		return 24 + int(o-48)/12
	}
}

// SlotsWithin is the number of slots that begin within the first n steps.
func SlotsWithin(n int) int {
	k := 0
	for k < Slots && int(slotStart[k]) < n {
		k++
	}
	return k
}

// Levels are the probability levels of a [Dist].
var Levels = [NumLevels]float32{.01, .05, .1, .2, .3, .4, .5, .6, .7, .8, .9, .95, .99}

// NumLevels is the number of quantile levels of a [Dist].
const NumLevels = 13

// Dist is a predictive distribution per slot: Q[slot*NumLevels+level] is the
// quantile of the demand at a random base step in the slot (marginal, not of the
// slot's mean). Non-decreasing in level.
type Dist struct{ Q []float32 }

// NewDist allocates one.
func NewDist() Dist { return Dist{Q: make([]float32, Slots*NumLevels)} }

// At gives the quantiles of one slot.
func (d Dist) At(slot int) []float32 { return d.Q[slot*NumLevels : (slot+1)*NumLevels] }

// Quantile interpolates the quantile function of one slot at p in 0..1, linearly
// between levels and flat outside them.
func (d Dist) Quantile(slot int, p float32) float32 {
	q := d.At(slot)
	if p <= Levels[0] {
		return q[0]
	}
	for i := 1; i < NumLevels; i++ {
		if p <= Levels[i] {
			f := (p - Levels[i-1]) / (Levels[i] - Levels[i-1])
			return q[i-1] + f*(q[i]-q[i-1])
		}
	}
	return q[NumLevels-1]
}

// Exceed is the probability that the demand in the slot is above x, by linear
// interpolation between levels; it never says more than the outer levels allow.
func (d Dist) Exceed(slot int, x float32) float32 {
	q := d.At(slot)
	if x < q[0] {
		return 1 - Levels[0]/2
	}
	for i := 1; i < NumLevels; i++ {
		if x < q[i] {
			f := (x - q[i-1]) / (q[i] - q[i-1])
			return 1 - (Levels[i-1] + f*(Levels[i]-Levels[i-1]))
		}
	}
	if x == q[NumLevels-1] {
		return 1 - Levels[NumLevels-1]
	}
	return (1 - Levels[NumLevels-1]) / 2
}

// Resource indexes what a host can run short of.
type Resource uint8

// The resources, in the order of every vector.
const (
	CPU Resource = iota
	Memory
	Net
	Disk
	NumResources = 4
)

var resourceNames = [NumResources]string{"cpu", "memory", "net", "disk"}

func (r Resource) String() string {
	if int(r) < len(resourceNames) {
		return resourceNames[r]
	}
	return "unknown"
}

// Vec is one value per [Resource]: mCPU, bytes, bytes/s, bytes/s.
type Vec [NumResources]float64

// NumScenarios is K: joint past paths, the last one being persistence.
const NumScenarios = 13

// ScenarioResources are the resources that scenarios carry: CPU and Memory.
const ScenarioResources = 2

// Scenarios are the joint paths of one VM: D[(k*Slots+slot)*ScenarioResources+r].
// Scenario k of every VM follows the same past origin, so that co-bursts survive
// a sum over VMs. Weight[k*Slots+slot] sums to 1 over k for each slot and is the
// same for all VMs of a message.
type Scenarios struct {
	Weight []float32
	D      []float32
}
