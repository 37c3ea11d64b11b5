package migration

import (
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/foreshift/foreshift/schemas"
)

// moves is how many random moves one check of rapid makes; rapid makes 100 checks.
const moves = 220

var drawFaults = rapid.Custom(func(t *rapid.T) faults {
	odd := func(name string, most int) int { return rapid.IntRange(0, most).Draw(t, name) }
	return faults{
		Lose: odd("lose", 250), LoseReply: odd("lose-reply", 250), Delay: odd("delay", 200), Double: odd("double", 200),
		Stale: odd("stale", 100), CrashSource: odd("crash-source", 80), CrashDestination: odd("crash-destination", 80),
		PerformFails: odd("perform-fails", 300), PerformLost: odd("perform-lost", 300), DiskFails: odd("disk-fails", 60),
		QEMUDies: odd("qemu-dies", 20), Abort: odd("abort", 200), NoLife: odd("no-life", 300), ShortDeadline: odd("short-deadline", 100),
		Wake: odd("wake", 100), ResumeFails: odd("resume-fails", 300), EndFails: odd("end-fails", 300), Foreign: odd("foreign", 50),
		Stop: odd("stop", 30), Meddle: odd("meddle", 100), Skip: odd("skip", 60),
		BadCommand: odd("bad-command", 100), Peer: odd("peer", 300), LockDies: odd("lock-dies", 60),
		Slow: odd("slow", 100), Wish: odd("wish", 1000), Cut: odd("cut", 200), Old: odd("old", 300),
	}
})

// play makes one random move and gives the world it left behind.
func play(rules *Rules, f faults, seed int64, keep bool) *world {
	w := &world{rng: rand.New(rand.NewSource(seed)), rules: rules, f: f, keep: keep}
	w.run()
	return w
}

// TestRandomMoves: whatever is lost, doubled, reordered and killed, no VM ever runs
// twice, none is lost, and every move ends or is said to be unknown.
func TestRandomMoves(t *testing.T) {
	results := map[schemas.Result]int{}
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		f := drawFaults.Draw(t, "faults")
		seed := rapid.Int64().Draw(t, "seed")
		for i := range int64(moves) {
			w := play(defaultRules, f, seed+i, false)
			if w.bad != "" {
				t.Fatalf("seed %d: %s\n%s", seed+i, w.bad, play(defaultRules, f, seed+i, true).story())
			}
			n++
			switch {
			case w.s.Stage == Ended:
				results[w.result]++
			default:
				results[schemas.ResultUnknown]++
			}
		}
	})
	t.Logf("%d moves: %v", n, results)
	for _, r := range []schemas.Result{schemas.ResultSucceeded, schemas.ResultFailed, schemas.ResultUnknown} {
		if results[r] == 0 {
			t.Errorf("no random move ended as %s: the faults do not reach it", r)
		}
	}
}

// TestEveryGuardIsNeeded leaves out one guard at a time: the same random moves must
// then break an invariant.
func TestEveryGuardIsNeeded(t *testing.T) {
	for _, name := range DefaultRules().Names() {
		t.Run(name, func(t *testing.T) {
			rules, err := defaultRules.Without(name)
			if err != nil {
				t.Fatal(err)
			}
			rng := rand.New(rand.NewSource(1))
			for i := range int64(60000) {
				f := randomFaults(rng)
				if w := play(rules, f, i, false); w.bad != "" {
					t.Logf("after %d moves: %s", i+1, w.bad)
					return
				}
			}
			t.Errorf("60,000 random moves without guard %q broke nothing", name)
		})
	}
}

// TestManyMoves is the long run: FORESHIFT_MOVES=1000000 makes a million random
// moves, by seeds; without it, enough for every push.
func TestManyMoves(t *testing.T) {
	n := int64(10000)
	if s := os.Getenv("FORESHIFT_MOVES"); s != "" {
		var err error
		if n, err = strconv.ParseInt(s, 10, 64); err != nil || n <= 0 {
			t.Fatalf("FORESHIFT_MOVES=%q: want a number of moves", s)
		}
	}
	runbook, err := os.ReadFile("../../docs/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewSource(2))
	unknown, results := map[schemas.ReasonCode]int{}, map[schemas.Result]int{}
	for seed := range n {
		f := randomFaults(rng)
		w := play(defaultRules, f, seed, false)
		if w.bad != "" {
			t.Fatalf("move %d: %s\n%s", seed, w.bad, play(defaultRules, f, seed, true).story())
		}
		if w.unknown {
			unknown[w.why]++
		}
		results[w.result]++
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d moves: %v; reported as UNKNOWN: %v; %.0f CPU-s so far", n, results, unknown, time.Duration(used.Utime.Nano()+used.Stime.Nano()).Seconds())
	for why := range unknown {
		if !strings.Contains(string(runbook), "`"+string(why)+"`") {
			t.Errorf("a move is UNKNOWN for %s, and the runbook says nothing about it", why)
		}
	}
}

func randomFaults(rng *rand.Rand) faults {
	return faults{
		Lose: rng.Intn(250), LoseReply: rng.Intn(250), Delay: rng.Intn(200), Double: rng.Intn(200), Stale: rng.Intn(100),
		CrashSource: rng.Intn(80), CrashDestination: rng.Intn(80), PerformFails: rng.Intn(300), PerformLost: rng.Intn(300),
		DiskFails: rng.Intn(60), QEMUDies: rng.Intn(20), Abort: rng.Intn(200), NoLife: rng.Intn(300), ShortDeadline: rng.Intn(100),
		Wake: rng.Intn(100), ResumeFails: rng.Intn(300), EndFails: rng.Intn(300), Foreign: rng.Intn(50),
		Stop: rng.Intn(30), Meddle: rng.Intn(100), Skip: rng.Intn(60),
		BadCommand: rng.Intn(100), Peer: rng.Intn(300), LockDies: rng.Intn(60),
		Slow: rng.Intn(100), Wish: rng.Intn(1000), Cut: rng.Intn(200), Old: rng.Intn(300),
	}
}

func TestWithoutUnknownGuard(t *testing.T) {
	if _, err := DefaultRules().Without("no-such-guard"); err == nil {
		t.Fatal("want an error for a guard that does not exist")
	}
	if n := len(DefaultRules().Names()); n < 20 {
		t.Fatalf("%d guards", n)
	}
}

func BenchmarkMove(b *testing.B) {
	for i := range b.N {
		if w := play(defaultRules, faults{}, int64(i), false); w.result != schemas.ResultSucceeded {
			b.Fatal(fmt.Sprint(w.result, w.bad))
		}
	}
}
