package main

import (
	"os"
	"path/filepath"
	"testing"
)

// Two copies of one guest that both write are told apart at the second one's next
// look, although they agree on every number.
func TestDiskNoticesASecondWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, pageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a := &disk{f: f, page: make([]byte, pageSize)}
	write := func(d *disk, now int64) {
		t.Helper()
		if err := d.write(now); err != nil {
			t.Fatal(err)
		}
	}
	for now := range int64(5) {
		write(a, now)
	}
	if a.alien != 0 || a.writes != 5 {
		t.Fatalf("alone: %+v", a)
	}
	b := *a // moved: the copy that goes on finds its own record
	b.page = make([]byte, pageSize)
	write(&b, 10)
	if b.alien != 0 {
		t.Fatalf("after a move: %+v", b)
	}
	write(a, 11) // and the stale one wakes
	if a.alien != 1 {
		t.Fatalf("the stale copy's own look: %+v", a)
	}
	write(&b, 12)
	if b.alien != 1 {
		t.Fatalf("the running copy's look: %+v", b)
	}
}

// A copy of a larger disk that has lost a write of the past is noticed within a turn.
func TestDiskNoticesALostWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 9*pageSize), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := &disk{f: f, page: make([]byte, pageSize), slots: 8}
	turns := func(n int) {
		t.Helper()
		for range n {
			if err := d.write(1); err != nil {
				t.Fatal(err)
			}
		}
	}
	turns(20)
	if d.alien != 0 {
		t.Fatalf("whole: %+v", d)
	}
	if _, err := f.WriteAt(make([]byte, pageSize), 3*pageSize); err != nil {
		t.Fatal(err)
	}
	turns(8)
	if d.alien != 1 {
		t.Fatalf("a lost write: %+v", d)
	}
}
