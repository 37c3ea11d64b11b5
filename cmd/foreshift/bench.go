package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/benchmarks/results"
	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// benchCommand answers "is this any good on my data?".
func benchCommand() *cobra.Command {
	c := &cobra.Command{Use: "bench", Short: "Measure forecasts, pressure scores and placement on recorded data", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(benchForecast(), benchAblation(), benchSums(), benchBacktest(), benchShift(), benchPressure(), benchPlan(), benchPlaceCommand(), benchFleet(), benchScale(), benchSoak(), benchLatency(), benchTunnel(), benchConsole())
	return c
}

// traceFlags are the flags that say what to read.
type traceFlags struct {
	traces []string
	metric string
	json   bool
	out    string
	record string
}

func (t *traceFlags) add(c *cobra.Command) {
	t.addRead(c)
	c.Flags().StringVar(&t.out, "out", "", "write the forecasts to this CSV `file`")
}

// addRead leaves out what belongs to commands that write forecasts.
func (t *traceFlags) addRead(c *cobra.Command) {
	f := c.Flags()
	f.StringSliceVar(&t.traces, "traces", nil, "CSV `file`s (.gz is read as it is) with columns series or vm, t (bin) or timestamp, and the metric's")
	f.StringVar(&t.metric, "metric", "", "`column` to look at; mem_pct_of_cap is made of mem_mb and mem_cap_mb")
	f.BoolVar(&t.json, "json", false, "print one JSON object on the last line")
	f.StringVar(&t.record, "record", "", "append the figures as a line of JSON to this `file`, such as benchmarks/results.jsonl")
}

func (t *traceFlags) read() ([]trace.Series, error) {
	if len(t.traces) == 0 {
		return nil, usageError{fmt.Errorf("--traces is missing: name a CSV file")}
	}
	return trace.ReadAll(t.traces, t.metric)
}

// output opens the file of --out, if any, and gives what closes it.
func (t *traceFlags) output() (io.Writer, func() error, error) {
	if t.out == "" {
		return nil, func() error { return nil }, nil
	}
	f, err := os.Create(t.out)
	if err != nil {
		return nil, nil, fmt.Errorf("--out: %w", err)
	}
	return f, f.Close, nil
}

// keep records the figures where --record says.
func (t *traceFlags) keep(c *cobra.Command, figures any) error {
	if t.record == "" {
		return nil
	}
	var args []string
	for _, p := range t.traces {
		args = append(args, filepath.Base(p))
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "traces" && f.Name != "record" {
			args = append(args, "--"+f.Name+"="+f.Value.String())
		}
	})
	return results.Append(t.record, results.Line{Bench: "foreshift bench " + c.Name(), Args: strings.Join(args, " "), Figures: figures})
}

// stepsOf reads a horizon: a duration of 5-minute steps, or a number of steps.
func stepsOf(s string) (int, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return n, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < schemas.DefaultBase || d%schemas.DefaultBase != 0 {
		return 0, usageError{fmt.Errorf("%q is neither a number of steps nor a duration of whole steps of %v, such as 24h", s, schemas.DefaultBase)}
	}
	return int(d / schemas.DefaultBase), nil
}

// lastLine prints a value as one line of JSON.
func lastLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}
