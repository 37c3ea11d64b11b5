// Package run is the agent's command line: Telegraf as a library with the plugins
// that Foreshift wants, under Telegraf's own flags.
//
// What comes in: arguments and configuration files in Telegraf's format. What goes
// out: an exit code; 0 when it ended as told, 1 when something failed, 2 when the
// command line was wrong. It promises that SIGTERM and SIGINT end it cleanly, with
// a last flush, and that SIGHUP loads the configuration again; one that cannot be
// loaded is refused and the running one goes on.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/influxdata/telegraf/agent"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/logger"
)

// usageError is a fault of the command line.
type usageError struct{ error }

// Main runs the agent and gives its exit code.
func Main(args []string, out, errs io.Writer) int {
	err := run(args, out, errs)
	var usage usageError
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(errs, "foreshift-agent: %v\nSee foreshift-agent --help.\n", err)
		return 2
	default:
		fmt.Fprintf(errs, "foreshift-agent: %v\n", err)
		return 1
	}
}

func run(args []string, out, errs io.Writer) error {
	f, err := parse(args, errs)
	if err != nil || f.help {
		return err
	}
	switch {
	case f.version:
		fmt.Fprintln(out, versionLine())
		return nil
	case f.list:
		return listPlugins(out)
	case f.sample:
		return sampleConfig(out, f)
	}
	c, err := load(f)
	if err != nil {
		return err
	}
	if f.check {
		return agent.NewAgent(c).InitPlugins()
	}
	if f.pidfile != "" {
		if err := os.WriteFile(f.pidfile, []byte(fmt.Sprintln(os.Getpid())), 0o644); err != nil {
			return fmt.Errorf("pidfile: %w", err)
		}
		defer os.Remove(f.pidfile)
	}
	return serve(f, c)
}

// serve runs the agent until a signal ends it, anew after each SIGHUP.
func serve(f *flags, c *config.Config) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	for {
		if err := setupLogging(f, c); err != nil {
			return err
		}
		next, err := serveOnce(f, c, signals)
		if err != nil || next == nil {
			return err
		}
		c = next
	}
}

// serveOnce runs one configuration. It gives the one to run next, or nil at the end.
func serveOnce(f *flags, c *config.Config, signals <-chan os.Signal) (*config.Config, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		a := agent.NewAgent(c)
		wait := time.Duration(f.testWait) * time.Second
		switch {
		case f.once:
			done <- a.Once(ctx, wait)
		case f.test || f.testWait > 0:
			done <- a.Test(ctx, wait)
		default:
			done <- a.Run(ctx)
		}
	}()
	for {
		select {
		case err := <-done:
			return nil, err
		case s := <-signals:
			var next *config.Config
			if s == syscall.SIGHUP {
				var err error
				if next, err = load(f); err != nil {
					fmt.Fprintf(os.Stderr, "foreshift-agent: configuration not loaded again, the running one goes on: %v\n", err)
					continue
				}
			}
			cancel()
			err := <-done
			if errors.Is(err, context.Canceled) {
				err = nil
			}
			return next, err
		}
	}
}

// load reads the configuration and refuses what cannot run.
func load(f *flags) (*config.Config, error) {
	files := append([]string(nil), f.configs...)
	for _, dir := range f.dirs {
		more, err := config.WalkDirectory(dir)
		if err != nil {
			return nil, fmt.Errorf("configuration directory %s: %w", dir, err)
		}
		files = append(files, more...)
	}
	if len(files) == 0 {
		return nil, usageError{errors.New("no configuration: name one with --config FILE; --sample-config prints one to start from")}
	}
	config.ResetSecrets()
	config.NonStrictEnvVarHandling = f.nonStrict
	c := config.NewConfig()
	c.Agent.Debug, c.Agent.Quiet = f.debug, f.quiet
	c.InputFilters, c.OutputFilters = f.inputs, f.outputs
	c.TestMode = !f.once && (f.test || f.testWait > 0)
	if err := c.LoadAll(files...); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c.Agent.Debug = c.Agent.Debug || f.debug
	c.Agent.Quiet = c.Agent.Quiet || f.quiet
	if c.Agent.SkipProcessorsAfterAggregators == nil {
		skip := true // what Telegraf announces as its next default
		c.Agent.SkipProcessorsAfterAggregators = &skip
	}
	switch {
	case len(c.Inputs) == 0:
		return nil, errors.New("configuration: no inputs; add one such as [[inputs.foreshift_domain]], or widen --input-filter")
	case !c.TestMode && len(c.Outputs) == 0:
		return nil, errors.New("configuration: no outputs; add one such as [[outputs.foreshift_jetstream]], or widen --output-filter")
	case c.Agent.Interval <= 0 || c.Agent.FlushInterval <= 0:
		return nil, fmt.Errorf("configuration: agent interval %v and flush_interval %v must be above 0", c.Agent.Interval, c.Agent.FlushInterval)
	}
	return c, nil
}

func setupLogging(f *flags, c *config.Config) error {
	err := logger.SetupLogging(&logger.Config{
		Debug: c.Agent.Debug, Quiet: c.Agent.Quiet, LogTarget: c.Agent.LogTarget, LogFormat: c.Agent.LogFormat,
		Logfile: c.Agent.Logfile, StructuredLogMessageKey: c.Agent.StructuredLogMessageKey,
		RotationInterval: time.Duration(c.Agent.LogfileRotationInterval), RotationMaxSize: int64(c.Agent.LogfileRotationMaxSize),
		RotationMaxArchives: c.Agent.LogfileRotationMaxArchives, LogWithTimezone: c.Agent.LogWithTimezone,
	})
	if err != nil {
		return fmt.Errorf("logging: %w", err)
	}
	return nil
}
