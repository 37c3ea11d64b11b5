package share

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/foreshift/foreshift/schemas"
)

const (
	mb  = 1e6
	now = schemas.Time(1_700_000_000e9)
)

func after(seconds float64) schemas.Time {
	return now.Add(time.Duration(seconds * float64(time.Second)))
}

func divide(l Link, moves ...Move) []Share {
	dst := make([]Share, len(moves))
	new(Divider).Divide(now, l, moves, dst)
	return dst
}

func TestDivide(t *testing.T) {
	link := Link{Rate: 110 * mb, Reserved: 10 * mb}
	run := func(left, dirty, deadline float64) Move {
		return Move{Remaining: schemas.Bytes(left * mb), Dirty: schemas.BytesPerSecond(dirty * mb), Deadline: after(deadline), Running: true}
	}
	wait := func(left, dirty, deadline float64) Move {
		m := run(left, dirty, deadline)
		m.Running = false
		return m
	}
	capped := func(m Move, ceiling float64) Move { m.Ceiling = schemas.BytesPerSecond(ceiling * mb); return m }
	for _, c := range []struct {
		name  string
		link  Link
		moves []Move
		want  string
	}{
		{"one has it all", link, []Move{run(1000, 10, 100)}, "100.0"},
		{"two without hurry share evenly", link, []Move{run(1000, 0, 1e5), run(1000, 0, 1e5)}, "50.0 50.0"},
		{"floors come first", link, []Move{run(10, 60, 1e5), run(10, 4, 1e5)}, "75.0 25.0"},
		{"a deadline asks for more", link, []Move{run(640, 0, 12), run(100, 0, 1e5)}, "80.0 20.0"},
		{"what one cannot use, others get", link, []Move{capped(run(100, 0, 1e5), 10), run(100, 0, 1e5)}, "10.0 90.0"},
		{"not even the floors fit: the earlier deadline has its own", link, []Move{run(100, 64, 50), run(100, 64, 40)}, "20.0 cannot_converge 80.0"},
		{"other traffic takes more than it is guaranteed", Link{Rate: 110 * mb, Reserved: 10 * mb, Other: 70 * mb}, []Move{run(100, 0, 1e5)}, "40.0"},
		{"other traffic takes all", Link{Rate: 110 * mb, Other: 200 * mb}, []Move{run(100, 1, 1e5), wait(100, 0, 1e5)}, "0.0 cannot_converge waits cannot_converge"},
		{"the second waits for its turn", link, []Move{run(1000, 10, 1e4), wait(100, 10, 1e4)}, "100.0 waits waits_turn"},
		{"unless its deadline does not let it", link, []Move{run(1000, 10, 1e4), wait(900, 0, 20)}, "37.5 62.5"},
		{"or the link would be idle", link, []Move{capped(run(1000, 10, 1e4), 40), wait(100, 10, 1e4)}, "40.0 60.0"},
		{"of two that wait the shorter goes", link, []Move{wait(1000, 10, 1e4), wait(100, 10, 1e4)}, "waits waits_turn 100.0"},
		{"or the one that would be late", link, []Move{wait(1000, 0, 15), wait(600, 0, 1e4)}, "100.0 waits waits_turn"},
		{"it does not converge on what the link leaves", link, []Move{run(1000, 40, 1e4), wait(100, 50, 3)}, "100.0 waits cannot_converge"},
		{"nor on the link alone; it holds up nobody", link, []Move{wait(100, 90, 3), wait(100, 1, 1e5)}, "waits cannot_converge 100.0"},
		{"one that is due is not overtaken for ever", link, []Move{run(1000, 40, 1e4), wait(100, 50, 3), capped(wait(10, 0, 1e4), 5)}, "100.0 waits cannot_converge waits waits_turn"},
		{"a command about to expire starts", link, []Move{run(1000, 10, 1e4), {Remaining: 100 * mb, Deadline: after(1e4), Expires: after(5)}}, "50.0 50.0"},
		{"small changes change nothing", link, []Move{{Remaining: 1e9, Deadline: after(1e5), Running: true, Rate: 49 * mb}, {Remaining: 1e9, Deadline: after(1e5), Running: true, Rate: 50.5 * mb}}, "49.0 50.5"},
		{"large ones do", link, []Move{{Remaining: 1e9, Deadline: after(1e5), Running: true, Rate: 40 * mb}, {Remaining: 1e9, Deadline: after(1e5), Running: true, Rate: 60 * mb}}, "50.0 50.0"},
		{"no move, no share", link, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			for i, s := range divide(c.link, c.moves...) {
				if i > 0 {
					got += " "
				}
				if s.Waits {
					got += "waits"
				} else {
					got += fmt.Sprintf("%.1f", float64(s.Rate)/mb)
				}
				if s.Why != schemas.ReasonOK {
					got += " " + string(s.Why)
				}
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func anyLink(t *rapid.T) Link {
	return Link{Rate: schemas.BytesPerSecond(rapid.Float64Range(0, 1e9).Draw(t, "rate")), Reserved: schemas.BytesPerSecond(rapid.Float64Range(0, 2e8).Draw(t, "reserved")),
		Other: schemas.BytesPerSecond(rapid.Float64Range(0, 1e9).Draw(t, "other"))}
}

func anyMove(t *rapid.T) Move {
	m := Move{Remaining: schemas.Bytes(rapid.Float64Range(0, 1e11).Draw(t, "remaining")), Dirty: schemas.BytesPerSecond(rapid.Float64Range(0, 3e8).Draw(t, "dirty")),
		Running: rapid.Bool().Draw(t, "running")}
	if rapid.Bool().Draw(t, "has ceiling") {
		m.Ceiling = schemas.BytesPerSecond(rapid.Float64Range(1, 1e9).Draw(t, "ceiling"))
	}
	if rapid.Bool().Draw(t, "has deadline") {
		m.Deadline = after(rapid.Float64Range(-100, 1e5).Draw(t, "deadline"))
	}
	if rapid.Bool().Draw(t, "expires") {
		m.Expires = after(rapid.Float64Range(-10, 60).Draw(t, "expiry"))
	}
	if m.Running && rapid.Bool().Draw(t, "has rate") {
		m.Rate = schemas.BytesPerSecond(rapid.Float64Range(0, 1e9).Draw(t, "in force"))
	}
	return m
}

// most is what a move can use of what is left.
func most(m Move, left float64) float64 {
	if m.Ceiling > 0 {
		return min(left, float64(m.Ceiling))
	}
	return left
}

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := anyLink(t)
		moves := rapid.SliceOfN(rapid.Custom(anyMove), 0, 12).Draw(t, "moves")
		dst := divide(l, moves...)
		left := float64(l.Left())
		tiny := 1e-9*left + 1e-3
		var sum, able, floors float64
		for i, s := range dst {
			m := moves[i]
			if s.Waits != (s.Waits && !m.Running) {
				t.Fatalf("move %d runs and is told to wait", i)
			}
			if s.Waits {
				if s.Rate != 0 || s.Why == schemas.ReasonOK {
					t.Fatalf("move %d waits with rate %v and reason %q", i, s.Rate, s.Why)
				}
				continue
			}
			if float64(s.Rate) > most(m, left)+tiny || s.Rate < 0 {
				t.Fatalf("move %d: %v of at most %v", i, s.Rate, most(m, left))
			}
			sum, able, floors = sum+float64(s.Rate), able+most(m, left), floors+min(float64(s.Floor), most(m, left))
		}
		if sum > left+tiny {
			t.Fatalf("%v shared out of %v", sum, left)
		}
		if want := min(left, able); sum < want-Band*left-tiny {
			t.Fatalf("%v shared out, %v could be used", sum, want)
		}
		if floors <= left {
			for i, s := range dst {
				if floor := min(float64(s.Floor), most(moves[i], left)); !s.Waits && float64(s.Rate) < (1-Band)*floor-tiny {
					t.Fatalf("move %d has %v, its floor is %v and all floors fit", i, s.Rate, floor)
				}
			}
		} else {
			// The earliest deadlines have theirs: nobody has more than a floor while another lacks one.
			short := false
			for i, s := range dst {
				short = short || !s.Waits && float64(s.Rate) < (1-Band)*min(float64(s.Floor), most(moves[i], left))-tiny
			}
			for i, s := range dst {
				if short && !s.Waits && float64(s.Rate) > (1+Band)*float64(s.Floor)+Band*left+tiny {
					t.Fatalf("move %d has %v above its floor %v while another lacks its own", i, s.Rate, s.Floor)
				}
			}
		}
	})
}

// A new move starts only where the floors of all that run still fit.
func TestStartsBreakNoFloor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := anyLink(t)
		moves := rapid.SliceOfN(rapid.Custom(anyMove), 1, 12).Draw(t, "moves")
		dst := divide(l, moves...)
		floors, started := 0.0, false
		for i, s := range dst {
			if !s.Waits {
				floors += float64(s.Floor)
				started = started || !moves[i].Running
			}
		}
		if left := float64(l.Left()); started && floors > left*(1+1e-9)+1e-3 {
			t.Fatalf("a move was started: floors %v of %v", floors, left)
		}
	})
}

