// Command record reads the output of go test -bench on standard input, passes it on,
// and appends one JSON line per benchmark to a results file: what was run, on which
// commit and processor, and every figure with its unit.
//
//	go test -bench . ./schemas | go run ./benchmarks/record benchmarks/results.jsonl
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// result is one line of the results file.
type result struct {
	Time    string             `json:"time"`
	Commit  string             `json:"commit"` // "+" when the tree had changes
	CPU     string             `json:"cpu"`
	Package string             `json:"package"`
	Name    string             `json:"name"`
	Runs    int                `json:"runs"`
	Figures map[string]float64 `json:"figures"` // by unit: ns/op, B/op, values/cpu-s, ...
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: record RESULTS.jsonl <output of go test -bench")
	}
	base := result{Time: time.Now().UTC().Format(time.RFC3339), Commit: commit()}
	results, failed, err := parse(in, out, base)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(args[0], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(f)
	for _, r := range results {
		if err := enc.Encode(r); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if failed {
		return errors.Join(errors.New("a benchmark failed; what passed is recorded"), f.Close())
	}
	return f.Close()
}

// parse reads benchmark lines: name, runs, then pairs of figure and unit
// (https://go.dev/design/14313-benchmark-format).
func parse(in io.Reader, out io.Writer, base result) (rs []result, failed bool, err error) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := lines.Text()
		fmt.Fprintln(out, line)
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "cpu: "):
			base.CPU = strings.TrimPrefix(line, "cpu: ")
		case strings.HasPrefix(line, "pkg: "):
			base.Package = strings.TrimPrefix(line, "pkg: ")
		case strings.HasPrefix(line, "FAIL") || strings.HasPrefix(line, "--- FAIL"):
			failed = true
		case strings.HasPrefix(line, "Benchmark") && len(f) >= 4 && len(f)%2 == 0:
			r := base
			r.Name, r.Figures = f[0], map[string]float64{}
			if r.Runs, err = strconv.Atoi(f[1]); err != nil {
				continue // a log line that begins alike
			}
			for i := 2; i < len(f); i += 2 {
				v, err := strconv.ParseFloat(f[i], 64)
				if err != nil {
					return rs, failed, fmt.Errorf("%s: figure %q: %w", f[0], f[i], err)
				}
				r.Figures[f[i+1]] = v
			}
			rs = append(rs, r)
		}
	}
	return rs, failed, lines.Err()
}

func commit() string {
	b, err := exec.Command("git", "describe", "--always", "--dirty=+", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
