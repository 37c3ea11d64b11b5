package search

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

// bins is the smallest problem there is: numbers on places, minimise the sum of
// squares of the places' loads; place 0 is closed.
type bins struct {
	size []float64
	at   []int32
	load []float64
}

func newBins(n, places int) *bins {
	b := &bins{load: make([]float64, places)}
	for i := 0; i < n; i++ {
		b.size = append(b.size, float64(1+i%7))
		b.at = append(b.at, 1)
		b.load[1] += b.size[i]
	}
	return b
}

func (b *bins) Propose(r *rand.Rand) Move {
	return Move{Item: int32(r.IntN(len(b.size))), To: int32(r.IntN(len(b.load)))}
}

func (b *bins) Delta(m Move) float64 {
	if m.To == 0 {
		return math.Inf(1)
	}
	a := b.at[m.Item]
	if a == m.To {
		return 0
	}
	x := b.size[m.Item]
	return sq(b.load[a]-x) + sq(b.load[m.To]+x) - sq(b.load[a]) - sq(b.load[m.To])
}

func (b *bins) Apply(m Move) {
	b.load[b.at[m.Item]] -= b.size[m.Item]
	b.load[m.To] += b.size[m.Item]
	b.at[m.Item] = m.To
}

func (b *bins) total() (t float64) {
	for _, x := range b.load {
		t += sq(x)
	}
	return t
}

func sq(x float64) float64 { return x * x }

func TestClimb(t *testing.T) {
	p := newBins(200, 6)
	before := p.total()
	r := Climb(p, rand.New(rand.NewPCG(1, 2)), Budget{Evaluations: 20000}, 1e-9)
	if r.Evaluations != 20000 {
		t.Fatalf("used %d evaluations of 20000", r.Evaluations)
	}
	if p.load[0] != 0 {
		t.Fatalf("the closed place holds %g", p.load[0])
	}
	if got := before - p.total(); math.Abs(got-r.Gained) > 1e-6 {
		t.Fatalf("objective fell by %g, reported %g", got, r.Gained)
	}
	mean := (p.load[1] + p.load[2] + p.load[3] + p.load[4] + p.load[5]) / 5
	for h, l := range p.load[1:] {
		if math.Abs(l-mean) > 1 {
			t.Errorf("place %d holds %g, want about %g", h+1, l, mean)
		}
	}
	again := newBins(200, 6)
	if r2 := Climb(again, rand.New(rand.NewPCG(1, 2)), Budget{Evaluations: 20000}, 1e-9); r2 != r || !reflect.DeepEqual(again.at, p.at) {
		t.Error("the same seed and count gave another placement")
	}
}

// A search that a deadline cut is repeated exactly by the count it recorded.
func TestStopIsRepeatable(t *testing.T) {
	cut := newBins(50, 4)
	polls := 0
	r := Climb(cut, rand.New(rand.NewPCG(3, 4)), Budget{Evaluations: 1 << 20, Stop: func() bool { polls++; return polls > 2 }}, 0)
	if r.Evaluations != 3*4096-1 {
		t.Fatalf("stopped after %d evaluations, want %d", r.Evaluations, 3*4096-1)
	}
	again := newBins(50, 4)
	Climb(again, rand.New(rand.NewPCG(3, 4)), Budget{Evaluations: r.Evaluations}, 0)
	if !reflect.DeepEqual(again.at, cut.at) {
		t.Error("the recorded count does not repeat the search")
	}
}
