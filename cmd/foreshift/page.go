package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/console/live"
	"github.com/foreshift/foreshift/console/web"
	"github.com/foreshift/foreshift/placer"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

// consoleOptions are the flags of the console.
type consoleOptions struct {
	tokens string
	open   bool
	names  []string
	secure bool
	traces string
	nats   string
}

func (o *consoleOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.tokens, "tokens", "", "`file` of lines \"role name token\", mode 0600; default: "+web.FileTokens+" in the state directory, made when there is none")
	f.BoolVar(&o.open, "open", false, "let everybody who reaches the page look on; acts need an operator's token all the same")
	f.StringSliceVar(&o.names, "host-name", nil, "`name` under which a proxy reaches the page; those of loopback are known")
	f.StringVar(&o.traces, "traces", "", "`directory` of recorded demand that backtests are offered; default: traces in the state directory")
	f.BoolVar(&o.secure, "secure-cookies", false, "the page is reached through a proxy with TLS only")
}

// addConsole puts the console on mux; what it gives keeps it up to date until ctx ends.
func addConsole(mux *http.ServeMux, o consoleOptions, dir string, bus *streams.Bus, base time.Duration, log *slog.Logger) (*web.Tokens, func(context.Context) error, error) {
	if o.tokens == "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, nil, err
		}
		o.tokens = filepath.Join(dir, web.FileTokens)
	}
	if o.traces == "" {
		o.traces = filepath.Join(dir, "traces")
	}
	tokens, err := web.EnsureTokens(o.tokens)
	if err != nil {
		return nil, nil, err
	}
	model := live.New(base)
	stop := make(chan struct{})
	s, err := web.New(web.Config{Backtest: o.backtest(dir), TraceDir: o.traces, Model: model, Bus: bus, Tokens: tokens, Open: o.open, Hosts: o.names, Secure: o.secure, Version: versionText(), Log: log, Stop: stop,
		Compare: func(ctx context.Context, p *schemas.Plan) (*schemas.Plan, error) {
			events, err := readCut(ctx, bus, p)
			if err != nil {
				return nil, err
			}
			alone, err := placer.Without(p, events)
			if err != nil {
				return nil, err
			}
			return &alone.Plan, nil
		}})
	if err != nil {
		return nil, nil, err
	}
	s.Routes(mux)
	return tokens, func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { close(stop) })
		return model.Run(ctx, bus, log)
	}, nil
}

// backtest runs one as a process of its own: it takes more memory than a console
// should, and its end is not the console's.
func (o *consoleOptions) backtest(dir string) web.Backtest {
	return func(ctx context.Context, ask web.BacktestAsk, progress func(done, total int)) ([]byte, string, error) {
		self, err := os.Executable()
		if err != nil {
			return nil, "", err
		}
		tmp, err := os.MkdirTemp("", "foreshift-backtest-")
		if err != nil {
			return nil, "", err
		}
		defer os.RemoveAll(tmp) // what is left of it in /tmp is no loss
		report := filepath.Join(tmp, "report.html")
		args := []string{"--state", dir}
		if o.nats != "" {
			args = append(args, "--nats", o.nats)
		}
		args = append(args, "backtest", "--report", report, "--placements", strconv.Itoa(ask.Placements), "--utilisation", strconv.FormatFloat(ask.U, 'f', 2, 64), "--policy", strings.Join(ask.Policies, ","))
		for _, t := range ask.Traces {
			args = append(args, "--traces", t)
		}
		if len(ask.Traces) == 0 {
			args = append(args, "--from-stream", strconv.Itoa(ask.Days))
		}
		cmd := exec.CommandContext(ctx, self, args...)
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 10 * time.Second
		cmd.Env = append(os.Environ(), envProgress+"=yes")
		var table strings.Builder
		cmd.Stdout = &table
		says, err := cmd.StderrPipe()
		if err != nil {
			return nil, "", err
		}
		if err := cmd.Start(); err != nil {
			return nil, "", err
		}
		last := ""
		for lines := bufio.NewScanner(says); lines.Scan(); {
			var done, total int
			if n, _ := fmt.Sscanf(lines.Text(), progressLine, &done, &total); n == 2 {
				progress(done, total)
			} else {
				last = strings.TrimPrefix(lines.Text(), "foreshift: ")
			}
		}
		if err := cmd.Wait(); err != nil {
			if last != "" {
				err = errors.New(last)
			}
			return nil, "", err
		}
		page, err := os.ReadFile(report)
		return page, table.String(), err
	}
}

// on says which NATS was named on the command line.
func (o consoleOptions) on(nats string) consoleOptions { o.nats = nats; return o }
