// Package r runs the forecasting methods of R beside ours: auto.arima, stlf with ARIMA
// and with ETS, thetaf and tbats of the package forecast (Hyndman and Khandakar,
// Automatic time series forecasting, J. Statistical Software 27, 2008), and prophet
// (Taylor and Letham, Forecasting at scale, The American Statistician 72, 2018).
//
// What comes in: contexts by name and a method. What goes out: quantiles .1 to .9 of
// every step, and the CPU seconds each series took, loading R and its packages left
// out.
//
// What is promised: R runs in a directory of its own that is removed, ends with the
// context, and is held to CPU seconds a series; a series it fails at is told, not
// made up. Where R or a package is missing [Check] says so with [ErrMissing];
// [Install] gets them from Debian. Nothing of Foreshift needs R to run.
package r

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

//go:embed peers.R
var script []byte

// Packages are the Debian packages that hold what is needed.
var Packages = []string{"r-base-core", "r-cran-forecast", "r-cran-prophet"}

// ErrMissing says that R, or one of its packages, is not on this machine.
var ErrMissing = errors.New("the peers R, forecast and prophet are not installed: apt-get install r-cran-forecast r-cran-prophet")

// Methods that R is asked for by default; tbats, at 25 CPU seconds a series, is not.
var Methods = []string{"auto.arima", "stlf+arima", "stlf+ets", "thetaf", "prophet"}

// Known are all methods.
func Known() []string { return append(append([]string{}, Methods...), "tbats") }

// Series is a context: what was before the origin, nothing missing.
type Series struct {
	Name string // without commas and quotes
	Y    []float32
}

// Forecast of one series. Q has a row a step; it is nil when the method failed.
type Forecast struct {
	Q      [][9]float32
	CPU    float64 // seconds
	Reason string  // of a failure
}

// Check says whether R can run.
func Check(ctx context.Context) error {
	path, err := exec.LookPath("Rscript")
	if err != nil {
		return fmt.Errorf("%w (%w)", ErrMissing, err)
	}
	c := exec.CommandContext(ctx, path, "-e", `stopifnot(requireNamespace("forecast", quietly=TRUE), requireNamespace("prophet", quietly=TRUE))`)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w (%s)", errors.Join(ErrMissing, ctx.Err()), bytes.TrimSpace(out[:min(len(out), 300)]))
	}
	return nil
}

// Install gets R from the Debian packages; apt-get's words go to log. Needs root.
func Install(ctx context.Context, log io.Writer) error {
	apt, err := exec.LookPath("apt-get")
	if err != nil {
		return fmt.Errorf("only Debian and its kin let this command install R: %w", err)
	}
	for _, args := range [][]string{{"update"}, append([]string{"install", "-y", "--no-install-recommends"}, Packages...)} {
		c := exec.CommandContext(ctx, apt, args...)
		c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		c.Stdout, c.Stderr = log, log
		c.WaitDelay = time.Second
		if err := c.Run(); err != nil {
			return fmt.Errorf("apt-get %s: %w (are you root, and is there a network?)", args[0], errors.Join(err, ctx.Err()))
		}
	}
	return nil
}

// Run forecasts every series with a method, which may take the given CPU seconds at
// each.
func Run(ctx context.Context, method string, series []Series, horizon, season int, seconds float64) (map[string]*Forecast, error) {
	dir, err := os.MkdirTemp("", "foreshift-r-")
	if err != nil {
		return nil, fmt.Errorf("r: %w", err)
	}
	defer os.RemoveAll(dir)
	in, out, code := filepath.Join(dir, "in.csv"), filepath.Join(dir, "out.csv"), filepath.Join(dir, "peers.R")
	if err := errors.Join(os.WriteFile(code, script, 0o600), write(in, series)); err != nil {
		return nil, fmt.Errorf("r: %w", err)
	}
	c := exec.CommandContext(ctx, "Rscript", "--vanilla", code, method, strconv.Itoa(horizon), strconv.Itoa(season),
		strconv.FormatFloat(seconds, 'f', 1, 64), in, out)
	c.Dir = dir
	c.Env = append(os.Environ(), "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1") // one core, as ours
	c.WaitDelay = time.Second
	if words, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("r: %s: %w: %s", method, errors.Join(err, ctx.Err()), bytes.TrimSpace(words[:min(len(words), 600)]))
	}
	f, err := os.Open(out)
	if err != nil {
		return nil, fmt.Errorf("r: %s left no result: %w", method, err)
	}
	defer f.Close()
	res, err := Parse(f, horizon)
	if err != nil {
		return nil, fmt.Errorf("r: %s: %w", method, err)
	}
	for _, s := range series {
		if res[s.Name] == nil {
			return nil, fmt.Errorf("r: %s says nothing of series %s", method, s.Name)
		}
	}
	return res, nil
}

func write(path string, series []Series) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, "series,y")
	for _, s := range series {
		for _, y := range s.Y {
			fmt.Fprintf(w, "%s,%g\n", s.Name, y)
		}
	}
	return errors.Join(w.Flush(), f.Close())
}

// Parse reads what the script writes.
func Parse(in io.Reader, horizon int) (map[string]*Forecast, error) {
	c := csv.NewReader(in)
	c.FieldsPerRecord, c.ReuseRecord = -1, true
	out := map[string]*Forecast{}
	var at *Forecast
	for {
		rec, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		line, _ := c.FieldPos(0)
		switch {
		case rec[0] == "T" && len(rec) == 5:
			at = &Forecast{}
			if at.CPU, err = strconv.ParseFloat(rec[2], 64); err != nil {
				return nil, fmt.Errorf("line %d: CPU seconds %q", line, rec[2])
			}
			if rec[3] != "ok" {
				at.Reason = "failed: " + rec[4]
			}
			out[rec[1]] = at
		case rec[0] == "Q" && len(rec) == 12 && at != nil && out[rec[1]] == at:
			var q [9]float32
			for k := range q {
				v, err := strconv.ParseFloat(rec[3+k], 32)
				if err != nil {
					return nil, fmt.Errorf("line %d: quantile %q", line, rec[3+k])
				}
				q[k] = float32(v)
			}
			at.Q = append(at.Q, q)
		default:
			return nil, fmt.Errorf("line %d: %q is neither a time nor quantiles", line, rec[0])
		}
	}
	for name, f := range out {
		if f.Reason == "" && len(f.Q) != horizon {
			return nil, fmt.Errorf("series %s: %d steps, want %d", name, len(f.Q), horizon)
		}
	}
	return out, nil
}
