package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// holder is the process that holds the guest's lease, 0 for none.
func holder(t *testing.T, l *Lab, g *Guest) int32 {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(l.LeaseDir(), leaseKey(g.Name)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		t.Fatal(err)
	}
	if lock.Type == unix.F_UNLCK {
		return 0
	}
	return lock.Pid
}

// runbookLock are the commands that the runbook gives for a disk lock.
func runbookLock(t *testing.T) (out []string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	_, entry, _ := strings.Cut(string(b), "## A peer-to-peer move is refused for `disk_lock`")
	entry, _, _ = strings.Cut(entry, "\n## ")
	inside := false
	for line := range strings.SplitSeq(entry, "\n") {
		if strings.HasPrefix(line, "```") {
			inside = !inside
		} else if inside {
			out = append(out, line)
		}
	}
	return out
}

// TestLabRunbookLock follows what the runbook says of a lock daemon: the lock that was lost
// with it is there again, and a reload keeps it.
func TestLabRunbookLock(t *testing.T) {
	book := runbookLock(t)
	if len(book) != 4 {
		t.Fatalf("the runbook gives %q", book)
	}
	ctx := onLab(t)
	l := upLab(t, ctx, func(c *Config) { c.Lock = true })
	h := l.Hosts[0]
	g, err := l.StartGuest(ctx, h, GuestSpec{Name: "vm1"})
	if err != nil {
		t.Fatal(err)
	}
	if holder(t, l, g) == 0 {
		t.Fatal("nobody holds the lock of a guest that runs")
	}
	if err := errors.Join(h.KillLock(), h.StartLock(ctx)); err != nil {
		t.Fatal(err)
	}
	if pid := holder(t, l, g); pid != 0 {
		t.Fatalf("process %d holds the lock, whose daemon was killed", pid)
	}
	for _, line := range book {
		before := holder(t, l, g)
		if err := h.typed(ctx, g, line); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		switch {
		case strings.HasSuffix(line, "start VM") && holder(t, l, g) == 0:
			t.Error("the guest has been started anew, and nobody holds its lock")
		case strings.HasSuffix(line, "reload virtlockd"):
			time.Sleep(time.Second)
			if pid := holder(t, l, g); pid == 0 || pid != before {
				t.Errorf("process %d held the lock, and %d after the reload", before, pid)
			}
		}
	}
	if at, err := l.RunsAt(ctx, g.ID); err != nil || at != h {
		t.Errorf("runs at %v: %v", at, err)
	}
}

// typed does what a command of the runbook does. The lab has no service manager: it does
// what the units of libvirtd and virtlockd would.
func (h *Host) typed(ctx context.Context, g *Guest, line string) error {
	switch line {
	case "ssh HOST systemctl restart libvirtd":
		return errors.Join(h.KillLibvirtd(ctx), h.StartLibvirtd(ctx))
	case "ssh HOST systemctl reload virtlockd":
		b, err := os.ReadFile(h.LockPID())
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return err
		}
		return unix.Kill(pid, unix.SIGUSR1)
	case "virsh -c qemu+ssh://HOST/system shutdown VM":
		if _, err := h.virsh(ctx, "shutdown", g.Name); err != nil {
			return err
		}
		// The lab's guest is one program and heeds no power button: its plug is pulled.
		_, err := h.virsh(ctx, "destroy", g.Name)
		return err
	case "virsh -c qemu+ssh://HOST/system start VM":
		_, err := h.virsh(ctx, "start", g.Name)
		return err
	}
	return errors.New("nobody can test it")
}
