package tune

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
	"go.uber.org/goleak"
)

const base = 5 * time.Minute

// fill publishes days of eight VMs on two hosts: four of them ask for two cores from ten to
// eleven every day, the others for the same on the mean, so that first placements put now
// two and now three of them together.
func fill(ctx context.Context, t *testing.T, bus, agent *streams.Bus, days int) {
	t.Helper()
	first := schemas.StepAt(schemas.At(time.Now()), base) - schemas.Step(days*schemas.StepsPerDay)
	first -= first % schemas.StepsPerDay
	var ids []schemas.VMID // of one partition, so that a step is one message
	for i := 0; len(ids) < 8; i++ {
		if id := (schemas.VMID{byte(i), byte(i >> 8), 1}); id.Partition() == 1 {
			ids = append(ids, id)
		}
	}
	var outs []streams.Out
	for s := range schemas.Step(days * schemas.StepsPerDay) {
		m := &schemas.Steps{Partition: 1, Step: first + s, Base: base, Lease: 1}
		for v, id := range ids {
			y := float32(371)
			if v < 4 {
				if y = 300; int(s)%schemas.StepsPerDay/12 == 10 {
					y = 2000
				}
			}
			m.VM, m.Host = append(m.VM, id), append(m.Host, "h1")
			m.Coverage, m.Flags = append(m.Coverage, 1), append(m.Flags, 0)
			m.AllocCPU, m.AllocMem = append(m.AllocCPU, 4000), append(m.AllocMem, 8<<30)
			m.Cols[schemas.ColCPU] = append(m.Cols[schemas.ColCPU], y)
		}
		outs = append(outs, streams.Out{Subject: streams.SubjectSteps(1), ID: fmt.Sprint("s", s), Msg: m})
	}
	if err := bus.PublishAsync(ctx, outs); err != nil {
		t.Fatal(err)
	}
	outs = nil
	for _, h := range []schemas.HostID{"h1", "h2"} {
		outs = append(outs, streams.Out{Subject: streams.SubjectCapacityHost(h), ID: "c-" + string(h), Msg: &schemas.CapacityHost{Host: h, Site: "s1", Time: schemas.At(time.Now()), Speed: 1,
			Capacity: schemas.Amounts{CPU: 5200, Mem: 64 << 30}, Overcommit: schemas.Overcommit{CPU: 1, Mem: 1}}})
	}
	if err := agent.PublishAsync(ctx, outs); err != nil {
		t.Fatal(err)
	}
}

// On a real bus: a least benefit that is far too high is lowered by a step, by a signed
// act with its evidence, once; where the policy only lets it tell, it only tells, and the
// ledger it has filled is used by the one that comes after it.
func TestTuner(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("bus", func(t *testing.T) {
		srv := streamstest.Start(t, "h1", "h2")
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		fill(ctx, t, streamstest.Connect(t, srv, streams.RoleForecaster), streamstest.Connect(t, srv, streams.RoleAgent), 15)
		bus := streamstest.Connect(t, srv, streams.RolePlacer)

		p := policy.Default()
		p.HoldSteps, p.MinBenefit = 0, 2500
		p.Learning = &schemas.Learning{Bounds: map[string]schemas.Range{learning.MinBenefit: {Low: 100, High: 20000}}}
		var said strings.Builder
		log := slog.New(slog.NewTextHandler(&said, nil))
		make := func() *tuner {
			return &tuner{cfg: Config{Base: base, Policy: p, Model: "empirical", Placements: 4}.withDefaults(), bus: bus, log: log}
		}
		acts := func() (out []*schemas.Act) {
			_, past, _, err := make().read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range past {
				out = append(out, &schemas.Act{Evidence: s.Evidence})
			}
			return out
		}
		now := schemas.At(time.Now())
		if err := make().look(ctx, now); err != nil {
			t.Fatal(err)
		}
		if got := acts(); len(got) != 0 || !strings.Contains(said.String(), "only to tell") {
			t.Fatalf("%d acts; said %s", len(got), said.String())
		}
		p.Learning.Settings = true
		one := make()
		if err := one.look(ctx, now.Add(time.Hour)); err != nil || len(acts()) != 0 {
			t.Fatalf("looked again at once: %v, %d acts", err, len(acts()))
		}
		led, err := one.ledger(ctx)
		if err != nil || led.Looked != now || len(led.Days) < 5 {
			t.Fatalf("%v %+v", err, led)
		}
		// Weeks before count too: three that were like this one make it certain.
		for week := range 3 {
			for _, d := range led.Days[len(led.Days)-5:] {
				d.At -= 7 * (week + 1)
				led.Add(led.Key, []learning.Day{d})
			}
		}
		if err := one.keep(ctx, led); err != nil {
			t.Fatal(err)
		}
		now = now.Add(8 * 24 * time.Hour)
		if err := one.look(ctx, now); err != nil {
			t.Fatal(err)
		}
		got := acts()
		if len(got) != 1 || got[0].Evidence == nil || got[0].Evidence.Low <= 0 || got[0].Evidence.To != 2500/1.6 || got[0].Evidence.Samples < 20 {
			t.Fatalf("%+v; said %s", got, said.String())
		}
		f, _, seq, err := one.read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if now, _ := f.Document(p); now.MinBenefit != 2500/1.6 || now.Version == 0 || seq == 0 {
			t.Errorf("in force: least benefit %g, version %d", now.MinBenefit, now.Version)
		}
	})
}
