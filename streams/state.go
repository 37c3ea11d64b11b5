package streams

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// FileState tells other commands of a running "foreshift up".
const FileState = "up.json"

// State is what a running "foreshift up" says of itself in its state directory.
type State struct {
	URL     string       `json:"url"`       // of NATS
	Page    string       `json:"page"`      // address of the web page, empty when none
	PID     int          `json:"pid"`       // of the process that serves
	Started schemas.Time `json:"started"`   // when
	Base    string       `json:"base_step"` // length of the base step, as Go prints durations
	Version string       `json:"version"`   // of the program
	Dir     string       `json:"-"`         // where it was read
	base    time.Duration
}

// Save writes the state into dir.
func (s State) Save(dir string) error {
	if _, err := time.ParseDuration(s.Base); err != nil {
		return fmt.Errorf("state: base step: %w", err)
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return writeFile(filepath.Join(dir, FileState), append(b, '\n'), 0o600)
}

// LoadState reads the state of a running one. [ErrNotRunning] says that there is
// none, or that it has ended without saying so.
func LoadState(dir string) (State, error) {
	path := filepath.Join(dir, FileState)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("%w: there is no %s; start one with `foreshift up`", ErrNotRunning, path)
	}
	if err != nil {
		return State{}, fmt.Errorf("state: %w", err)
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, fmt.Errorf("state: %s: %w", path, err)
	}
	if s.base, err = time.ParseDuration(s.Base); err != nil || s.base <= 0 {
		return State{}, fmt.Errorf("state: %s: base step %q is not a positive duration", path, s.Base)
	}
	if !alive(s.PID) {
		return State{}, fmt.Errorf("%w: %s names process %d, which has ended; start one with `foreshift up`", ErrNotRunning, path, s.PID)
	}
	s.Dir = dir
	return s, nil
}

// ErrNotRunning: no "foreshift up" serves this state directory.
var ErrNotRunning = errors.New("no Foreshift runs here")

// RemoveState tells that it runs no longer.
func RemoveState(dir string) error {
	if err := os.Remove(filepath.Join(dir, FileState)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// BaseStep is the length of the base step.
func (s State) BaseStep() time.Duration {
	if s.base == 0 {
		s.base, _ = time.ParseDuration(s.Base) // checked by Save and LoadState
	}
	return s.base
}

// Credentials are those of a role of the running one.
func (s State) Credentials(role string) Credentials {
	return Credentials{URL: s.URL, Role: role, Dir: s.Dir}
}

// alive asks the kernel; signal 0 is only a question.
func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
