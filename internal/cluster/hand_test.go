package cluster

import (
	"testing"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// still is a cluster in which nothing has happened yet, with a copy of its first guest on
// a host where it does not run.
func still(t *testing.T) (*world, *guest, *host) {
	t.Helper()
	w := newWorld(1, Options{Days: .01, Kind: "storm"}, migration.DefaultRules(), false)
	g := w.guests[0]
	g.local = false
	h := w.hosts[0]
	if g.running() == h {
		h = w.hosts[1]
	}
	return w, g, h
}

// TestResumedAndReleased: a record says both of one epoch only where a person let a copy
// run that had been given up and was there still.
func TestResumedAndReleased(t *testing.T) {
	for _, x := range []struct {
		what    string
		hand    bool
		state   migration.Copy
		was, is migration.Record
		broken  bool
	}{
		{"a person starts what was given up", true, migration.Running, migration.Record{Prepared: 7, Released: 7}, migration.Record{Prepared: 7, Released: 7, Resumed: 7, Ran: 7}, false},
		{"and it is written again", false, migration.Absent, migration.Record{Prepared: 7, Released: 7, Resumed: 7}, migration.Record{Prepared: 7, Released: 7, Resumed: 7, Ran: 7}, false},
		{"the actuator resumes what was given up", false, migration.Running, migration.Record{Prepared: 7, Released: 7}, migration.Record{Prepared: 7, Released: 7, Resumed: 7}, true},
		{"what a person started stands still", true, migration.Paused, migration.Record{Prepared: 7, Released: 7}, migration.Record{Prepared: 7, Released: 7, Resumed: 7}, true},
		{"what a person started is given up", true, migration.Running, migration.Record{Prepared: 7, Resumed: 7}, migration.Record{Prepared: 7, Released: 7, Resumed: 7}, true},
		{"another epoch", false, migration.Running, migration.Record{Prepared: 7, Released: 7}, migration.Record{Prepared: 9, Released: 7, Resumed: 9}, false},
	} {
		w, g, h := still(t)
		j := &h.act.journal
		j.mem.recs[g.index] = x.was
		c := g.at(h)
		c.state, c.hand = x.state, x.hand
		j.judge(&entry{g: g, record: &x.is})
		if got := w.bad != nil; got != x.broken {
			t.Errorf("%s: %v", x.what, w.bad)
		}
	}
}

// TestUndefinedAfterItRan: the definition of a VM that ran there last may go only where
// nobody could know: a person had let it run, and no look fell into that time.
func TestUndefinedAfterItRan(t *testing.T) {
	for _, x := range []struct {
		what         string
		hand, looked bool
		broken       bool
	}{
		{"by hand, and nobody looked", true, false, false},
		{"by hand, and its host saw it run", true, true, true},
		{"by its actuator", false, false, true},
	} {
		w, g, h := still(t)
		g.hurt = 1 // what becomes of its other copy is not asked here
		at := g.running()
		g.set(at, migration.Paused, "test")
		c := g.at(h)
		c.state, c.whole, c.hand = migration.Paused, true, x.hand
		for c.state != migration.ShutOff { // its definition stays at one death in two
			c.hand = x.hand
			g.set(h, migration.Running, "test")
			if c.seen = false; x.looked {
				if _, err := h.look(g); err != nil {
					t.Fatal(err)
				}
			}
			h.qemuEnds(g, "test")
		}
		h.disk.flushed.recs[g.index].Asked = 7
		if err := h.release(g, 7, 0); err != nil {
			t.Fatal(err)
		}
		if got := w.bad != nil; got != x.broken {
			t.Errorf("%s: %v", x.what, w.bad)
		}
	}
}

// TestWhoHoldsMemory: a VM that its host's report calls off holds no memory there, as in
// docs/POLICY.md, and is still one of those that a rule may keep others apart from.
func TestWhoHoldsMemory(t *testing.T) {
	for state, off := range map[schemas.VMState]bool{schemas.VMRunning: false, schemas.VMPaused: false, schemas.VMShutOff: true, schemas.VMCrashed: true} {
		w, g, h := still(t)
		w.nats.streams[streams.Capacity].lastOf[streams.SubjectCapacityHost(h.id)] = &message{seq: 1, msg: &schemas.CapacityHost{VMs: []schemas.InventoryVM{{VM: g.id, State: state}}}}
		there, not := w.seenOn(h, &schemas.Plan{Cut: schemas.Cut{Seq: map[string]uint64{streams.Capacity: 1}}})
		if len(there) != 1 || there[0] != g || not[g] != off {
			t.Errorf("%s: %v, off %v", state, there, not)
		}
	}
}
