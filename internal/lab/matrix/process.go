package matrix

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
)

// process is a part that runs, and can be broken.
type process struct {
	spec spec
	log  string             // file to which its standard error is appended
	hear func(label string) // called at every step, in the part's stead: it waits
	mu   sync.Mutex
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{}
}

// startLimit is how long a part may take to say that it is ready.
const startLimit = 60 * time.Second

// start runs the part; it may be called again after kill.
func (p *process) start() error {
	b, err := json.Marshal(p.spec)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.log), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(exe, "lab", "part")
	cmd.Env = append(os.Environ(), partEnv+"="+string(b))
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for the matrix; it ends with our end of its standard input
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := lab.StartFirst(cmd); err != nil {
		return fmt.Errorf("part %s %s: %w", p.spec.Kind, p.spec.Host, err)
	}
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if label, ok := strings.CutPrefix(lines.Text(), "STEP "); ok {
				p.hear(label)
				_, _ = io.WriteString(in, "go\n") // a part that is dead does not hear it
			} else if lines.Text() == "READY" {
				close(ready)
			}
		}
		_ = cmd.Wait() // how it ended is in its log
	}()
	p.mu.Lock()
	p.cmd, p.in, p.done = cmd, in, done
	p.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-done:
		return fmt.Errorf("part %s %s ended at once: %s", p.spec.Kind, p.spec.Host, p.tail())
	case <-time.After(startLimit):
		return errors.Join(fmt.Errorf("part %s %s is not ready: %s", p.spec.Kind, p.spec.Host, p.tail()), p.kill())
	}
}

// kill ends it with SIGKILL. It may be called while the part waits at a step, and
// then does not wait for the reader, which waits for the caller.
func (p *process) kill() error { return p.signal(syscall.SIGKILL) }

func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("part %s %s does not run", p.spec.Kind, p.spec.Host)
	}
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("part %s %s: %w", p.spec.Kind, p.spec.Host, err)
	}
	return nil
}

// wait waits until it has ended.
func (p *process) wait() error {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("part %s %s does not end", p.spec.Kind, p.spec.Host)
	}
}

// running reports whether it has not ended.
func (p *process) running() bool {
	p.mu.Lock()
	done := p.done
	p.mu.Unlock()
	if done == nil {
		return false
	}
	select {
	case <-done:
		return false
	default:
		return true
	}
}

func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-1500):])
}
