// Package results keeps what benchmarks measured, one line of JSON a run, so that a
// change for the worse is seen.
//
// What comes in: what was run, and its figures: those of our own benches, or of go test
// -bench by unit. What goes out: a line appended to a file, with the time, the code's
// version and the machine.
//
// What is promised: there is one shape of line for all ([Line]); a line is written whole
// or not at all, so that two runs may write to one file.
package results

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// Line is one run.
type Line struct {
	Time    string `json:"time"`    // RFC 3339, UTC
	Commit  string `json:"commit"`  // "+" when the tree had changes
	Machine string `json:"machine"` // processor, cores, system
	Bench   string `json:"bench"`   // package.BenchmarkName, or a command's name
	Args    string `json:"args,omitempty"`
	Runs    int    `json:"runs,omitempty"` // of a Go benchmark
	Figures any    `json:"figures"`        // by unit, or as the command prints them
}

// Append writes lines at the end of the file, which is made if need be. Time, commit
// and machine are filled in where they are empty.
func Append(path string, lines ...Line) error {
	var b bytes.Buffer
	now, commit := time.Now().UTC().Format(time.RFC3339), Commit(filepath.Dir(path))
	for _, l := range lines {
		if l.Time == "" {
			l.Time = now
		}
		if l.Commit == "" {
			l.Commit = commit
		}
		if l.Machine == "" {
			l.Machine = Machine("")
		}
		if err := json.NewEncoder(&b).Encode(l); err != nil {
			return fmt.Errorf("results: %s: %w", l.Bench, err)
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	_, err = f.Write(b.Bytes())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("results: %s: %w", path, err)
	}
	return nil
}

// Machine tells the machine by its processor, "" for what the system calls it.
func Machine(cpu string) string {
	if cpu == "" {
		cpu = processor()
	}
	return fmt.Sprintf("%s, %d cores, %s/%s", cpu, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}

func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for l := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "unknown processor"
}

// Commit is the version of the tree that dir lies in or, outside of one, of the binary.
func Commit(dir string) string {
	if b, err := exec.Command("git", "-C", dir, "describe", "--always", "--dirty=+", "--abbrev=12").Output(); err == nil {
		return strings.TrimSpace(string(b))
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return "unknown"
}
