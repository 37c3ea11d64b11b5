package main

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
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
}

func (o *consoleOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.tokens, "tokens", "", "`file` of lines \"role name token\", mode 0600; default: "+web.FileTokens+" in the state directory, made when there is none")
	f.BoolVar(&o.open, "open", false, "let everybody who reaches the page look on; acts need an operator's token all the same")
	f.StringSliceVar(&o.names, "host-name", nil, "`name` under which a proxy reaches the page; those of loopback are known")
	f.BoolVar(&o.secure, "secure-cookies", false, "the page is reached through a proxy with TLS only")
}

// frugal keeps the console's own process small: most of what it reads is garbage once
// it is folded, and a collector that waits for as much garbage as there is live data
// would double it. Who sets GOGC or GOMEMLIMIT decides himself.
func frugal() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(25)
		debug.SetMemoryLimit(115 << 20)
	}
}

// addConsole puts the console on mux; what it gives keeps it up to date until ctx ends.
func addConsole(mux *http.ServeMux, o consoleOptions, dir string, bus *streams.Bus, base time.Duration, log *slog.Logger) (*web.Tokens, func(context.Context) error, error) {
	if o.tokens == "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, nil, err
		}
		o.tokens = filepath.Join(dir, web.FileTokens)
	}
	tokens, err := web.EnsureTokens(o.tokens)
	if err != nil {
		return nil, nil, err
	}
	model := live.New(base)
	stop := make(chan struct{})
	s, err := web.New(web.Config{Model: model, Bus: bus, Tokens: tokens, Open: o.open, Hosts: o.names, Secure: o.secure, Version: versionText(), Log: log, Stop: stop,
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
