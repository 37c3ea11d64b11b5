package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Backtest runs one, away from the console's own memory, and gives its report as a
// page of HTML and its table as text.
type Backtest func(ctx context.Context, ask BacktestAsk, progress func(done, total int)) (report []byte, table string, err error)

// BacktestAsk is what is to be tried.
type BacktestAsk struct {
	Traces     []string // files; none: the fleet's own history
	Days       int      // of the fleet's own history
	Placements int
	U          float64 // utilisation
	Policies   []string
}

// trial is a backtest under way or over; one runs at a time and the last is kept.
type trial struct {
	Ask         BacktestAsk
	By          string
	Begun       time.Time
	Took        time.Duration // 0 while it runs
	Done, Total int
	Fault       string
	Table       string
	report      []byte
}

type trials struct {
	mu     sync.Mutex
	now    *trial
	cancel context.CancelFunc
}

// Running says whether it is under way.
func (t *trial) Running() bool { return t.Took == 0 }

// HasReport says whether there is a page to look at.
func (t *trial) HasReport() bool { return len(t.report) > 0 }

func (s *Server) backtest(r *request) *sheet {
	s.trials.mu.Lock()
	var one *trial
	if s.trials.now != nil {
		x := *s.trials.now
		one = &x
	}
	s.trials.mu.Unlock()
	d := map[string]any{"Trial": one, "Traces": s.traces(), "Dir": s.cfg.TraceDir, "Able": s.cfg.Backtest != nil, "Policies": backtestPolicies}
	return &sheet{title: "Backtest", nav: "backtest", regions: []region{{"backtest-form", "backtest-form", d}, {"backtest", "backtest", d}}}
}

var backtestPolicies = []string{"none", "react", "balancer", "spread", "persist", "predictive", "oracle-6h"}

// maxTraces bounds the files that are offered.
const maxTraces = 200

// traces are the files that may be tried: those of one directory, by name.
func (s *Server) traces() (out []string) {
	if s.cfg.TraceDir == "" {
		return nil
	}
	files, err := os.ReadDir(s.cfg.TraceDir)
	if err != nil {
		return nil // not there yet: the page says where files are to be put
	}
	for _, f := range files {
		if n := f.Name(); !f.IsDir() && (strings.HasSuffix(n, ".csv") || strings.HasSuffix(n, ".csv.gz")) && len(out) < maxTraces {
			out = append(out, n)
		}
	}
	return out
}

// postBacktest begins one.
func (s *Server) postBacktest(w http.ResponseWriter, r *http.Request) {
	v, ok := s.allowed(w, r)
	if !ok {
		return
	}
	ask, err := s.backtestAsk(r)
	if err == nil {
		err = s.try(ask, v.Name)
	}
	if err != nil {
		s.answer(w, r, v, http.StatusBadRequest, note{err.Error(), true})
		return
	}
	s.answer(w, r, v, http.StatusOK, note{"The backtest has begun.", false})
}

func (s *Server) backtestAsk(r *http.Request) (a BacktestAsk, err error) {
	if s.cfg.Backtest == nil {
		return a, errors.New("this console cannot run backtests; use `foreshift backtest`")
	}
	if err := r.ParseForm(); err != nil {
		return a, err
	}
	offered := s.traces()
	for _, n := range r.PostForm["trace"] {
		if n == "" {
			continue
		}
		if !slices.Contains(offered, n) {
			return a, fmt.Errorf("no file %.80q is offered", n)
		}
		a.Traces = append(a.Traces, filepath.Join(s.cfg.TraceDir, n))
	}
	whole := func(name string, low, high int) (n int) {
		if err == nil {
			if n, err = strconv.Atoi(strings.TrimSpace(r.PostFormValue(name))); err != nil || n < low || n > high {
				err = fmt.Errorf("%s %.20q: want a number from %d to %d", name, r.PostFormValue(name), low, high)
			}
		}
		return n
	}
	if len(a.Traces) == 0 {
		a.Days = whole("days", 9, 90)
	}
	a.Placements = whole("placements", 1, 64)
	percent := whole("utilisation", 10, 100)
	a.U = float64(percent) / 100
	for _, p := range r.PostForm["policy"] {
		if !slices.Contains(backtestPolicies, p) {
			return a, fmt.Errorf("no policy %.40q", p)
		}
		a.Policies = append(a.Policies, p)
	}
	if err == nil && len(a.Policies) == 0 {
		err = errors.New("choose at least one policy")
	}
	return a, err
}

// try runs a backtest in the background, unless one runs.
func (s *Server) try(ask BacktestAsk, by string) error {
	t := &s.trials
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now != nil && t.now.Running() {
		return errors.New("a backtest is under way: wait for its end, or stop it")
	}
	one := &trial{Ask: ask, By: by, Begun: s.cfg.Now()}
	ctx, cancel := context.WithCancel(context.Background())
	t.now, t.cancel = one, cancel
	go func() {
		select {
		case <-s.stopped:
			cancel()
		case <-ctx.Done():
		}
	}()
	go func() {
		defer cancel()
		report, table, err := s.cfg.Backtest(ctx, ask, func(done, total int) {
			t.mu.Lock()
			defer t.mu.Unlock()
			one.Done, one.Total = done, total
		})
		t.mu.Lock()
		defer t.mu.Unlock()
		one.Took, one.report, one.Table = max(time.Millisecond, s.cfg.Now().Sub(one.Begun)), report, table
		switch {
		case ctx.Err() != nil:
			one.Fault = "It was stopped."
		case err != nil:
			one.Fault = err.Error()
		}
	}()
	return nil
}

// postStop ends the backtest that is under way.
func (s *Server) postStop(w http.ResponseWriter, r *http.Request) {
	v, ok := s.allowed(w, r)
	if !ok {
		return
	}
	s.trials.mu.Lock()
	defer s.trials.mu.Unlock()
	if s.trials.now == nil || !s.trials.now.Running() {
		s.answer(w, r, v, http.StatusBadRequest, note{"No backtest is under way.", true})
		return
	}
	s.trials.cancel()
	s.answer(w, r, v, http.StatusOK, note{"The backtest is being stopped.", false})
}

// report serves the last backtest's own page. It brings its style along, so that it
// stands in a sandbox of its own.
func (s *Server) report(w http.ResponseWriter, r *http.Request) {
	if v := s.visitor(r); !v.Can(Viewer) {
		s.login(w, r, "", http.StatusUnauthorized)
		return
	}
	s.trials.mu.Lock()
	var page []byte
	if s.trials.now != nil {
		page = s.trials.now.report
	}
	s.trials.mu.Unlock()
	if len(page) == 0 {
		http.Error(w, "there is no report yet", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if _, err := w.Write(page); err != nil {
		s.log.Debug("report not sent", "error", err)
	}
}
