// Package trust learns how far the last measured demand is to be believed against the
// paths of a forecast.
//
// A forecast's scenarios are paths seen after past origins, and one in which what is now
// persists. How much that one weighs within the next hour is a guess that came with the
// forecast; a host whose demand mostly stays where it is deserves more of it, one that
// follows its usual day less.
//
// What comes in: at each closed step, by host, what each path said of its sum of CPU
// demand a few steps ahead, and what the sum then was. What goes out: the weight of
// persistence for each range of leads, or none, where the forecast's own stands.
//
// What is promised:
//
//   - The weight is that of least continuous ranked probability score of the host's sum
//     (Gneiting and Raftery, JASA 2007), which for a mixture is a parabola in the weight:
//     five sums suffice, and nothing is searched. Old steps fade with a half-life of
//     three days of steps.
//   - It is drawn towards the forecast's own, never further from it than [Reach], and in
//     force only after a day of steps and where it is better by a hundredth: with few or
//     poor data the safe default holds.
//   - A host whose VMs changed in between tells nothing, and counts for nothing.
//   - Memory is bounded: at most [MaxHosts] hosts are followed.
//   - The state is a value, part of the placer's snapshot, and pure.
//
// Why the host's sum and not each VM: the sum is what a placement is judged by, and errors
// of VMs that burst together do not average out in it.
package trust

import (
	"math"

	"github.com/foreshift/foreshift/schemas"
)

// Buckets is how many ranges of leads have a weight of their own.
const Buckets = 3

// Bounds of what is learned.
const (
	Reach    = .3      // a weight's greatest distance from the forecast's own
	Most     = .8      // and its highest value
	MaxHosts = 256     // that are followed
	before   = 288     // steps, a day of them, before anything is in force
	halfLife = 3 * 288 // steps after which an observation counts half
	better   = .01     // least share of the score that a weight must save
	paths    = schemas.NumScenarios - 1
)

// Leads are the steps ahead at which forecasts are judged, one for each bucket.
var Leads = [Buckets]schemas.Step{2, 6, 24}

// ends are the first slots after each bucket: 15 minutes, an hour, three hours of
// 5-minute steps.
var ends = [Buckets]int{3, 12, 20}

// Bucket is the range that a slot belongs to, -1 beyond all.
func Bucket(slot int) int {
	for b, end := range ends {
		if slot < end {
			return b
		}
	}
	return -1
}

// Guess is what was said of one host's sum of CPU demand, as shares of its capacity.
type Guess struct {
	Host  schemas.HostID
	VMs   uint64 // a hash of the VMs it is the sum of
	Stays float32
	Paths [paths]float32
}

// Seen is what one host's sum is now.
type Seen struct {
	Host schemas.HostID
	VMs  uint64
	Load float64
}

// Origin are the guesses of one step.
type Origin struct {
	Step    schemas.Step
	Own     float64 // the forecast's weight of persistence at that lead
	Guesses []Guess
}

// Sums are what a bucket has seen, faded. The score of weight w, but for a constant, is
//
//	w*Stays + (1-w)*Paths - (1-w)^2/2*Among - w*(1-w)*Between
type Sums struct {
	Steps                        float64 // that had any host
	Stays, Paths, Among, Between float64 // mean distances, summed over hosts
	Own                          float64 // of the forecast, summed over steps
}

// State is all that is learned and waited for. The zero value knows nothing.
type State struct {
	Sums    [Buckets]Sums
	Waiting [Buckets][]Origin // in order of their steps
	Force   [Buckets]float64  // weight in force
	On      [Buckets]bool     // whether there is one
	Given   bool              // Force was given, as in a replay: it stays
}

// Give puts weights in force for good: below 0 is none.
func (s *State) Give(weights []float64) {
	*s = State{Given: true}
	for b := range min(Buckets, len(weights)) {
		if w := weights[b]; w >= 0 && w <= 1 {
			s.Force[b], s.On[b] = w, true
		}
	}
}

// Weights are those in force, -1 for none; nil where there are none at all.
func (s *State) Weights() []float64 {
	if s.On == [Buckets]bool{} {
		return nil
	}
	out := make([]float64, Buckets)
	for b := range out {
		if out[b] = -1; s.On[b] {
			out[b] = s.Force[b]
		}
	}
	return out
}

