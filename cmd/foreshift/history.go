package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/internal/history"
	"github.com/foreshift/foreshift/internal/replay"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

func historyCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "history", Short: "Recorded telemetry: bring it in, take it out", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(historyImport(at), historyExport(at))
	return c
}

// importOptions are the flags of `history import`.
type importOptions struct {
	base       time.Duration
	end        string
	prometheus history.Prometheus
	since      time.Duration
	check      bool
}

func historyImport(at *place) *cobra.Command {
	var o importOptions
	c := &cobra.Command{Use: "import FILE...", Short: "Fill the history from CSV, Parquet or a Prometheus, so that forecasts start on day one",
		Long: `Reads rows of a VM at a time (docs/HISTORY.md names the columns), checks all of them, and
only then publishes them as base steps. What is wrong is told with file, row and column,
and nothing is written; what can be repaired is, and is counted. An import that was
interrupted goes on where it was when the same command is given again.`,
		Example: `  foreshift history import week.csv.gz
  foreshift history import http://127.0.0.1:9090 --query 'cpu_cores=sum by (vm, host) (rate(vm_cpu_seconds_total[5m]))' --since 336h`,
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, at, args) }}
	f := c.Flags()
	f.DurationVar(&o.base, "base-step", 0, "length of a base step; default: that of the running fleet")
	f.StringVar(&o.end, "end", "", "`time` at which step numbers (column t) end, RFC 3339; default: now")
	f.StringArrayVar(&o.prometheus.Queries, "query", nil, "for a Prometheus: `COLUMN=PROMQL`, once for each column")
	f.StringVar(&o.prometheus.VM, "vm-label", "vm", "label of a series that names the VM")
	f.StringVar(&o.prometheus.Host, "host-label", "host", "label of a series that names the host")
	f.DurationVar(&o.since, "since", 14*24*time.Hour, "how far back a Prometheus is asked")
	f.BoolVar(&o.check, "check", false, "read and check, and publish nothing")
	return c
}

func (o *importOptions) run(c *cobra.Command, at *place, args []string) error {
	if len(args) == 0 {
		return usageError{errors.New("name a file, or the URL of a Prometheus")}
	}
	if o.base == 0 {
		o.base = at.baseStep()
	}
	end := time.Now()
	if o.end != "" {
		t, err := time.Parse(time.RFC3339, o.end)
		if err != nil {
			return usageError{fmt.Errorf("--end %s: want RFC 3339, as 2026-03-14T15:00:00Z", o.end)}
		}
		end = t
	}
	ctx := c.Context()
	var bus *streams.Bus
	known := map[string]schemas.VMID{}
	if !o.check {
		var err error
		if known, err = at.namesOf(ctx); err != nil {
			return err
		}
		if bus, err = at.connect(ctx, streams.RoleImporter); err != nil {
			return err
		}
		defer bus.Close()
	}
	t := history.New(history.Options{Base: o.base, End: schemas.At(end), ID: func(name string) (schemas.VMID, bool) {
		id, ok := known[name]
		return id, ok
	}})
	digest := xxhash.New()
	for _, a := range args {
		if err := o.read(ctx, t, a, end, digest); err != nil {
			return fmt.Errorf("%s: %w; nothing was written", a, err)
		}
	}
	messages, err := t.Messages()
	if err != nil {
		return err
	}
	began := 0
	if !o.check {
		mark := importMark(at.state, digest.Sum64(), o.base)
		if began, err = publishHistory(ctx, bus, messages, mark, newBar(c.ErrOrStderr())); err != nil {
			return fmt.Errorf("%w; give the same command again to go on", err)
		}
	}
	if at.json {
		return object(c.OutOrStdout(), map[string]any{"counts": t.Counts, "messages": len(messages), "resumed_after": began, "written": !o.check})
	}
	w := c.OutOrStdout()
	n := &t.Counts
	fmt.Fprintf(w, "%d rows of %d VMs over %d steps of %v\n", n.Rows, n.VMs, n.Steps, o.base)
	for _, x := range []struct {
		n    int
		what string
	}{{n.Unsorted, "rows were out of order: put in order"}, {n.Duplicates, "rows were there twice: the last one stands"}, {n.Averaged, "rows were averaged into their step"},
		{n.Missing, "cells were empty: missing values"}, {n.Gaps, "steps have no row: gaps stay gaps"}} {
		if x.n > 0 {
			fmt.Fprintf(w, "%d %s\n", x.n, x.what)
		}
	}
	switch {
	case o.check:
		fmt.Fprintln(w, "checked; nothing was written (--check)")
	case began > 0:
		fmt.Fprintf(w, "published, the first %d of %d messages by an earlier run; `foreshift report` tells what they show\n", began, len(messages))
	default:
		fmt.Fprintln(w, "published; `foreshift report` tells what they show")
	}
	return nil
}

// read adds one source to the table, and what it holds to the digest.
func (o *importOptions) read(ctx context.Context, t *history.Table, name string, end time.Time, digest *xxhash.Digest) error {
	if strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
		p := o.prometheus
		p.URL, p.Step = name, o.base
		p.To = end.Truncate(o.base)
		p.From = p.To.Add(-o.since)
		fmt.Fprintln(digest, name, p.Queries, p.From.Unix(), p.To.Unix()) // a digest's Write has no error
		return t.Prometheus(ctx, p)
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	magic, err := bufio.NewReader(f).Peek(4)
	if err != nil && len(magic) == 0 {
		return errors.New("the file is empty")
	}
	if _, err := f.Seek(0, 0); err != nil {
		return err
	}
	if st, err := f.Stat(); err == nil {
		fmt.Fprintln(digest, name, st.Size(), st.ModTime().UnixNano())
	}
	if string(magic) == "PAR1" {
		return t.Parquet(ctx, f)
	}
	return t.CSV(f)
}