// Measurements that tremble by half a percent leave every rate as it is.
func TestStableUnderNoise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := anyLink(t)
		moves := rapid.SliceOfN(rapid.Custom(anyMove), 1, 8).Draw(t, "moves")
		d := &Divider{}
		dst := make([]Share, len(moves))
		d.Divide(now, l, moves, dst)
		for i := range moves {
			if !dst[i].Waits {
				moves[i].Running, moves[i].Rate = true, dst[i].Rate
			}
			if dl := moves[i].Deadline; dl != 0 && dl < now.Add(5*time.Second) {
				moves[i].Deadline = now.Add(5 * time.Second) // the last seconds of a deadline are no noise
			}
		}
		d.Divide(now, l, moves, dst)
		for i := range moves {
			if moves[i].Rate = dst[i].Rate; moves[i].Running && moves[i].Rate <= 0 {
				t.Skip("a move that gets nothing has no rate to keep")
			}
		}
		noise := rapid.Float64Range(-.003, .003)
		for i := range moves {
			moves[i].Remaining *= schemas.Bytes(1 + noise.Draw(t, "remaining"))
			moves[i].Dirty *= schemas.BytesPerSecond(1 + noise.Draw(t, "dirty"))
		}
		again := make([]Share, len(moves))
		d.Divide(now, l, moves, again)
		for i := range moves {
			if !again[i].Waits && !dst[i].Waits && again[i].Rate != dst[i].Rate {
				t.Fatalf("move %d: %v became %v", i, dst[i].Rate, again[i].Rate)
			}
		}
	})
}

// hundred moves over one link, most of them running.
func hundred() (Link, []Move) {
	r := rand.New(rand.NewPCG(1, 2))
	moves := make([]Move, 100)
	for i := range moves {
		moves[i] = Move{Remaining: schemas.Bytes(r.Float64() * 8e9), Dirty: schemas.BytesPerSecond(r.Float64() * 1e7), Deadline: after(60 + r.Float64()*1000), Running: i%10 != 0, Rate: 5e6}
	}
	return Link{Rate: 1.25e9, Reserved: 1e8, Other: 5e7}, moves
}

func BenchmarkDivide100(b *testing.B) {
	l, moves := hundred()
	dst := make([]Share, len(moves))
	var d Divider
	d.Divide(now, l, moves, dst)
	b.ReportAllocs()
	for b.Loop() {
		d.Divide(now, l, moves, dst)
	}
}

func TestDivideAllocatesNothing(t *testing.T) {
	l, moves := hundred()
	dst := make([]Share, len(moves))
	var d Divider
	if n := testing.AllocsPerRun(100, func() { d.Divide(now, l, moves, dst) }); n != 0 {
		t.Errorf("%v allocations a division", n)
	}
}
