package benchmarks

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
)

const (
	ingestHosts   = 40
	ingestVMs     = 50 // of one host
	ingestBase    = schemas.DefaultBase
	ingestEvery   = 10 * time.Second
	ingestWarm    = 35 * ingestHosts // messages before the clock starts: windows exist, a step has closed
	ingestColumns = schemas.NumColumns - 2
)

// ingestMessages are one flush of every host; their times are set when
// they are sent.
func ingestMessages() []*schemas.Metrics {
	var ms []*schemas.Metrics
	for h := range ingestHosts {
		m := &schemas.Metrics{Host: schemas.HostID(fmt.Sprintf("host%d", h)), Site: "a", Agent: "bench"}
		for v := range ingestVMs {
			var id schemas.VMID
			id[0], id[1], id[15] = byte(h), byte(v), 1
			m.VM, m.Time = append(m.VM, id), append(m.Time, 0)
			m.IntervalS, m.Flags = append(m.IntervalS, float32(ingestEvery.Seconds())), append(m.Flags, 0)
			m.AllocCPU, m.AllocMem = append(m.AllocCPU, 4000), append(m.AllocMem, 8<<30)
			for c := range m.Cols {
				if c := schemas.Column(c); c != schemas.ColCPUMax && c != schemas.ColMemMax {
					m.Cols[c] = append(m.Cols[c], float32(h*1000+v*7+int(c)))
				}
			}
		}
		ms = append(ms, m)
	}
	return ms
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sink folds what arrives into windows, as the forecaster does between two forecasts.
type sink struct {
	acc   *window.Accumulator
	store *window.Store
	step  schemas.Step
	rows  []window.Row
	got   int
	warm  chan struct{} // closed after ingestWarm messages
	until int
	done  chan struct{}
}

func (s *sink) take(e streams.Event) {
	m, ok := e.Msg.(*schemas.Metrics)
	if !ok {
		return
	}
	// The benchmark runs ahead of the clock: its stream time is the samples'.
	now := m.Time[0]
	s.acc.Fold(m, int64(now))
	if closing := schemas.StepAt(now-schemas.Time(30*time.Second), ingestBase) - 1; closing > s.step {
		s.step = closing
		for p := range schemas.Partitions {
			s.rows = s.acc.Take(p, closing, s.rows[:0])
			for i := range s.rows {
				s.store.Put(&s.rows[i])
			}
		}
		s.acc.Close(closing)
	}
	s.got++
	if s.got == ingestWarm {
		close(s.warm)
	}
	if s.got == s.until {
		close(s.done)
	}
}

// BenchmarkIngest is the way of a sample from the agent's output through a JetStream
// file into the windows: encoding, publishing, storing, reading, decoding and folding
// in one process. One op is one message: one host's flush of 50 VMs and 11 columns.
// values/CPU-s counts rows x columns and the CPU time of the whole process.
func BenchmarkIngest(b *testing.B) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	messages := ingestMessages()
	hosts := make([]schemas.HostID, 0, ingestHosts)
	for _, m := range messages {
		hosts = append(hosts, m.Host)
	}
	srv, err := embedded.Start(embedded.Options{StateDir: b.TempDir(), Hosts: hosts})
	if err != nil {
		b.Fatal(err)
	}
	defer srv.Shutdown()
	connect := func(role string) *streams.Bus {
		c := srv.Credentials(role)
		c.Log = slog.New(slog.DiscardHandler)
		bus, err := streams.Connect(ctx, c)
		if err != nil {
			b.Fatal(err)
		}
		return bus
	}
	admin := connect(streams.RoleAdmin)
	defer admin.Close()
	if _, err := streams.Apply(ctx, admin, srv.ApplyOptions()); err != nil {
		b.Fatal(err)
	}
	agent, reader := connect(streams.RoleAgent), connect(streams.RoleForecaster)
	defer agent.Close()
	defer reader.Close()
	mem := memory.NewGoAllocator()
	s := &sink{acc: window.NewAccumulator(mem, window.Limits{Base: ingestBase, Late: 72, Future: ingestBase, VMs: 10000}),
		store: window.NewStore(mem, 10000), until: ingestWarm + b.N,
		warm: make(chan struct{}), done: make(chan struct{})}
	reading, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- reader.Consume(reading, "bench", streams.Input{Stream: streams.Metrics, From: streams.FromAll}, s.take)
	}()
	start := schemas.At(time.Now().Add(-24 * time.Hour).Truncate(ingestBase))
	outs := make([]streams.Out, 0, ingestHosts)
	send := func(from, to int) {
		for n := from; n < to; {
			outs = outs[:0]
			for len(outs) < ingestHosts && n < to {
				round := n / ingestHosts
				m := messages[n%ingestHosts]
				m.Seq = uint64(round + 1)
				for i := range m.Time {
					m.Time[i] = start + schemas.Time(round+1)*schemas.Time(ingestEvery)
				}
				outs = append(outs, streams.Out{Subject: streams.SubjectMetrics(m.Host), ID: fmt.Sprintf("%s.bench.%d", m.Host, m.Seq), Msg: m})
				n++
			}
			if err := agent.PublishAsync(ctx, outs); err != nil {
				b.Fatal(err)
			}
		}
	}
	wait := func(arrived chan struct{}) {
		select {
		case <-arrived:
		case err := <-ended:
			b.Fatalf("reader ended: %v", err)
		case <-ctx.Done():
			b.Fatal("messages are missing after 10 minutes")
		}
	}
	send(0, ingestWarm)
	wait(s.warm)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime(b)
	send(ingestWarm, ingestWarm+b.N)
	wait(s.done)
	spent := cpuTime(b) - before
	b.StopTimer()
	stop()
	if err := <-ended; err != nil && ctx.Err() != nil {
		b.Fatal(err)
	}
	if want := uint64((ingestWarm + b.N) * ingestVMs); s.acc.Counts.Rows != want {
		b.Fatalf("%d rows arrived, want %d: %+v", s.acc.Counts.Rows, want, s.acc.Counts)
	}
	values := float64(b.N) * ingestVMs * ingestColumns
	b.ReportMetric(values/spent.Seconds(), "values/CPU-s")
	b.ReportMetric(values/b.Elapsed().Seconds(), "values/s")
}
