package spool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func fill(t *testing.T, r *Ring, from, to, size int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := r.Put(Record{"metrics.h", fmt.Sprint(i), "metrics", bytes.Repeat([]byte{byte(i)}, size)}); err != nil {
			t.Fatal(err)
		}
	}
}

func take(t *testing.T, r *Ring) (ids []string) {
	t.Helper()
	if err := r.Take(func(m Record) error {
		var i int
		if _, err := fmt.Sscan(m.ID, &i); err != nil || m.Subject != "metrics.h" || m.Kind != "metrics" || len(m.Data) == 0 || m.Data[0] != byte(i) {
			t.Fatalf("%+v", m)
		}
		ids = append(ids, m.ID)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ids
}

// TestRingKeepsTheNewest: over its bound the oldest go, counted; the rest is there after
// a restart, in order, and is taken once.
func TestRingKeepsTheNewest(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(dir, 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	const n, size = 1000, 10_000
	fill(t, r, 0, n, size)
	if r.Bytes() > 4<<20 || r.Dropped == 0 {
		t.Fatalf("%d bytes, %d dropped", r.Bytes(), r.Dropped)
	}
	dropped := int(r.Dropped)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = Open(dir, 4<<20); err != nil {
		t.Fatal(err)
	}
	fill(t, r, n, n+1, size)
	dropped += int(r.Dropped)
	ids := take(t, r)
	if len(ids)+dropped != n+1 || ids[len(ids)-1] != fmt.Sprint(n) || ids[0] != fmt.Sprint(dropped) {
		t.Fatalf("%d taken from %s to %s, %d dropped", len(ids), ids[0], ids[len(ids)-1], dropped)
	}
	if !r.Empty() || len(take(t, r)) != 0 || r.Bytes() != 0 {
		t.Fatal("taken twice")
	}
}

// TestRingGoesOnWhereItFailed: what was not taken is handed out again.
func TestRingGoesOnWhereItFailed(t *testing.T) {
	r, err := Open(t.TempDir(), 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, r, 0, 300, 10_000)
	away, n := errors.New("away"), 0
	if err := r.Take(func(Record) error {
		if n++; n > 150 {
			return away
		}
		return nil
	}); !errors.Is(err, away) {
		t.Fatal(err)
	}
	ids := take(t, r)
	if len(ids) < 150 || ids[len(ids)-1] != "299" {
		t.Fatalf("%d, to %s", len(ids), ids[len(ids)-1])
	}
}

// TestTornAndDamaged: a torn end and a flipped bit end their segment, not the agent.
func TestTornAndDamaged(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(dir, 8<<20)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, r, 0, 250, 10_000)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(files[1], 12345); err != nil {
		t.Fatal(err)
	}
	if r, err = Open(dir, 8<<20); err != nil {
		t.Fatal(err)
	}
	ids := take(t, r)
	if r.Damaged != 2 || len(ids) < 50 || ids[0] != "0" || ids[len(ids)-1] != "249" {
		t.Fatalf("%d damaged, %d taken to %s", r.Damaged, len(ids), ids[len(ids)-1])
	}
	if _, err := Open(dir, 100); err == nil {
		t.Fatal("took a bound of 100 bytes")
	}
}
