package link

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/plugins/parsers/influx"
	"github.com/influxdata/telegraf/testutil"
)

// TestCases runs every folder of testcases: telegraf.conf is loaded by Telegraf,
// probes.txt says how each address answers, expected.out is what is gathered,
// without times and round trips.
func TestCases(t *testing.T) {
	dirs, err := filepath.Glob("testcases/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no test cases: ", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			c := config.NewConfig()
			if err := c.LoadConfig(filepath.Join(dir, "telegraf.conf")); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(dir, "probes.txt"))
			if err != nil {
				t.Fatal(err)
			}
			answer := map[string]string{}
			for line := range strings.Lines(string(b)) {
				address, how, _ := strings.Cut(strings.TrimSpace(line), " ")
				answer[address] = how
			}
			in := c.Inputs[0].Input.(*Input)
			in.Log = testutil.Logger{Quiet: true}
			in.dial = func(_ context.Context, address string) error {
				if answer[address] != "open" {
					return errors.New(answer[address])
				}
				return nil
			}
			if err := in.Init(); err != nil {
				t.Fatal(err)
			}
			acc := &testutil.Accumulator{}
			if err := in.Gather(acc); err != nil {
				t.Fatal(err)
			}
			p := &influx.Parser{}
			if err := p.Init(); err != nil {
				t.Fatal(err)
			}
			want, err := testutil.ParseMetricsFromFile(filepath.Join(dir, "expected.out"), p)
			if err != nil {
				t.Fatal(err)
			}
			testutil.RequireMetricsEqual(t, want, acc.GetTelegrafMetrics(), testutil.SortMetrics(), testutil.IgnoreTime(), testutil.IgnoreFields("at_ns", "rtt_ms"))
		})
	}
}
