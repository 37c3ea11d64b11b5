// Package cbc runs the mixed integer solver CBC (coinor-cbc) beside our search.
//
// What comes in: a program in LP format and seconds of CPU. What goes out: the best
// objective it found, its bound, and whether they meet.
//
// What is promised: the solver runs in a directory of its own, in one thread, ends
// with the context, and leaves nothing behind. Where it is not installed [Solve] says
// so with [ErrMissing]; nothing of Foreshift needs it to run.
//
// Why: an annealing cannot say how far from the best it is.
package cbc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ErrMissing says that there is no cbc on this machine.
var ErrMissing = errors.New("cbc is not installed: apt-get install coinor-cbc")

// Result is what the solver reached on a minimisation.
type Result struct {
	Objective float64 // the best solution's; of no meaning unless Found
	Bound     float64 // below every solution; the objective itself when Optimal
	Found     bool
	Optimal   bool
	Seconds   float64 // CPU
}

// maxOutput bounds what is read of the solver's talk.
const maxOutput = 64 << 20

// Solve writes a program, to be minimised, and solves it for the given seconds.
func Solve(ctx context.Context, write func(io.Writer) error, seconds float64) (Result, error) {
	r, _, err := solve(ctx, write, seconds, false)
	return r, err
}

// SolveValues is Solve, and gives the values of those variables that are not 0.
func SolveValues(ctx context.Context, write func(io.Writer) error, seconds float64) (Result, map[string]float64, error) {
	return solve(ctx, write, seconds, true)
}

func solve(ctx context.Context, write func(io.Writer) error, seconds float64, values bool) (Result, map[string]float64, error) {
	path, err := exec.LookPath("cbc")
	if err != nil {
		return Result{}, nil, fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	dir, err := os.MkdirTemp("", "foreshift-cbc-")
	if err != nil {
		return Result{}, nil, fmt.Errorf("cbc: %w", err)
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "program.lp"))
	if err != nil {
		return Result{}, nil, fmt.Errorf("cbc: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return Result{}, nil, fmt.Errorf("cbc: write the program: %w", err)
	}
	args := []string{"program.lp", "sec", strconv.FormatFloat(seconds, 'f', 2, 64), "ratio", "0", "threads", "0", "solve"}
	if values {
		args = append(args, "solution", "solution.txt")
	}
	c := exec.CommandContext(ctx, path, args...)
	c.Dir = dir
	c.WaitDelay = time.Second
	var out limited
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		return Result{}, nil, fmt.Errorf("cbc: %w", errors.Join(err, ctx.Err()))
	}
	r, err := Parse(&out.Buffer)
	if err != nil {
		return r, nil, err
	}
	used := c.ProcessState
	r.Seconds = (used.UserTime() + used.SystemTime()).Seconds()
	if !values {
		return r, nil, nil
	}
	found, err := readSolution(filepath.Join(dir, "solution.txt"))
	return r, found, err
}

// readSolution reads lines of index, variable, value and reduced cost below a headline.
func readSolution(path string) (map[string]float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cbc: %w", err)
	}
	defer f.Close()
	out := map[string]float64{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		w := strings.Fields(s.Text())
		if len(w) > 0 && w[0] == "**" {
			w = w[1:]
		}
		if len(w) < 3 {
			continue
		}
		if x, err := strconv.ParseFloat(w[2], 64); err == nil && x != 0 {
			out[w[1]] = x
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("cbc: %w", err)
	}
	return out, nil
}

// limited keeps the first maxOutput bytes.
type limited struct{ bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	if room := maxOutput - l.Len(); room > 0 {
		l.Buffer.Write(b[:min(len(b), room)])
	}
	return len(b), nil
}

// Parse reads the summary that the solver prints at its end.
func Parse(r io.Reader) (Result, error) {
	var out Result
	said, bounded := false, false
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		key, value, _ := strings.Cut(s.Text(), ":")
		number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		switch key = strings.TrimSpace(key); {
		case strings.HasPrefix(key, "Result - "):
			said = true
			out.Optimal = strings.Contains(key, "Optimal solution found")
		case key == "Objective value" && err == nil:
			out.Objective, out.Found = number, true
		case key == "Lower bound" && err == nil:
			out.Bound, bounded = number, true
		}
	}
	if err := s.Err(); err != nil {
		return Result{}, fmt.Errorf("cbc: %w", err)
	}
	switch {
	case !said:
		return Result{}, errors.New("cbc: it ended without a result: is the program well formed?")
	case out.Optimal:
		out.Bound = out.Objective
	case !bounded:
		return out, errors.New("cbc: it ended without an optimum and without a bound")
	}
	return out, nil
}
