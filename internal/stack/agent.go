package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// FindAgent looks for the agent's binary beside this program, then on the PATH.
func FindAgent() (string, error) {
	const name = "foreshift-agent"
	if self, err := os.Executable(); err == nil {
		p := filepath.Join(filepath.Dir(self), name)
		if st, err := os.Stat(p); err == nil && st.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	p, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is neither beside this program nor on the PATH; build it with `./task build`", name)
	}
	return p, nil
}

// Agent runs the agent as a process of its own until the stack stops; it is asked
// to stop with SIGTERM, so that it can flush, and killed 5 s later. started, when
// not nil, is told its process id.
func (s *Stack) Agent(binary, conf string, started func(pid int)) error {
	ready := make(chan error, 1)
	s.Go("agent", func(ctx context.Context) error {
		runtime.LockOSThread() // the death signal is tied to the thread that starts the process
		defer runtime.UnlockOSThread()
		cmd := exec.CommandContext(ctx, binary, "--config", conf)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 5 * time.Second
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // a Ctrl-C in the terminal is ours to pass on
		r, w := io.Pipe()
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Start(); err != nil {
			ready <- err
			return err
		}
		if started != nil {
			started(cmd.Process.Pid)
		}
		ready <- nil
		logged := make(chan string, 1)
		go func() { logged <- forward(r, s.cfg.Log) }()
		err := cmd.Wait()
		w.Close()
		last := <-logged
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		return fmt.Errorf("process %d: %w; its last words: %s", cmd.Process.Pid, err, last)
	})
	return <-ready
}

// forward passes the agent's log on and remembers its last line.
func forward(r io.Reader, log *slog.Logger) (last string) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		last = lines.Text()
		log.Debug("agent", "line", last)
	}
	if err := lines.Err(); err != nil {
		log.Warn("agent's log cut off", "error", err)
		_, _ = io.Copy(io.Discard, r) // the agent must not block on a full pipe
	}
	return last
}
