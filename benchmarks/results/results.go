// Package results keeps what benchmarks measured, one line of JSON a run, so that a
// change for the worse is seen. What comes in: a name and figures. What goes out: a
// line appended to a file. The line tells the code's version and the machine.
package results

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"
)

// Line is one run.
type Line struct {
	Time    string `json:"time"` // RFC 3339, UTC
	Version string `json:"version"`
	Machine string `json:"machine"`
	Bench   string `json:"bench"`
	Args    string `json:"args"`
	Figures any    `json:"figures"`
}

// Append writes a line at the end of the file, which is made if need be.
func Append(path, bench, args string, at time.Time, figures any) error {
	b, err := json.Marshal(Line{Time: at.UTC().Format(time.RFC3339), Version: version(), Bench: bench, Args: args,
		Machine: fmt.Sprintf("%s/%s %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()), Figures: figures})
	if err != nil {
		return fmt.Errorf("results: %s: %w", bench, err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("results: %s: %w", path, err)
	}
	return nil
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return "unknown"
}
