package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/internal/replay"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
)

// backtestFlags are the flags of `backtest`.
type backtestFlags struct {
	replay.Options
	traces []string
	copies []string
	sweep  bool
	json   bool
	learn  bool
	stream int
	report string
}

func backtestCommand(at *place) *cobra.Command {
	var o backtestFlags
	c := &cobra.Command{
		Use:   "backtest --traces FILE",
		Short: "What would have gone unserved under each policy, on your recorded demand",
		Long: `Puts the recorded VMs on hosts sized for a utilisation, lets policies move them from
the same random placements, and counts the demand that goes unserved: the threshold
rule (react), a fair balancer without forecasts, one that evens out (spread), our placer
that takes the last value to last (persist), our placer with our forecasts (predictive),
and our placer with the truth (oracle-6h). See docs/BACKTEST.md for the rules.

Settings of our placer follow the name: predictive:benefit=600,look=12,trigger=.3.
--sweep tries several. Forecasts of a month of 140 VMs take some minutes of CPU;
--forecasts keeps them for the next run.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c, at) },
	}
	f := c.Flags()
	f.StringSliceVar(&o.traces, "traces", nil, "CSV `file`s (.gz is read as it is) with columns vm, t, cpu_pct and, for sizes, cpu_cap_mhz or cores and mem_cap_mb")
	f.StringSliceVar(&o.copies, "copies", nil, "add copies of all VMs so many days ahead, such as `9d,18d`: a larger fleet of invented company")
	f.Float64VarP(&o.U, "utilisation", "u", .92, "share of the hosts' cores that the fleet's demand takes at its .999 quantile")
	f.IntVar(&o.Hosts, "hosts", 0, "number of hosts; 0: the most that are still large enough for any VM")
	f.IntVar(&o.From, "from-day", 0, "first day scored, at least 8")
	f.IntVar(&o.To, "to-day", 0, "day after the last scored; 0: all")
	f.IntVar(&o.Placements, "placements", 8, "random placements to start from")
	f.StringArrayVar(&o.Policies, "policy", nil, "policies by `name`, parted by commas, or once each with settings; default: all")
	f.StringVar(&o.Model, "model", "auto", "model of the predictive policy, as in bench forecast")
	f.StringVar(&o.Forecasts, "forecasts", "", "keep the forecasts in this `file`, and use what it holds")
	f.StringVar(&o.World, "world", "plain", "plain: that of the benchmark; rich: full hosts are shared out, memory is promised by a fifth more than there is, moves take what pre-copy takes")
	f.IntVar(&o.Workers, "workers", 0, "threads; 0: as many as cores")
	f.BoolVar(&o.sweep, "sweep", false, "try our placer with several least benefits and look-aheads as well")
	f.IntVar(&o.stream, "from-stream", 0, "instead of --traces: the last `days` of the running fleet's own history")
	f.BoolVar(&o.learn, "learn", false, "learn settings on the way, from tuned, timid and hasty ones and with links believed three times too slow and too fast; needs --forecasts made before")
	f.BoolVar(&o.json, "json", false, "print one JSON object on the last line")
	f.StringVar(&o.report, "report", "", "write a page that shows it all to this HTML `file`")
	return c
}

// sweep are the settings that --sweep adds.
func sweep(policies []string) (out []string) {
	out = append(out, policies...)
	for _, name := range policies {
		if name != "persist" && name != "predictive" {
			continue
		}
		for _, look := range []int{12, 24} {
			for _, benefit := range []int{100, 200, 400, 800, 1600} {
				out = append(out, fmt.Sprintf("%s:look=%d,benefit=%d", name, look, benefit))
			}
		}
	}
	return out
}

func (o *backtestFlags) run(c *cobra.Command, at *place) error {
	if (len(o.traces) == 0) == (o.stream == 0) {
		return usageError{errors.New("name CSV files with --traces, or days of the fleet's own history with --from-stream")}
	}
	var policies []string
	for _, p := range o.Policies {
		if strings.Contains(p, ":") {
			policies = append(policies, p)
		} else {
			policies = append(policies, strings.Split(p, ",")...)
		}
	}
	o.Policies = policies
	if err := o.Check(); err != nil {
		return usageError{err}
	}
	if o.sweep {
		o.Policies = sweep(o.Policies)
	}
	var days []int
	for _, s := range o.copies {
		d, err := strconv.Atoi(strings.TrimSuffix(s, "d"))
		if err != nil {
			return usageError{fmt.Errorf("--copies %s: want whole days, such as 9d", s)}
		}
		days = append(days, d)
	}
	begun := processCPU()
	h, err := o.history(c.Context(), at)
	if err != nil {
		return err
	}
	if err := h.Copies(days); err != nil {
		return usageError{err}
	}
	if o.learn {
		return o.runLearn(c, h, begun)
	}
	bar := newBar(c.ErrOrStderr())
	o.Progress = bar.show
	res, err := replay.Run(c.Context(), h, o.Options)
	bar.end()
	if err != nil {
		return err
	}
	res.CPU = processCPU() - begun
	if o.report != "" {
		if err := writeWhole(o.report, res.HTML()); err != nil {
			return fmt.Errorf("--report: %w", err)
		}
	}
	if o.json {
		return lastLine(c.OutOrStdout(), res)
	}
	return res.Table(c.OutOrStdout())
}

// history reads the traces, or the stream.
func (o *backtestFlags) history(ctx context.Context, at *place) (*replay.History, error) {
	if o.stream == 0 {
		return replay.Load(o.traces)
	}
	steps, _, err := at.steps(ctx, o.stream)
	if err != nil {
		return nil, err
	}
	ids, err := at.namesOf(ctx)
	if err != nil {
		return nil, err
	}
	names := map[schemas.VMID]string{}
	for n, id := range ids {
		names[id] = n
	}
	return replay.FromSteps(steps, names)
}

// runLearn compares learning with leaving settings alone.
func (o *backtestFlags) runLearn(c *cobra.Command, h *replay.History, begun float64) error {
	bar := newBar(c.ErrOrStderr())
	o.Progress = bar.show
	res, err := replay.Learn(c.Context(), h, o.Options, replay.BadStarts())
	bar.end()
	if err != nil {
		return err
	}
	res.CPU = processCPU() - begun
	if o.report != "" {
		if err := writeWhole(o.report, res.HTML()); err != nil {
			return fmt.Errorf("--report: %w", err)
		}
	}
	if o.json {
		return lastLine(c.OutOrStdout(), res)
	}
	return res.Table(c.OutOrStdout())
}

// writeWhole writes a file under another name first, so that none is left half.
func writeWhole(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// bar shows progress on a terminal, and nothing elsewhere.
type bar struct {
	w    io.Writer
	on   bool
	line bool // a line each time, for a program
	last time.Time
}

// A program that runs a backtest sets the variable to be told the progress, a line
// each time.
const (
	envProgress  = "FORESHIFT_PROGRESS_LINES"
	progressLine = "progress %d of %d"
)

func newBar(w io.Writer) *bar {
	b := &bar{w: w, line: os.Getenv(envProgress) != ""}
	if f, ok := w.(*os.File); ok {
		if st, err := f.Stat(); err == nil {
			b.on = st.Mode()&os.ModeCharDevice != 0
		}
	}
	return b
}

func (b *bar) show(done, total int) {
	if b.line && (done == total || time.Since(b.last) > 200*time.Millisecond) {
		b.last = time.Now()
		fmt.Fprintf(b.w, progressLine+"\n", done, total) // who does not listen misses nothing else
	}
	if !b.on || done < total && time.Since(b.last) < 200*time.Millisecond {
		return
	}
	b.last = time.Now()
	const width = 40
	n := width * done / max(1, total)
	fmt.Fprintf(b.w, "\r[%s%s] %3d %%", strings.Repeat("#", n), strings.Repeat(".", width-n), 100*done/max(1, total)) // a bar that cannot be drawn is no loss
}

func (b *bar) end() {
	if b.on {
		fmt.Fprintf(b.w, "\r%60s\r", "")
	}
}
