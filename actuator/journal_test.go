package actuator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

func opened(t *testing.T, dir string) *journal {
	t.Helper()
	j, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func written(t *testing.T, j *journal, e entry) {
	t.Helper()
	if err := j.write(e); err != nil {
		t.Fatal(err)
	}
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	vm, other := schemas.VMID{1}, schemas.VMID{2}
	j := opened(t, dir)
	written(t, j, entry{VM: vm, Fence: 7, ID: "c7", Why: &schemas.Reason{Code: schemas.ReasonExpired}})
	written(t, j, entry{VM: vm, Fence: 9, ID: "c9", Move: &moveRecord{Mark: migration.MarkAccepted, Epoch: 9, Command: &schemas.Command{ID: "c9", VM: vm}}})
	written(t, j, entry{VM: vm, Move: &moveRecord{Mark: migration.MarkHanded, Epoch: 9, Command: &schemas.Command{ID: "c9", VM: vm}}})
	written(t, j, entry{VM: other, Record: &migration.Record{Fence: 30, Prepared: 30}})
	written(t, j, entry{VM: vm, Fence: 12, Spare: true, ID: "c12", Why: &schemas.Reason{Code: schemas.ReasonMoving}}) // beside the move: it goes on
	check := func(j *journal) {
		t.Helper()
		if g, ok := j.seen("c12"); !ok || g.why == nil || g.seq != 12 {
			t.Fatalf("c12: %+v %v", g, ok)
		}
		if j.fence(vm) != 9 || j.fence(other) != 30 || j.record(other).Prepared != 30 {
			t.Fatalf("fences %d %d, record %+v", j.fence(vm), j.fence(other), j.record(other))
		}
		if g, ok := j.seen("c7"); !ok || g.why == nil || g.seq != 7 {
			t.Fatalf("c7: %+v %v", g, ok)
		}
		if open := j.open(); len(open) != 1 || open[0].Mark != migration.MarkHanded || open[0].Command.ID != "c9" {
			t.Fatalf("open %+v", open)
		}
	}
	check(j)
	if err := j.compact(); err != nil {
		t.Fatal(err)
	}
	check(j)
	if err := j.close(); err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(dir, "journal")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Torn at any byte of its end: what was whole before is there, and it can go on.
	next, err := appendEntry(nil, entry{VM: vm, Fence: 99})
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(next) {
		if err := os.WriteFile(path, append(append([]byte(nil), whole...), next[:cut]...), 0o600); err != nil {
			t.Fatal(err)
		}
		j := opened(t, dir)
		check(j)
		if cut%16 == 0 {
			written(t, j, entry{VM: vm, Fence: 8}) // lower: changes nothing
			check(j)
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
	}
	// Damage before the end is an error: nobody knows what was promised.
	bad := append([]byte(nil), whole...)
	bad[20] ^= 1
	if err := os.WriteFile(path, append(bad, next...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openJournal(dir); !errors.Is(err, errDamaged) {
		t.Fatalf("opened a damaged journal: %v", err)
	}
}

func TestJournalIsBounded(t *testing.T) {
	j := opened(t, t.TempDir())
	defer func() {
		if err := j.close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range journalIDs + 100 {
		j.fold(entry{VM: schemas.VMID{1}, Fence: uint64(i), ID: schemas.CommandID(fmt.Sprint(i))})
	}
	if len(j.ids) != journalIDs || len(j.order) != journalIDs {
		t.Fatalf("%d ids, %d in order", len(j.ids), len(j.order))
	}
	if _, ok := j.seen("0"); ok {
		t.Fatal("the oldest id is kept for ever")
	}
	j.size = journalBytes // as if it had grown
	written(t, j, entry{VM: schemas.VMID{1}, Fence: 1e6})
	if j.size >= journalBytes {
		t.Fatalf("%d bytes after compaction", j.size)
	}
	if j.fence(schemas.VMID{1}) != 1e6 {
		t.Fatal("fence lost by compaction")
	}
}

// TestJournalFails: what cannot be written has not happened.
func TestJournalFails(t *testing.T) {
	j := opened(t, t.TempDir())
	if err := j.f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := j.write(entry{VM: schemas.VMID{1}, Fence: 5}); err == nil {
		t.Fatal("a write to a closed file succeeded")
	}
	if j.fence(schemas.VMID{1}) != 0 {
		t.Fatal("counted as done")
	}
	if err := j.write(entry{VM: schemas.VMID{1}, Fence: 5}); err == nil {
		t.Fatal("went on after the file broke")
	}
}

func FuzzJournal(f *testing.F) {
	good, err := appendEntry(nil, entry{VM: schemas.VMID{1}, Fence: 7, ID: "c7"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(good, good[:10]...))
	f.Add([]byte("0000000000000000 {}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		j := &journal{fences: map[schemas.VMID]uint64{}, moves: map[schemas.VMID]moveRecord{}, recs: map[schemas.VMID]migration.Record{}, ids: map[schemas.CommandID]judged{}}
		if n, err := j.replay(b); n > len(b) || err == nil && n < len(b) && n > 0 && b[n-1] != '\n' {
			t.Fatalf("%d of %d bytes, %v", n, len(b), err)
		}
	})
}
