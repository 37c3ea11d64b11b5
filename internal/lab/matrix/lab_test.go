package matrix

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
)

// TestLabMatrix plays the quick cells of the matrix once, and the control: the whole
// is `foreshift lab matrix`.
func TestLabMatrix(t *testing.T) {
	if os.Getenv("FORESHIFT_LAB") != "1" {
		t.Skip("lab skipped: set FORESHIFT_LAB=1 (or run task test:lab) to test on real libvirt and QEMU")
	}
	if os.Geteuid() != 0 {
		t.Skip(lab.ErrNotRoot.Error())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	say := func(s string) { t.Log(s) }
	f, err := Start(ctx, lab.Config{Dir: filepath.Join(t.TempDir(), "lab"), Progress: say})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		left, err := f.Lab.Traces()
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	var quick []Cell
	for _, c := range append(Cells(), SplitCells()...) {
		if c.Quick {
			quick = append(quick, c)
		}
	}
	rep, err := f.Play(ctx, Suite{Cells: quick, Rounds: 1, Control: 1, Say: say})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Results {
		if len(r.Wrong) > 0 {
			t.Errorf("%s at %q: %v\nsteps: %v", r.Cell, r.Step, r.Wrong, r.Trace)
		}
		if !r.Struck {
			t.Errorf("%s: the fault never struck", r.Cell)
		}
	}
	for _, c := range rep.Control {
		if c.Struck && !c.Two() {
			t.Errorf("control, %s: %d copies ran and %d foreign records were seen; plain peer-to-peer was to show two", c.Fault, c.Running, c.Alien)
		}
	}
}
