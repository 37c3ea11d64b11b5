package main

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestScheduleLevels(t *testing.T) {
	s, err := ParseSchedule("0:10,30:10,45:60,60:60,65:10", 72*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sec  float64
		want float64
	}{
		{0, .10}, {29, .10}, {37.5, .35}, {45, .60}, {59, .60}, {62.5, .35}, {65, .10}, {71, .10},
		{72 + 37.5, .35},       // the next day
		{72*24e6 + 37.5, .35},  // as far from the epoch as today
		{-72 + 37.5, .35},      // and before it
		{72*24e6 + 62.5, .350}, // still to the millisecond
	} {
		got := s.Level(time.Duration(c.sec * float64(time.Second)))
		if math.Abs(got-c.want) > 1e-6 {
			t.Errorf("level at %v s = %v, want %v", c.sec, got, c.want)
		}
	}
}

func TestScheduleReturnsToItsStart(t *testing.T) {
	s, err := ParseSchedule("0:20,36:80", 72*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Level(54 * time.Second); math.Abs(got-.5) > 1e-9 {
		t.Errorf("half way back = %v, want 0.5", got)
	}
}

func TestScheduleRefuses(t *testing.T) {
	for _, bad := range []string{"", "10", "0:x", "x:1", "5:10", "0:10,0:20", "0:10,30:20,20:1", "0:101", "0:-1", "0:NaN", "NaN:1", "0:1,72:2", "0:1,-3:2"} {
		if _, err := ParseSchedule(bad, 72*time.Second); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if _, err := ParseSchedule("0:1", 0); err == nil {
		t.Error("a period of zero was accepted")
	}
}

// The level never leaves the range of the corners and never jumps, whatever the
// curve.
func TestScheduleIsBoundedAndContinuous(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := Schedule{Period: 60 * time.Second, points: []point{{0, rapid.Float64Range(0, 1).Draw(r, "first")}}}
		at := time.Duration(0)
		for range rapid.IntRange(0, 8).Draw(r, "corners") {
			at += time.Duration(rapid.Int64Range(int64(time.Second), int64(6*time.Second)).Draw(r, "gap"))
			s.points = append(s.points, point{at, rapid.Float64Range(0, 1).Draw(r, "level")})
		}
		x := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(r, "t"))
		a, b := s.Level(x), s.Level(x+time.Millisecond)
		if a < 0 || a > 1 {
			r.Fatalf("level %v at %v", a, x)
		}
		if math.Abs(a-b) > .0011 { // at most 1 per second
			r.Fatalf("jump from %v to %v at %v", a, b, x)
		}
	})
}

func FuzzParseSchedule(f *testing.F) {
	f.Add("0:10,30:10,45:60")
	f.Add("0:1e3")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSchedule(text, time.Minute)
		if err != nil {
			return
		}
		for _, x := range []time.Duration{0, time.Second, 59 * time.Second, time.Hour} {
			if l := s.Level(x); !(l >= 0 && l <= 1) {
				t.Fatalf("%q: level %v at %v", text, l, x)
			}
		}
	})
}

func TestParameters(t *testing.T) {
	p := parseParameters("console=ttyS0 quiet lab.name=vm1 lab.wss=16 lab.load=0:10,30:20 lab.flag")
	for k, want := range map[string]string{"name": "vm1", "wss": "16", "load": "0:10,30:20", "rate": "", "flag": ""} {
		if got := p[k]; got != want {
			t.Errorf("lab.%s = %q, want %q", k, got, want)
		}
	}
	if n, err := p.number("wss", 64, 0, 1024); err != nil || n != 16 {
		t.Errorf("wss = %v, %v", n, err)
	}
	if n, err := p.number("rate", 4, 0, 1024); err != nil || n != 4 {
		t.Errorf("default rate = %v, %v", n, err)
	}
	p["wss"] = "9999"
	if _, err := p.number("wss", 64, 0, 1024); err == nil {
		t.Error("a working set out of range was accepted")
	}
}

func TestMemoryFindsACorruptPage(t *testing.T) {
	m := newMemory(make([]byte, 8*pageSize))
	for range 24 { // three rounds
		m.touch()
	}
	if m.pages != 24 || m.bad != 0 {
		t.Fatalf("clean memory: pages %d bad %d", m.pages, m.bad)
	}
	m.mem[3*pageSize+5*stride] ^= 1 // one flipped bit, not in the page's first word
	for range 8 {
		m.touch()
	}
	if m.bad != 1 {
		t.Fatalf("after one flipped bit: bad %d, want 1", m.bad)
	}
	for range 8 { // rewritten since: counted once
		m.touch()
	}
	if m.bad != 1 {
		t.Fatalf("a page rewritten was counted again: bad %d", m.bad)
	}
}
