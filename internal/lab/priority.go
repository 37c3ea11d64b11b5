package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// A lab shares its machine with whatever else runs there, a compiler for one. On
// the shared terms a guest that wants a fifth of a core is kept waiting, which
// libvirt truly reports as vcpu.delay, hence as demand; and who samples counters
// late reads them wrong. So the hosts, and what measures them, run ahead of other
// programs (SCHED_RR, the lowest real-time priority), as on a machine that runs
// guests and nothing else. Linux keeps 5 % of the time for the others, and guests
// of a lab rest most of the time.

// setRealTime gives a thread (0: the calling one), and what it starts, the priority.
func setRealTime(tid int) error {
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return fmt.Errorf("read the thread's priority: %w", err)
	}
	attr.Policy, attr.Priority, attr.Nice = unix.SCHED_RR, 1, 0
	if err := unix.SchedSetAttr(tid, attr, 0); err != nil {
		return fmt.Errorf("real-time priority: %w", err)
	}
	return nil
}

// realTimeAllowed finds out on a thread of its own. A machine of one core is left
// alone, and some containers do not permit it: the lab is only noisier then.
var realTimeAllowed = sync.OnceValue(func() bool {
	return runtime.NumCPU() > 1 && onThread(func() error { return setRealTime(0) }) == nil
})

// StartFirst starts a program ahead of others where the machine permits it, and
// like any other where not. It is for what samples the lab's counters.
func StartFirst(cmd *exec.Cmd) error {
	if !realTimeAllowed() {
		return cmd.Start()
	}
	return onThread(func() error {
		if err := setRealTime(0); err != nil {
			return err
		}
		return cmd.Start()
	})
}

// onThread runs f on a thread that ends afterwards, so that f may change what
// belongs to a thread: namespaces, priority. A child that f starts inherits it.
func onThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends, and /proc/self shows what it sees: hold it
			// here while another one is used, then give it back untouched.
			result <- onThread(f)
			runtime.UnlockOSThread()
			return
		}
		result <- f()
	}()
	return <-result
}

// Prioritise gives a running program, such as the agent that samples the lab's
// hosts, the same priority. Where the machine does not permit it nothing happens.
func Prioritise(pid int) error {
	if !realTimeAllowed() {
		return nil
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return fmt.Errorf("prioritise process %d: %w", pid, err)
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			continue
		}
		// Threads that it starts later inherit it; one that has just ended is no loss.
		if err := setRealTime(tid); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("prioritise process %d: %w", pid, err)
		}
	}
	return nil
}
