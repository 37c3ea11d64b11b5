package service

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Context ends at the first SIGINT or SIGTERM; the second one exits at once with
// status 1, for whoever will not wait.
func Context(say io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	c := make(chan os.Signal, 2)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-c:
			fmt.Fprintf(say, "\n%s: stopping; once more to stop at once\n", s)
			cancel()
		case <-ctx.Done():
			signal.Stop(c)
			return
		}
		// A terminal and a runner above us may both pass on the same Ctrl-C.
		for same := time.After(time.Second); ; {
			select {
			case <-same:
				same = nil
			case <-c:
				if same == nil {
					os.Exit(1)
				}
			}
		}
	}()
	return ctx, cancel
}

// Logger writes to w as text for people or JSON for machines, from level on
// (debug, info, warn, error).
func Logger(w io.Writer, level string, json bool) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	if json {
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}
