package jetstream

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/plugins/parsers/influx"
	"github.com/influxdata/telegraf/testutil"

	"github.com/foreshift/foreshift/schemas"
)

var rewrite = flag.Bool("rewrite", false, "write the expected output of the test cases anew")

// TestCases runs every folder of testcases: telegraf.conf is loaded by Telegraf,
// input.influx holds the metrics as line protocol, expected.out is what reaches
// the bus, as foreshift decode prints it.
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
			o := c.Outputs[0].Output.(*Output)
			b := &fakeBus{ids: map[string]bool{}}
			o.Log, o.connect = testutil.Logger{Quiet: true}, func(context.Context) (bus, error) { return b, nil }
			if err := o.Init(); err != nil {
				t.Fatal(err)
			}
			o.build.agent = "agent-1"
			p := &influx.Parser{}
			if err := p.Init(); err != nil {
				t.Fatal(err)
			}
			ms, err := testutil.ParseMetricsFromFile(filepath.Join(dir, "input.influx"), p)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(ms); i += 2 { // batches of two
				write(t, o, ms[i:min(i+2, len(ms))]...)
			}
			var got strings.Builder
			for _, out := range b.stored {
				lines, err := schemas.JSONLines(out.Msg)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&got, "%s  %s\n%s", out.Subject, out.ID, lines)
			}
			path := filepath.Join(dir, "expected.out")
			if *rewrite {
				if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got.String(), want)
			}
		})
	}
}
