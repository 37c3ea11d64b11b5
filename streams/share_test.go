package streams_test

import (
	"context"
	"testing"
	"time"

	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
	"pgregory.net/rapid"
)

// patience is how long a state is waited for that comes within seconds by itself.
const patience = 30 * time.Second

// settled waits until every part is held by exactly one of the members, each of whom
// holds what it should, and gives how many parts each has.
func settled(t *testing.T, shares ...*streams.Share) []int {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		count, holders, agreed := make([]int, len(shares)), map[int]int{}, true
		for i, s := range shares {
			v := s.View()
			agreed = agreed && v.Members == len(shares)
			for p := range v.Held {
				if v.Held[p] != 0 {
					count[i]++
					holders[p]++
				}
				agreed = agreed && (v.Held[p] != 0) == v.Mine[p]
			}
		}
		one := len(holders) == parts
		for _, n := range holders {
			one = one && n == 1
		}
		if one && agreed {
			return count
		}
		if time.Now().After(deadline) {
			t.Fatalf("not settled after %v: %v of %d parts held", patience, count, len(holders))
		}
		// Whoever is asked for a part gives it up, as a service does when it is done.
		for _, s := range shares {
			v := s.View()
			for p := range v.Wanted {
				s.SetReady(p, v.Mine[p])
				if v.Wanted[p] {
					s.Release(p)
				}
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

const parts = 64

// TestShareJoinCrashLeave lets members join, die without a word and leave: at every
// rest each part has one holder, epochs rise, and nobody has more than an even share.
// Leases run out within the patience where a member dies, and long after it where one
// leaves: that the others have its parts shows that it has given them up.
func TestShareJoinCrashLeave(t *testing.T) {
	srv := streamstest.Start(t)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	join := func(group string, ttl time.Duration) (*streams.Share, *streams.Bus, context.CancelFunc) {
		bus := streamstest.Connect(t, srv, streams.RoleForecaster)
		ctx, cancel := context.WithCancel(ctx)
		s, err := bus.Join(ctx, group, parts, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return s, bus, cancel
	}
	const short = 400 * time.Millisecond
	a, _, _ := join("forecaster", short)
	if n := settled(t, a); n[0] != parts {
		t.Fatalf("alone: %v", n)
	}
	before := a.View().Held
	b, busB, _ := join("forecaster", short)
	c, _, _ := join("forecaster", short)
	for _, n := range settled(t, a, b, c) {
		if n > (parts+2)/3 || n < parts/4 {
			t.Errorf("uneven: %d of %d", n, parts)
		}
	}
	for p, r := range b.View().Held {
		if r != 0 && r <= before[p] {
			t.Errorf("part %d: epoch %d after %d", p, r, before[p])
		}
	}
	busB.Tel.NC.Close() // as good as kill -9 to the others
	settled(t, a, c)

	d, _, leaveD := join("leaver", 10*patience)
	e, _, _ := join("leaver", 10*patience)
	settled(t, d, e)
	leaveD()
	<-d.Done()
	settled(t, e)
}

// TestDivide: nobody has more than an even share, everything has an owner,
// and the order of the members does not matter.
func TestDivide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,8}`), 1, 12, rapid.ID[string]).Draw(t, "members")
		got := streams.Divide("g", names, parts)
		count := map[string]int{}
		for p, o := range got {
			if o == "" {
				t.Fatalf("part %d has no owner", p)
			}
			count[o]++
		}
		for m, n := range count {
			if n > (parts+len(names)-1)/len(names) {
				t.Fatalf("%s has %d", m, n)
			}
		}
		perm := rapid.Permutation(names).Draw(t, "order")
		for p, o := range streams.Divide("g", perm, parts) {
			if o != got[p] {
				t.Fatalf("part %d: %s or %s", p, o, got[p])
			}
		}
	})
}
