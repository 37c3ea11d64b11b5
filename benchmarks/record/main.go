// Command record reads the output of go test -bench on standard input, passes it on,
// and appends one JSON line per benchmark to a results file: what was run, on which
// commit and processor, and every figure with its unit.
//
//	go test -bench . ./schemas | go run ./benchmarks/record benchmarks/results.jsonl
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/foreshift/foreshift/benchmarks/results"
)

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
	lines, failed, err := parse(in, out)
	if err != nil {
		return err
	}
	if err := results.Append(args[0], lines...); err != nil {
		return err
	}
	if failed {
		return errors.New("a benchmark failed; what passed is recorded")
	}
	return nil
}

// parse reads benchmark lines: name, runs, then pairs of figure and unit
// (https://go.dev/design/14313-benchmark-format).
func parse(in io.Reader, out io.Writer) (rs []results.Line, failed bool, err error) {
	var machine, pkg string
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		line := lines.Text()
		fmt.Fprintln(out, line)
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "cpu: "):
			machine = results.Machine(strings.TrimPrefix(line, "cpu: "))
		case strings.HasPrefix(line, "pkg: "):
			pkg = strings.TrimPrefix(line, "pkg: ")
		case strings.HasPrefix(line, "FAIL") || strings.HasPrefix(line, "--- FAIL"):
			failed = true
		case strings.HasPrefix(line, "Benchmark") && len(f) >= 4 && len(f)%2 == 0:
			figures := map[string]float64{} // by unit: ns/op, B/op, values/cpu-s, ...
			r := results.Line{Machine: machine, Bench: pkg + "." + f[0], Figures: figures}
			if r.Runs, err = strconv.Atoi(f[1]); err != nil {
				continue // a log line that begins alike
			}
			for i := 2; i < len(f); i += 2 {
				v, err := strconv.ParseFloat(f[i], 64)
				if err != nil {
					return rs, failed, fmt.Errorf("%s: figure %q: %w", f[0], f[i], err)
				}
				figures[f[i+1]] = v
			}
			rs = append(rs, r)
		}
	}
	return rs, failed, lines.Err()
}
