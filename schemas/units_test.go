package schemas_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/float16"
	"pgregory.net/rapid"

	. "github.com/foreshift/foreshift/schemas"
)

func TestVMIDText(t *testing.T) {
	const canonical = "3f1c8a52-00ab-4000-8000-00000000002a"
	v, err := ParseVMID(canonical)
	if err != nil || v.String() != canonical {
		t.Fatalf("%v, %v", v, err)
	}
	if upper, err := ParseVMID(strings.ToUpper(canonical)); err != nil || upper != v {
		t.Errorf("upper case reads as %v, %v", upper, err)
	}
	for _, bad := range []string{"", "x", canonical[1:], canonical + "0", strings.ReplaceAll(canonical, "-", ""), "{" + canonical[:34] + "}",
		strings.Replace(canonical, "3", "g", 1), strings.Replace(canonical, "-", "_", 1), strings.Repeat("3", 1<<20)} {
		if _, err := ParseVMID(bad); err == nil || len(err.Error()) > 300 {
			t.Errorf("%.50q: error %.400v", bad, err)
		}
	}
	b, err := json.Marshal(map[VMID]VMID{v: v})
	if want := `{"` + canonical + `":"` + canonical + `"}`; err != nil || string(b) != want {
		t.Errorf("JSON is %s, %v", b, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		v := VMID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		if back, err := ParseVMID(v.String()); err != nil || back != v {
			t.Fatalf("%x -> %s -> %x, %v", v, v, back, err)
		}
		if p := v.Partition(); p < 0 || p >= Partitions {
			t.Fatalf("partition %d", p)
		}
	})
}

// A partition is where a VM's history is kept: it may never change.
func TestPartitionIsStable(t *testing.T) {
	for text, want := range map[string]int{
		"00000000-0000-0000-0000-000000000000": 9,
		"3f1c8a52-0000-4000-8000-00000000002a": 56,
		"ffffffff-ffff-ffff-ffff-ffffffffffff": 18,
		"123e4567-e89b-12d3-a456-426614174000": 31,
	} {
		v, err := ParseVMID(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Partition(); got != want {
			t.Errorf("%s is of partition %d, was %d", text, got, want)
		}
	}
	var count [Partitions]int
	for i := range 64000 {
		count[vmOf(i).Partition()]++
	}
	if lo, hi := slices.Min(count[:]), slices.Max(count[:]); lo < 850 || hi > 1150 {
		t.Errorf("64000 VMs give partitions of %d to %d, want about 1000", lo, hi)
	}
	if n := testing.AllocsPerRun(100, func() { vmOfOne.Partition() }); n != 0 {
		t.Errorf("a partition takes %v allocations", n)
	}
}

var vmOfOne = vmOf(1)

func TestGrid(t *testing.T) {
	g := Grid{Start: 1000}
	next := g.Start
	for i := range Slots {
		s, n := g.Slot(i)
		if want := map[bool]int{true: 1}[i < 12] + map[bool]int{true: 3}[i >= 12 && i < 24] + map[bool]int{true: 12}[i >= 24]; s != next || n != want {
			t.Errorf("slot %d is %d steps from %d, want %d from %d", i, n, s, want, next)
		}
		if SlotOffset(i) != int(s-g.Start) || SlotLen(i) != n {
			t.Errorf("slot %d: offset %d, length %d", i, SlotOffset(i), SlotLen(i))
		}
		if SlotsWithin(SlotOffset(i)) != i || SlotsWithin(SlotOffset(i)+1) != i+1 {
			t.Errorf("slots within %d steps: %d", SlotOffset(i), SlotsWithin(SlotOffset(i)))
		}
		next += Step(n)
	}
	if next != g.Start+StepsPerDay {
		t.Errorf("the grid ends at %d", next)
	}
	if SlotsWithin(0) != 0 || SlotsWithin(StepsPerDay) != Slots || SlotsWithin(1<<30) != Slots {
		t.Error("slots within the ends")
	}
	rapid.Check(t, func(t *rapid.T) {
		g := Grid{Start: Step(rapid.Int64Range(-1e6, 1e12).Draw(t, "start"))}
		s := g.Start + Step(rapid.Int64Range(-400, 700).Draw(t, "offset"))
		i := g.SlotOf(s)
		if i < 0 {
			if s >= g.Start && s < g.Start+StepsPerDay {
				t.Fatalf("step %d of a grid from %d is in no slot", s, g.Start)
			}
			return
		}
		if first, n := g.Slot(i); s < first || s >= first+Step(n) {
			t.Fatalf("step %d is said to be in slot %d, which is %d+%d", s, i, first, n)
		}
	})
}

// risingDist draws three slots of a distribution, with flat stretches.
func risingDist(t *rapid.T) Dist {
	d := NewDist()
	for slot := range 3 {
		v := rapid.Float32Range(0, 1e9).Draw(t, "lowest")
		q := d.At(slot)
		for level := range q {
			q[level] = v
			if rapid.Bool().Draw(t, "rises") {
				v += v*rapid.Float32Range(0, 0.5).Draw(t, "by") + 1
			}
		}
	}
	return d
}

func TestDist(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := risingDist(t)
		slot := rapid.IntRange(0, 2).Draw(t, "slot")
		q := d.At(slot)
		p1, p2 := rapid.Float32Range(0, 1).Draw(t, "p1"), rapid.Float32Range(0, 1).Draw(t, "p2")
		if p1 > p2 {
			p1, p2 = p2, p1
		}
		if a, b := d.Quantile(slot, p1), d.Quantile(slot, p2); a > b*(1+1e-6) {
			t.Fatalf("quantile %v is %v, above %v of %v", p1, a, b, p2)
		}
		for i, l := range Levels {
			if v := d.Quantile(slot, l); v != q[i] {
				t.Fatalf("quantile at level %v is %v, want %v", l, v, q[i])
			}
		}
		x, y := rapid.Float32Range(0, 1e10).Draw(t, "x"), rapid.Float32Range(0, 1e10).Draw(t, "y")
		if x > y {
			x, y = y, x
		}
		if a, b := d.Exceed(slot, x), d.Exceed(slot, y); a < b || a > 1 || b < 0 {
			t.Fatalf("P(>%v) = %v, P(>%v) = %v", x, a, y, b)
		}
		// Where the quantiles rise, the two are inverse to each other.
		level := rapid.IntRange(1, NumLevels-1).Draw(t, "level")
		if q[level] > q[level-1]*1.01+1 {
			mid := (Levels[level] + Levels[level-1]) / 2
			if e := d.Exceed(slot, d.Quantile(slot, mid)); math.Abs(float64(e-(1-mid))) > 1e-3 {
				t.Fatalf("P(> quantile %v) = %v", mid, e)
			}
		}
	})
	d := NewDist()
	copy(d.At(0), []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13})
	for _, c := range []struct{ x, want float32 }{{0, 0.995}, {1, 0.99}, {7, 0.5}, {7.5, 0.45}, {13, 0.01}, {14, 0.005}} {
		if got := d.Exceed(0, c.x); math.Abs(float64(got-c.want)) > 1e-6 {
			t.Errorf("P(>%v) = %v, want %v", c.x, got, c.want)
		}
	}
}