// Settle puts what was learned so far in force.
func (s *State) Settle() {
	if s.Given {
		return
	}
	for b := range s.Sums {
		s.Force[b], s.On[b] = s.Sums[b].weight()
	}
}

// weight is the best that the sums tell, ok when it is to be used.
func (u *Sums) weight() (w float64, ok bool) {
	bend := 2*u.Between - u.Among
	if u.Steps < before || !(bend > 0) {
		return 0, false
	}
	own := min(max(u.Own/u.Steps, 0), 1)
	best := (u.Paths - u.Stays - u.Among + u.Between) / bend
	w = (u.Steps*best + before*own) / (u.Steps + before)
	w = min(max(w, own-Reach, 0), own+Reach, Most)
	if !schemas.Finite(w) || u.score(own)-u.score(w) < better*math.Abs(u.score(own)) {
		return 0, false
	}
	return w, true
}

func (u *Sums) score(w float64) float64 {
	return w*u.Stays + (1-w)*u.Paths - (1-w)*(1-w)/2*u.Among - w*(1-w)*u.Between
}

// Expect notes a step's guesses for bucket b.
func (s *State) Expect(b int, o Origin) {
	if len(o.Guesses) == 0 || s.Given {
		return
	}
	o.Guesses = o.Guesses[:min(MaxHosts, len(o.Guesses))]
	s.Waiting[b] = append(s.Waiting[b], o)
}

// Learn compares what was expected of this step with what is: seen in order of hosts.
func (s *State) Learn(now schemas.Step, seen []Seen) {
	if s.Given {
		return
	}
	by := make(map[schemas.HostID]*Seen, len(seen))
	for i := range seen {
		by[seen[i].Host] = &seen[i]
	}
	fade := math.Exp2(-1. / halfLife)
	for b := range s.Waiting {
		kept := s.Waiting[b][:0]
		for i := range s.Waiting[b] {
			switch o := &s.Waiting[b][i]; {
			case o.Step+Leads[b] > now:
				kept = append(kept, *o)
			case o.Step+Leads[b] == now:
				s.Sums[b].learn(o, by, fade)
			}
		}
		clear(s.Waiting[b][len(kept):])
		s.Waiting[b] = kept
	}
}

func (u *Sums) learn(o *Origin, by map[schemas.HostID]*Seen, fade float64) {
	n, add := 0, Sums{}
	for i := range o.Guesses {
		g := &o.Guesses[i]
		if is := by[g.Host]; is != nil && is.VMs == g.VMs {
			n++
			add.count(g, is.Load)
		}
	}
	if n == 0 {
		return
	}
	// A step counts as one, however many hosts it had: what happens to them at once is
	// mostly one thing.
	k := 1 / float64(n)
	*u = Sums{fade*u.Steps + 1, fade*u.Stays + k*add.Stays, fade*u.Paths + k*add.Paths, fade*u.Among + k*add.Among, fade*u.Between + k*add.Between, fade*u.Own + o.Own}
}

func (u *Sums) count(g *Guess, load float64) {
	stays := float64(g.Stays)
	u.Stays += math.Abs(stays - load)
	var off, among, between float64
	for j, x := range g.Paths {
		off += math.Abs(float64(x) - load)
		between += math.Abs(float64(x) - stays)
		for _, y := range g.Paths[:j] {
			among += 2 * math.Abs(float64(x)-float64(y))
		}
	}
	u.Paths += off / paths
	u.Between += between / paths
	u.Among += among / (paths * paths)
}

// Apply gives the weights by slot and scenario, slot-major with k scenarios of which the
// last is persistence, as they are in force; w itself where none is. The others keep
// their proportions.
func (s *State) Apply(w []float32, k int) []float32 {
	if k != schemas.NumScenarios || s.On == [Buckets]bool{} {
		return w
	}
	out := append([]float32(nil), w...)
	for slot := range len(w) / k {
		b := Bucket(slot)
		if b < 0 || !s.On[b] {
			continue
		}
		at := out[slot*k:][:k]
		was := float64(at[k-1])
		if was >= 1 {
			continue // there are no paths to share with
		}
		for j := range at[:k-1] {
			at[j] *= float32((1 - s.Force[b]) / (1 - was))
		}
		at[k-1] = float32(s.Force[b])
	}
	return out
}
