package stack_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// child is a program of the stack, started anew as often as it is killed.
type child struct {
	t    *testing.T
	name string
	bin  string
	args []string
	log  string
	cmd  *exec.Cmd
	end  chan struct{}
}

func newChild(t *testing.T, dir, name, bin string, args ...string) *child {
	c := &child{t: t, name: name, bin: bin, args: args, log: filepath.Join(dir, name+".log")}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said last:\n%s", name, tail(c.said(), 1500))
		}
	})
	c.start()
	t.Cleanup(func() { c.quit(5 * time.Second) })
	return c
}

func (c *child) said() string {
	b, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (c *child) start() {
	c.t.Helper()
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(c.bin, c.args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
	c.cmd, c.end = cmd, make(chan struct{})
	go func(end chan struct{}) { _ = cmd.Wait(); close(end) }(c.end)
}

func (c *child) alive() bool {
	select {
	case <-c.end:
		return false
	default:
		return true
	}
}

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	if !c.alive() {
		c.t.Fatalf("%s has ended by itself:\n%s", c.name, tail(c.said(), 1500))
	}
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
}

func (c *child) kill() {
	c.t.Helper()
	c.signal(syscall.SIGKILL)
	<-c.end
}

// quit stops it in good order, or by force after a while.
func (c *child) quit(patience time.Duration) {
	if !c.alive() {
		return
	}
	_ = c.cmd.Process.Signal(syscall.SIGCONT)
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.end:
	case <-time.After(patience):
		_ = c.cmd.Process.Kill()
		<-c.end
	}
}

// replace starts another build of it.
func (c *child) replace(bin string) {
	c.quit(10 * time.Second)
	c.bin = bin
	c.start()
}

// active tells a placer that holds the lease, by its log.
func (c *child) active() bool {
	log := c.said()
	return strings.LastIndex(log, "held=true") > strings.LastIndex(log, "held=false")
}

func (c *child) String() string { return fmt.Sprintf("%s (process %d)", c.name, c.cmd.Process.Pid) }
