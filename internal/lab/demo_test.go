package lab

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// scripted stands in for Foreshift: told to act, it predicts the crossing at a
// known time and moves the rising guest with the test's own handover. It proves
// the demonstration's measurements and its verdict, not Foreshift.
type scripted struct {
	t      *testing.T
	moves  bool
	events chan schemas.Message
	failed chan error
	site   Site
	wg     sync.WaitGroup
	once   sync.Once
}

func (s *scripted) Start(_ context.Context, site Site) error { s.site = site; return nil }
func (s *scripted) Events() <-chan schemas.Message           { return s.events }
func (s *scripted) Err() <-chan error                        { return s.failed }
func (s *scripted) Stop() error                              { s.wg.Wait(); s.once.Do(func() { close(s.events) }); return nil }
func (s *scripted) SetMode(ctx context.Context, _ schemas.Mode) error {
	if !s.moves {
		return nil
	}
	a, b, g := s.site.Hosts[0], s.site.Hosts[1], s.site.Guests[1]
	from, to := openHost(s.t, ctx, a).Source(), openHost(s.t, ctx, b).Destination(b.Address)
	now := time.Now()
	s.events <- &schemas.PressureHost{Host: a.ID, Time: schemas.At(now), Score: .9, Resource: "cpu", Onset: schemas.At(now.Add(schemas.StepsPerDay * s.site.Base / 2)), Peak: 700, Limit: float64(a.Capacity.CPU)}
	s.events <- &schemas.Plan{ID: "p1", Time: schemas.At(now), Actions: []schemas.Action{{VM: g.ID, Name: g.Name, Source: a.ID, Destination: b.ID, Reason: schemas.Reason{Code: schemas.ReasonOK, Detail: "scripted"}}}}
	s.wg.Go(func() {
		o := &schemas.Outcome{VM: g.ID, Source: a.ID, Destination: b.ID, Result: schemas.ResultSucceeded, Started: schemas.At(time.Now())}
		if err := handOver(ctx, a, from, b, to, g, 1); err != nil {
			o.Result, o.Reason.Detail = schemas.ResultFailed, err.Error()
		}
		o.Time = schemas.At(time.Now())
		o.Duration = schemas.Seconds(o.Time.Sub(o.Started).Seconds())
		s.events <- o
	})
	return nil
}

func newScripted(t *testing.T, moves bool) *scripted {
	return &scripted{t: t, moves: moves, events: make(chan schemas.Message, 16), failed: make(chan error)}
}

// The demonstration's own machinery on real guests, at more than twice the pace and
// with one observed day.
func TestLabDemoMachinery(t *testing.T) {
	ctx := onLab(t)
	var out bytes.Buffer
	v, err := Demo(ctx, DemoConfig{Stack: newScripted(t, true), Out: &out, Lab: Config{Dir: t.TempDir() + "/lab"}, Base: 100 * time.Millisecond, Days: 1})
	t.Logf("\n%s", out.String())
	if err != nil {
		t.Fatal(err)
	}
	if !v.OK {
		t.Errorf("not shown: %v", v.Failures)
	}
}

func TestDemoRefusesNonsense(t *testing.T) {
	if _, err := Demo(t.Context(), DemoConfig{}); err == nil {
		t.Error("a demonstration without a stack was begun")
	}
	if _, err := Demo(t.Context(), DemoConfig{Stack: newScripted(t, false), Out: &bytes.Buffer{}, Base: time.Millisecond}); err == nil {
		t.Error("a base step of 1 ms was taken")
	}
}

func TestRisingLoadFitsItsDay(t *testing.T) {
	if got, want := risingLoad(72*time.Second), "0:5,36.00:5,47.52:58,61.92:58,64.08:5"; got != want {
		t.Errorf("load %s, want %s", got, want)
	}
}
