package forecaster

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
	"github.com/foreshift/foreshift/streams/streamstest"
	"github.com/prometheus/client_golang/prometheus"
)

// crew is some forecasters on one bus, and an agent that never stops.
type crew struct {
	t     *testing.T
	srv   *embedded.Server
	cfg   Config
	vms   []schemas.VMID
	ctx   context.Context
	sent  sync.Map // schemas.Step -> number of samples sent
	agent *streams.Bus
}

// mate is one forecaster.
type mate struct {
	bus   *streams.Bus
	reg   *prometheus.Registry
	stop  context.CancelFunc
	ended chan error
}

func (c *crew) start() *mate {
	ctx, cancel := context.WithCancel(c.ctx)
	m := &mate{bus: streamstest.Connect(c.t, c.srv, streams.RoleForecaster), reg: prometheus.NewRegistry(), stop: cancel, ended: make(chan error, 1)}
	go func() { m.ended <- Run(ctx, m.bus, c.cfg, slog.New(slog.DiscardHandler), m.reg) }()
	return m
}

// kill cuts a forecaster off in the middle of whatever it does: nothing it does from now
// on reaches the bus.
func (m *mate) kill() { m.bus.Tel.NC.Close(); m.bus.Ctrl.NC.Close(); m.stop(); <-m.ended }

// owned is how many partitions it publishes for.
func (m *mate) owned(t *testing.T) int {
	families, err := m.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "foreshift_forecaster_partitions" {
			continue
		}
		for _, x := range f.GetMetric() {
			if x.GetLabel()[0].GetValue() == "owned" {
				return int(x.GetGauge().GetValue())
			}
		}
	}
	return 0
}

const perStep = 5

// cpuOf is what VM n demanded in the k-th part of a step: no two parts are alike, so
// that a mean tells which samples went in, and how often.
func cpuOf(n, k int) float32 { return float32(200 + n + 16<<k) }

// samples publishes the samples of all steps, as their parts end. On a machine that is
// too busy for that they are late, but none is left out.
func (c *crew) samples(stop <-chan struct{}) {
	part := c.cfg.Base / perStep
	end := time.Now().Truncate(part)
	for seq := uint64(1); ; seq++ {
		end = end.Add(part)
		select {
		case <-stop:
			return
		case <-time.After(time.Until(end) + 10*time.Millisecond):
		}
		k := int(end.UnixNano()/int64(part)-1) % perStep
		m := &schemas.Metrics{Host: "h1", Site: "a", Agent: "x", Seq: seq}
		for n, id := range c.vms {
			m.VM, m.Time, m.IntervalS = append(m.VM, id), append(m.Time, schemas.At(end)), append(m.IntervalS, float32(part.Seconds()))
			m.Flags, m.AllocCPU, m.AllocMem = append(m.Flags, 0), append(m.AllocCPU, 2000), append(m.AllocMem, 4e9)
			m.Cols[schemas.ColCPU] = append(m.Cols[schemas.ColCPU], cpuOf(n, k))
			m.Cols[schemas.ColMem] = append(m.Cols[schemas.ColMem], 1e9)
		}
		if _, err := c.agent.Publish(c.ctx, streams.Out{Subject: streams.SubjectMetrics("h1"), ID: "m." + end.String(), Msg: m}); err != nil && c.ctx.Err() == nil {
			c.t.Errorf("agent: %v", err)
			return
		}
		s := schemas.StepAt(schemas.At(end)-1, c.cfg.Base)
		n, _ := c.sent.Load(s)
		sent, _ := n.(int)
		c.sent.Store(s, sent+1)
	}
}