// namesOf are the VMs of the fleet by name, where only one has the name.
func (p *place) namesOf(ctx context.Context) (map[string]schemas.VMID, error) {
	bus, err := p.connect(ctx, streams.RoleOperator)
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	events, err := bus.Last(ctx, streams.Capacity)
	if err != nil {
		return nil, err
	}
	out, twice := map[string]schemas.VMID{}, map[string]bool{}
	for _, e := range events {
		if m, ok := e.Msg.(*schemas.CapacityHost); ok {
			for i := range m.VMs {
				v := &m.VMs[i]
				if id, ok := out[v.Name]; ok && id != v.VM {
					twice[v.Name] = true
				}
				out[v.Name] = v.VM
			}
		}
	}
	for n := range twice {
		delete(out, n)
	}
	return out, nil
}

// importMark is the file that says how far an import has come.
func importMark(state string, digest uint64, base time.Duration) string {
	return filepath.Join(state, fmt.Sprintf("import-%016x-%d.json", digest, base.Milliseconds()))
}

// importBatch is how many messages are acknowledged before the mark moves on.
const importBatch = 512

// publishHistory publishes from the mark on, and gives where that was. Each message has
// an id of its own, so that what was published but not marked falls out as a double, or
// is read over.
func publishHistory(ctx context.Context, bus *streams.Bus, messages []*schemas.Steps, mark string, bar *bar) (began int, err error) {
	if b, err := os.ReadFile(mark); err == nil {
		if json.Unmarshal(b, &began) != nil || began < 0 || began > len(messages) {
			return 0, fmt.Errorf("%s does not say how far the import had come: remove it to begin anew", mark)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	defer bar.end()
	for from := began; from < len(messages); from += importBatch {
		part := messages[from:min(from+importBatch, len(messages))]
		outs := make([]streams.Out, len(part))
		for i, m := range part {
			outs[i] = streams.Out{Subject: streams.SubjectSteps(m.Partition), ID: fmt.Sprintf("import.%d.%d.%d", m.Partition, m.Step, m.Revision), Msg: m}
		}
		if err := bus.PublishAsync(ctx, outs); err != nil {
			return began, fmt.Errorf("import stopped after %d of %d messages: %w", from, len(messages), err)
		}
		b, err := json.Marshal(from + len(part))
		if err != nil {
			return began, err
		}
		if err := writeWhole(mark, b); err != nil {
			return began, err
		}
		bar.show(from+len(part), len(messages))
	}
	return began, os.Remove(mark)
}

func historyExport(at *place) *cobra.Command {
	var days int
	c := &cobra.Command{Use: "export FILE.parquet", Short: "Write the history as one Parquet file", Args: cobra.ExactArgs(1),
		Long: "Writes the base steps of the last days, the newest revision of each, in order. The file appears\nunder its name only when it is whole. `foreshift history import` reads it back.",
		RunE: func(c *cobra.Command, args []string) error {
			if days < 1 || days > 90 {
				return usageError{fmt.Errorf("--days %d: want 1 to 90", days)}
			}
			steps, base, err := at.steps(c.Context(), days)
			if err != nil {
				return err
			}
			if len(steps) == 0 {
				return fmt.Errorf("the history of the last %d days is empty; `foreshift history import` fills it", days)
			}
			bar := newBar(c.ErrOrStderr())
			f, err := os.CreateTemp(filepath.Dir(args[0]), filepath.Base(args[0])+".*")
			if err != nil {
				return err
			}
			w := bufio.NewWriterSize(f, 1<<20)
			rows, err := history.Export(w, steps, base, func(n int) { bar.show(n, len(steps)) })
			bar.end()
			if err = errors.Join(err, w.Flush(), f.Chmod(0o644)); err == nil {
				err = f.Sync()
			}
			if cerr := f.Close(); err == nil && !errors.Is(cerr, fs.ErrClosed) {
				err = cerr
			}
			if err == nil {
				err = os.Rename(f.Name(), args[0])
			}
			if err != nil {
				return errors.Join(fmt.Errorf("export: %w", err), os.Remove(f.Name()))
			}
			if at.json {
				return object(c.OutOrStdout(), map[string]any{"file": args[0], "rows": rows})
			}
			fmt.Fprintf(c.OutOrStdout(), "%d rows written to %s\n", rows, args[0])
			return nil
		}}
	c.Flags().IntVar(&days, "days", 30, "how many days of base steps, at most 90")
	return c
}

// steps reads the history of the last days of steps: the newest revision of each VM and
// step, in order of step and partition.
func (p *place) steps(ctx context.Context, days int) ([]*schemas.Steps, time.Duration, error) {
	bus, err := p.connect(ctx, streams.RoleOperator)
	if err != nil {
		return nil, 0, err
	}
	defer bus.Close()
	base := p.baseStep()
	all := replay.Collector{Base: base, Days: days}
	if _, err := bus.Scan(ctx, streams.Input{Stream: streams.Steps, From: streams.FromAll}, func(e streams.Event) {
		if m, ok := e.Msg.(*schemas.Steps); ok {
			all.Add(m)
		}
	}); err != nil {
		return nil, 0, err
	}
	return all.Steps(), base, nil
}

// baseStep is that of the running "up", else the default.
func (p *place) baseStep() time.Duration {
	if s, err := streams.LoadState(p.state); err == nil {
		return s.BaseStep()
	}
	return schemas.DefaultBase
}
