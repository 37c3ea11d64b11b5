package lab

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// What is started first really is, and the threads of this process are not.
func TestPriorityIsTheChildsAlone(t *testing.T) {
	if !realTimeAllowed() {
		t.Skip("this machine permits no real-time priority")
	}
	policy := func(pid int) uint32 {
		a, err := unix.SchedGetAttr(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		return a.Policy
	}
	for name, start := range map[string]func(*exec.Cmd) error{
		"StartFirst": StartFirst,
		"Prioritise": func(c *exec.Cmd) error {
			if err := c.Start(); err != nil {
				return err
			}
			return Prioritise(c.Process.Pid)
		},
	} {
		cmd := exec.Command("sleep", "60")
		if err := start(cmd); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := policy(cmd.Process.Pid); got != unix.SCHED_RR {
			t.Errorf("%s: policy %d, want %d", name, got, unix.SCHED_RR)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // killed
	}
	for range 50 {
		if got := policy(0); got != unix.SCHED_NORMAL {
			t.Fatalf("a thread of this process was left with policy %d", got)
		}
	}
}