// TestOneOfThreeDies starts three forecasters, kills one, lets another join and one
// leave in good order, all under load: the history has every sample of every VM once,
// and every partition is forecast again within seconds.
func TestOneOfThreeDies(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	c := &crew{t: t, srv: streamstest.Start(t), ctx: ctx,
		cfg: Config{Base: time.Second, Grace: 300 * time.Millisecond, TuneEvery: -1, LeaseTTL: time.Second}}
	for n := range 48 {
		c.vms = append(c.vms, vmID(n))
	}
	c.agent = streamstest.Connect(t, c.srv, "agent-h1")
	reader := streamstest.Connect(t, c.srv, streams.RoleInspector)
	stop, sampled := make(chan struct{}), make(chan struct{})
	go func() { defer close(sampled); c.samples(stop) }()
	wait := func(what string, within time.Duration, ok func() bool) time.Duration {
		t.Helper()
		begun := time.Now()
		for !ok() {
			if time.Since(begun) > within {
				t.Fatalf("%s: not within %v", what, within)
			}
			time.Sleep(10 * time.Millisecond)
		}
		return time.Since(begun)
	}
	even := func(mates ...*mate) func() bool {
		return func() bool {
			sum := 0
			for _, m := range mates {
				n := m.owned(t)
				if n > (schemas.Partitions+len(mates)-1)/len(mates) {
					return false
				}
				sum += n
			}
			return sum == schemas.Partitions
		}
	}
	a, b, d := c.start(), c.start(), c.start()
	wait("three share the partitions", 10*time.Second, even(a, b, d))
	// forecast waits until every VM has a forecast made after the call.
	forecast := func(what string, within time.Duration) time.Duration {
		begun := time.Now()
		return wait(what, within, func() bool {
			events, err := reader.Last(ctx, streams.Forecasts)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[schemas.VMID]bool{}
			for _, e := range events {
				if e.Time > begun.UnixNano() {
					for _, id := range e.Msg.(*schemas.Forecasts).VM {
						seen[id] = true
					}
				}
			}
			return len(seen) == len(c.vms)
		})
	}
	forecast("all VMs forecast by three", 10*time.Second)
	time.Sleep(3 * c.cfg.Base)
	b.kill()
	t.Logf("after the kill of one of three all VMs were forecast again within %v", forecast("forecast again", 5*time.Second))
	wait("two share the partitions", 5*time.Second, even(a, d))
	e := c.start()
	t.Logf("a new one had its share within %v", wait("a new one has its share", 5*time.Second, even(a, d, e)))
	forecast("all VMs forecast", 5*time.Second)
	time.Sleep(3 * c.cfg.Base)
	begun := time.Now()
	a.stop()
	if err := <-a.ended; err != nil {
		t.Fatal(err)
	}
	wait("the leaver's partitions are taken", 5*time.Second, even(d, e))
	t.Logf("one left in good order: the others had all of it within %v", time.Since(begun))
	forecast("all VMs forecast at the end", 5*time.Second)
	close(stop)
	<-sampled
	time.Sleep(2*c.cfg.Base + c.cfg.Grace)
	for _, m := range []*mate{d, e} {
		m.stop()
		if err := <-m.ended; err != nil {
			t.Fatal(err)
		}
	}
	c.check(reader)
}

// check reads the whole history: of every step of which all samples were sent, every VM
// has one row that has each of them once.
func (c *crew) check(reader *streams.Bus) {
	t := c.t
	t.Helper()
	events, err := reader.History(c.ctx, streams.Input{Stream: streams.Steps, From: streams.FromAll})
	if err != nil {
		t.Fatal(err)
	}
	type key struct {
		vm   schemas.VMID
		step schemas.Step
	}
	type row struct {
		revision int
		cover    float32
		cpu      float32
	}
	rows, revisions := map[key]row{}, 0
	for _, e := range events {
		m := e.Msg.(*schemas.Steps)
		if m.Revision > 0 {
			revisions++
		}
		for i, id := range m.VM {
			k := key{id, m.Step}
			if old, ok := rows[k]; ok && old.revision >= m.Revision {
				t.Errorf("vm %s step %d: revision %d after %d", id, m.Step, m.Revision, old.revision)
			}
			rows[k] = row{m.Revision, m.Coverage[i], m.Cols[schemas.ColCPU][i]}
		}
	}
	whole := 0
	c.sent.Range(func(s, n any) bool {
		if n.(int) != perStep {
			return true
		}
		whole++
		for n, id := range c.vms {
			want := float32(0)
			for k := range perStep {
				want += cpuOf(n, k) / perStep
			}
			r, ok := rows[key{id, s.(schemas.Step)}]
			if !ok || math.Abs(float64(r.cover-1)) > 1e-3 || math.Abs(float64(r.cpu-want)) > .05 {
				t.Errorf("vm %d step %d: there %v, %+v, want a mean of %v", n, s, ok, r, want)
				return false
			}
		}
		return true
	})
	if whole < 10 {
		t.Fatalf("only %d whole steps", whole)
	}
	t.Logf("%d whole steps of %d VMs, %d revisions: every sample once", whole, len(c.vms), revisions)
}