func TestTimeJSON(t *testing.T) {
	for text, want := range map[string]Time{
		`""`:                                    0,
		`"2026-03-14T09:26:53.589793238Z"`:      sampleTime,
		`"2026-03-14T10:26:53.589793238+01:00"`: sampleTime,
		`"1971-01-01T00:00:00Z"`:                At(time.Date(1971, 1, 1, 0, 0, 0, 0, time.UTC)),
	} {
		var got Time
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s reads as %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{`"now"`, `7`, `"1970-01-01T00:00:00Z"`, `"2300-01-01T00:00:00Z"`, `"0000-01-01T00:00:00Z"`, `{}`} {
		var got Time
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s reads as %v", bad, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		in := Time(rapid.Int64Range(32e15, 88e17).Draw(t, "ns"))
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out Time
		if err := json.Unmarshal(b, &out); err != nil || out != in {
			t.Fatalf("%d -> %s -> %d, %v", in, b, out, err)
		}
	})
}

func TestSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := time.Duration(rapid.Int64Range(1e6, 864e11).Draw(t, "base"))
		at := Time(rapid.Int64Range(-1e18, 8e18).Draw(t, "time"))
		s := StepAt(at, base)
		if at < s.Start(base) || at >= s.End(base) || s.End(base).Sub(s.Start(base)) != base {
			t.Fatalf("%d is said to be in step %d of %s: %d to %d", at, s, base, s.Start(base), s.End(base))
		}
	})
}

// Every half reads as IEEE 754 says and survives; every number is rounded to the
// nearest half. Arrow's own float16 agrees on the normal ones; it misreads
// subnormals and cuts off instead of rounding, which is why it is not used.
func TestHalf(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		f, want := FromHalf(h), float16.FromBits(h).Float32()
		if h&0x7c00 == 0 {
			want = float32(math.Copysign(math.Ldexp(float64(h&0x3ff), -24), 1-2*float64(h>>15)))
		}
		if nan := h&0x7fff > 0x7c00; nan {
			if !IsNaN(f) {
				t.Fatalf("half %#04x reads as %v", h, f)
			}
			continue
		}
		if math.Float32bits(f) != math.Float32bits(want) {
			t.Fatalf("half %#04x reads as %v, want %v", h, f, want)
		}
		if back := ToHalf(f); back != h {
			t.Fatalf("half %#04x -> %v -> %#04x", h, f, back)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float32Range(-65504, 65504).Draw(t, "number")
		h := ToHalf(f)
		err := math.Abs(float64(FromHalf(h)) - float64(f))
		for _, other := range []uint16{h - 1, h + 1} {
			if v := float64(FromHalf(other)); math.Abs(v-float64(f)) < err {
				t.Fatalf("%v is written as %v, but %v is nearer", f, FromHalf(h), v)
			}
		}
	})
	for f, want := range map[float32]uint16{65519.9: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00, float32(math.Inf(-1)): 0xfc00, 2.9e-8: 0, 3.1e-8: 1, 1 + 1.0/2048: 0x3c00, 1 + 3.0/2048: 0x3c02} {
		if got := ToHalf(f); got != want {
			t.Errorf("%v is written as %#04x, want %#04x", f, got, want)
		}
	}
}
