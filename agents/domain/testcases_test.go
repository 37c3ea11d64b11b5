package domain

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/testutil"

	"github.com/foreshift/foreshift/schemas"
)

var rewrite = flag.Bool("rewrite", false, "write the expected output of the test cases anew")

// TestCases runs every folder of testcases: telegraf.conf is loaded by Telegraf,
// domstats.txt (as virsh domstats prints it) and the descriptions <name>.xml are
// what the daemon at ${LIBVIRT_URI} serves, expected.out is what is gathered.
func TestCases(t *testing.T) {
	dirs, err := filepath.Glob("testcases/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no test cases: ", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			d := startDaemon(t, readGuests(t, dir)...)
			t.Setenv("LIBVIRT_URI", d.uri())
			c := config.NewConfig()
			if err := c.LoadConfig(filepath.Join(dir, "telegraf.conf")); err != nil {
				t.Fatal(err)
			}
			in := c.Inputs[0].Input.(*Input)
			in.Log = testutil.Logger{Quiet: true}
			if err := in.Init(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(in.Stop)
			acc := &testutil.Accumulator{}
			for range 2 { // the second shows what is told once only
				gatherHosts(t, in, acc, in.Hosts[0].ID)
			}
			got := render(acc.GetTelegrafMetrics(), d.uri())
			path := filepath.Join(dir, "expected.out")
			if *rewrite {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// readGuests reads the output of virsh domstats and the descriptions beside it.
func readGuests(t *testing.T, dir string) (gs []*fakeGuest) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "domstats.txt"))
	if err != nil {
		t.Fatal(err)
	}
	uuid := regexp.MustCompile(`<uuid>(.*)</uuid>`)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "Domain: "); ok {
			g := &fakeGuest{name: strings.Trim(name, "'"), id: int32(len(gs) + 1), persistent: 1}
			x, err := os.ReadFile(filepath.Join(dir, g.name+".xml"))
			if err != nil {
				t.Fatal(err)
			}
			g.xml = string(x)
			if g.vm, err = schemas.ParseVMID(uuid.FindStringSubmatch(g.xml)[1]); err != nil {
				t.Fatal(err)
			}
			gs = append(gs, g)
		} else if line != "" {
			g := gs[len(gs)-1]
			g.stats = append(g.stats, line)
			if line == "state.state=5" {
				g.id = -1
			}
		}
	}
	return gs
}

// render prints metrics without what differs from run to run.
func render(ms []telegraf.Metric, uri string) string {
	moment := regexp.MustCompile(`"time":"[^"]*"`)
	var b strings.Builder
	for _, m := range ms {
		fmt.Fprintf(&b, "%s %v\n", m.Name(), m.Tags())
		var lines []string
		for _, f := range m.FieldList() {
			if f.Key == "at_ns" {
				continue
			}
			v := strings.ReplaceAll(fmt.Sprint(f.Value), uri, "URI")
			v = strings.ReplaceAll(moment.ReplaceAllString(v, `"time":"TIME"`), `},{"vm"`, "},\n    {\"vm\"")
			lines = append(lines, fmt.Sprintf("  %s = %s\n", f.Key, v))
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, ""))
	}
	return b.String()
}
