package link

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/plugins/inputs"
	"github.com/influxdata/telegraf/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newInput(t *testing.T, targets ...*Target) *Input {
	t.Helper()
	in := inputs.Inputs[Name]().(*Input)
	in.Site, in.By, in.Targets, in.Log = "b", "test", targets, testutil.Logger{Quiet: true}
	if err := in.Init(); err != nil {
		t.Fatal(err)
	}
	return in
}

func gather(t *testing.T, in *Input) (*testutil.Accumulator, telegraf.Metric) {
	t.Helper()
	acc := &testutil.Accumulator{}
	if err := in.Gather(acc); err != nil {
		t.Fatal(err)
	}
	ms := acc.GetTelegrafMetrics()
	if len(ms) != len(in.Targets) {
		t.Fatalf("%d metrics for %d links; errors %v", len(ms), len(in.Targets), acc.Errors)
	}
	return acc, ms[0]
}

func value(t *testing.T, m telegraf.Metric, field string) float64 {
	t.Helper()
	v, ok := m.GetField(field)
	if !ok {
		t.Fatalf("no %s in %v", field, m)
	}
	return v.(float64)
}

func TestOpenAndRefusedPortsBothShowTheRoundTrip(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	in := newInput(t, &Target{Site: "a", Address: address, Bandwidth: 1e6})
	for _, state := range []string{"open", "refused"} {
		acc, m := gather(t, in)
		if a, _ := m.GetTag("site_a"); a != "a" || len(acc.Errors) > 0 {
			t.Errorf("%s: tags %v, errors %v", state, m.Tags(), acc.Errors)
		}
		if rtt := value(t, m, "rtt_ms"); rtt <= 0 || value(t, m, "loss_ratio") != 0 || value(t, m, "free_bytes_per_second") != 1e6 {
			t.Errorf("%s: %v", state, m)
		}
		ln.Close()
	}
}

func TestALinkThatAnswersPartlyOrNotAtAll(t *testing.T) {
	in := newInput(t, &Target{Site: "a", Address: "x:1", Bandwidth: 1e6})
	in.Probes = 4
	n := 0
	in.dial = func(context.Context, string) error {
		if n++; n%4 == 0 {
			return errors.New("no route")
		}
		return nil
	}
	if _, m := gather(t, in); value(t, m, "loss_ratio") != .25 {
		t.Errorf("%v, want loss .25", m)
	}
	in.dial = func(context.Context, string) error { return errors.New("no route") }
	acc, m := gather(t, in)
	if _, ok := m.GetField("rtt_ms"); ok || value(t, m, "loss_ratio") != 1 {
		t.Errorf("%v, want loss 1 and no round trip", m)
	}
	if len(acc.Errors) != 1 || !strings.Contains(acc.Errors[0].Error(), "no route") {
		t.Errorf("errors %v", acc.Errors)
	}
}

func TestADeadLinkCostsTheOthersNothing(t *testing.T) {
	in := newInput(t, &Target{Site: "a", Address: "dead:1", Bandwidth: 1e6}, &Target{Site: "c", Address: "good:1", Bandwidth: 1e6})
	in.Timeout = config.Duration(50 * time.Millisecond)
	good := make(chan struct{}, 16)
	in.dial = func(ctx context.Context, address string) error {
		if address == "good:1" {
			good <- struct{}{}
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}
	done := make(chan error)
	go func() { done <- in.Gather(&testutil.Accumulator{}) }()
	<-good // is probed while the dead one hangs
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestFreeShareIsWhatPassesTheInterfaceLess(t *testing.T) {
	dir := t.TempDir()
	stats := filepath.Join(dir, "eth0", "statistics")
	if err := os.MkdirAll(stats, 0o755); err != nil {
		t.Fatal(err)
	}
	pass := func(rx, tx int) {
		for name, v := range map[string]int{"rx_bytes": rx, "tx_bytes": tx} {
			if err := os.WriteFile(filepath.Join(stats, name), []byte(strconv.Itoa(v)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	in := newInput(t, &Target{Site: "a", Address: "x:1", Bandwidth: 1000, Interface: "eth0"})
	in.sysfs = dir
	target, now := in.Targets[0], time.Unix(1000, 0)
	for _, c := range []struct {
		rx, tx int
		after  time.Duration
		free   float64
	}{{0, 0, 0, 1000}, {3000, 1000, 10 * time.Second, 700}, {3000, 9000, 10 * time.Second, 200}, {3000, 99000, 10 * time.Second, 0}, {0, 0, 10 * time.Second, 1000}} {
		pass(c.rx, c.tx)
		now = now.Add(c.after)
		if free, err := in.free(target, now); err != nil || free != c.free {
			t.Errorf("rx %d tx %d: free %v, %v; want %v", c.rx, c.tx, free, err, c.free)
		}
	}
	target.Interface = "none"
	if _, err := in.free(target, now); err == nil {
		t.Error("an interface that is not there is an error")
	}
}

func TestConfigurationFaultsAreToldTogether(t *testing.T) {
	in := &Input{Site: "a", Targets: []*Target{{Site: "a", Address: "x:1", Bandwidth: 1}, {Site: "b", Address: "x"}, {Site: "c", Address: "x:1", Bandwidth: 1, Interface: "../x"}}}
	err := in.Init()
	for _, want := range []string{"timeout", "probes", "our own", "HOST:PORT", "bandwidth", "interface"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told in %v", want, err)
		}
	}
}
