package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sort"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health collects the checks of a process. Live: the process works at all. Ready:
// it does its job now.
type Health struct {
	mu     sync.Mutex
	checks map[string]func() error
}

// Ready registers a check under a name that a person understands; the check must
// answer at once. Registering a name again replaces the check.
func (h *Health) Ready(name string, check func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.checks == nil {
		h.checks = map[string]func() error{}
	}
	h.checks[name] = check
}

// Report gives one line per check, sorted, and whether all passed.
func (h *Health) Report() (lines []string, ok bool) {
	h.mu.Lock()
	checks := make(map[string]func() error, len(h.checks))
	for name, check := range h.checks {
		checks[name] = check
	}
	h.mu.Unlock()
	ok = true
	for name, check := range checks {
		state := "ok"
		if err := check(); err != nil {
			state, ok = err.Error(), false
		}
		lines = append(lines, name+": "+state)
	}
	sort.Strings(lines)
	return lines, ok
}

// Routes adds /livez, /readyz and /metrics to mux.
func (h *Health) Routes(mux *http.ServeMux, metrics prometheus.Gatherer) {
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		lines, ok := h.Report()
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		for _, l := range lines {
			fmt.Fprintln(w, l)
		}
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
}

// ErrNotLoopback refuses an unguarded listener that others could reach.
var ErrNotLoopback = errors.New("only a loopback address may be listened on without TLS and authorisation")

// CheckAddress refuses what [Listen] refuses, without opening it.
func CheckAddress(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return ErrNotLoopback
	}
	return nil
}

// Listen opens a loopback listener; port 0 takes any free one.
func Listen(address string) (net.Listener, error) {
	if err := CheckAddress(address); err != nil {
		return nil, fmt.Errorf("listen %q: %w", address, err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen %q: %w", address, err)
	}
	return l, nil
}

// Serve runs an HTTP server on l until ctx ends, then lets requests under way
// finish for up to two seconds.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := s.Shutdown(stop); err != nil {
		return fmt.Errorf("serve %s: stop: %w", l.Addr(), errors.Join(err, s.Close()))
	}
	return nil
}
