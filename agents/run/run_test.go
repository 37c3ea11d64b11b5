package run

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/telegraf/config"

	"github.com/foreshift/foreshift/agents/conf"
	"github.com/foreshift/foreshift/agents/domain"
	"github.com/foreshift/foreshift/agents/jetstream"
	"github.com/foreshift/foreshift/agents/link"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
)

func main1(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = Main(args, &o, &e)
	return code, o.String(), e.String()
}

func TestExitCodesAndWords(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := file("good.conf", "[[inputs.mem]]\n[[outputs.discard]]\n")
	for _, c := range []struct {
		name string
		args []string
		code int
		out  string
		errs string
	}{
		{"version", []string{"--version"}, 0, "Telegraf", ""},
		{"help", []string{"--help"}, 0, "", "config-directory"},
		{"no configuration", nil, 2, "", "--sample-config"},
		{"unknown flag", []string{"--bogus"}, 2, "", "bogus"},
		{"unknown command", []string{"confg"}, 2, "", "confg"},
		{"both modes", []string{"--config", good, "--test", "--once"}, 2, "", "exclude"},
		{"plugins", []string{"plugins"}, 0, "inputs.foreshift_domain\n", ""},
		{"sample", []string{"--sample-config"}, 0, "[[inputs.foreshift_domain.host]]", ""},
		{"sample of one", []string{"--sample-config", "--input-filter", "cpu", "--output-filter", "file"}, 0, "[[inputs.cpu]]", ""},
		{"sample of none", []string{"--sample-config", "--input-filter", "nope"}, 2, "", "nope"},
		{"check", []string{"config", "check", "--config", good}, 0, "", ""},
		{"flags after the command", []string{"--quiet", "config", "check", "--config", good}, 0, "", ""},
		{"missing file", []string{"--config", filepath.Join(dir, "none.conf")}, 1, "", "none.conf"},
		{"bad setting", []string{"config", "check", "--config", file("bad.conf", "[[inputs.foreshift_domain]]\n timeuot = \"1s\"\n[[outputs.discard]]\n")}, 1, "", "timeuot"},
		{"bad host", []string{"config", "check", "--config", file("host.conf", "[[inputs.foreshift_domain]]\n[[inputs.foreshift_domain.host]]\n id=\"a b\"\n site=\"s\"\n uri=\"qemu:///system\"\n[[outputs.discard]]\n")}, 1, "", "a b"},
		{"no outputs", []string{"--config", file("in.conf", "[[inputs.mem]]\n")}, 1, "", "no outputs"},
		{"filtered away", []string{"--config", good, "--input-filter", "cpu"}, 1, "", "--input-filter"},
		{"once", []string{"--config", good, "--once", "--quiet"}, 0, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := main1(c.args...)
			if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) {
				t.Errorf("code %d, want %d\nout: %s\nerr: %s", code, c.code, out, errs)
			}
		})
	}
}

func TestTheSampleConfigurationLoads(t *testing.T) {
	_, sample, _ := main1("--sample-config")
	c := config.NewConfig()
	if err := c.LoadConfigData([]byte(sample), "sample"); err != nil {
		t.Fatal(err)
	}
	if len(c.Inputs) != 2 || len(c.Outputs) != 1 {
		t.Errorf("%d inputs, %d outputs", len(c.Inputs), len(c.Outputs))
	}
}

// settings use every field, with text that TOML or Telegraf could take for its own.
func settings(dir string) conf.Settings {
	return conf.Settings{
		Interval: time.Second, Flush: 200 * time.Millisecond, URL: "nats://127.0.0.1:4222", Credentials: dir, Agent: "agent-1", OwnHost: "h1",
		Timeout: 3 * time.Second, Parallel: 7, DirtyVMs: -1, SharedPaths: []string{"/srv/a", `/srv/"b"`},
		VMLabels: map[string]map[string]string{"vm.1": {"team": "blue"}},
		Hosts: []conf.Host{
			{ID: "h1", Site: "a", URI: "qemu+tcp://127.0.0.1:1/system", Capacity: schemas.Amounts{CPU: 3000, Mem: 1 << 30, Net: 1e9, Disk: 2e9},
				Overcommit: schemas.Overcommit{CPU: 1.5}, Speed: 1.5, Domain: "rack 1", Usage: "node", Simulated: true,
				Labels: map[string]string{"odd key": `\ " $HOME ${PATH} ä` + "\n\t\x01"}},
			{ID: "h2", Site: "b", URI: "qemu:///system"},
		},
		Site: "a", Links: []conf.Link{{Site: "b", Address: "127.0.0.1:22", Bandwidth: 1e6, Interface: "eth0"}},
		Probes: []conf.Probe{{URL: "http://shop/?a=$b", VM: schemas.VMID{1}}},
	}
}

func TestSettingsReachThePlugins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.conf")
	s := settings("/var/lib/foreshift")
	if err := conf.Write(path, s); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := main1("config", "check", "--config", path); code != 0 {
		t.Fatal(errs)
	}
	c, err := load(&flags{configs: []string{path}})
	if err != nil {
		t.Fatal(err)
	}
	if time.Duration(c.Agent.Interval) != s.Interval || time.Duration(c.Agent.FlushInterval) != s.Flush {
		t.Errorf("interval %v, flush %v", c.Agent.Interval, c.Agent.FlushInterval)
	}
	var seen int
	for _, in := range c.Inputs {
		switch p := in.Input.(type) {
		case *domain.Input:
			seen++
			if time.Duration(p.Timeout) != s.Timeout || p.Parallel != 7 || p.DirtyVMs != 0 || p.SharedPaths[1] != s.SharedPaths[1] || p.VMLabels["vm.1"]["team"] != "blue" {
				t.Errorf("domain %+v", p)
			}
			h := p.Hosts[0]
			if h.ID != "h1" || h.Site != "a" || h.Speed != 1.5 || h.Capacity.Cores != 2 || h.Capacity.Mem != 1<<30 || h.Capacity.Net != 1e9 ||
				h.Overcommit.CPU != 1.5 || h.Domain != "rack 1" || h.Usage != "node" || !h.Simulated || h.Labels["odd key"] != s.Hosts[0].Labels["odd key"] {
				t.Errorf("host %+v", h)
			}
			if len(p.Hosts) != 2 || p.Hosts[1].URI != "qemu:///system" || p.Hosts[1].Simulated {
				t.Errorf("host %+v", p.Hosts[1])
			}
		case *link.Input:
			seen++
			if p.Site != "a" || len(p.Targets) != 1 || p.Targets[0].Bandwidth != 1e6 || p.Targets[0].Interface != "eth0" {
				t.Errorf("link %+v", p)
			}
		}
	}
	o, ok := c.Outputs[0].Output.(*jetstream.Output)
	if !ok || seen != 2 || o.Credentials != s.Credentials || o.Agent != "agent-1" || o.OwnHost != "h1" || time.Duration(o.Interval) != s.Interval ||
		o.Probes[s.Probes[0].URL] != s.Probes[0].VM.String() {
		t.Errorf("output %+v, %d inputs of ours", o, seen)
	}
}

func TestSettingsAreChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.conf")
	err := conf.Write(path, conf.Settings{Hosts: []conf.Host{{ID: "a b"}, {ID: "c", Site: "s", URI: "u"}, {ID: "c", Site: "s", URI: "u"}},
		Links: []conf.Link{{Site: "x"}}, Probes: []conf.Probe{{}}})
	for _, want := range []string{"url", `"a b"`, "no uri", "twice", "own site", "HOST:PORT", "probe"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told in %v", want, err)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a configuration with faults must not be written")
	}
}

// TestOnce runs the whole agent against a real bus: what it gathers is there when
// it has ended.
func TestOnce(t *testing.T) {
	s, err := embedded.Start(embedded.Options{StateDir: t.TempDir(), Hosts: []schemas.HostID{"h1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	admin, err := streams.Connect(ctx, s.Credentials("admin"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := streams.Apply(ctx, admin, s.ApplyOptions()); err != nil {
		t.Fatal(err)
	}
	fleet := simulate(t, ctx, 1, 5)
	h := fleet.Hosts()[0]
	path := filepath.Join(t.TempDir(), "agent.conf")
	if err := conf.Write(path, conf.Settings{URL: s.URL(), Credentials: s.Dir(), Quiet: true,
		Hosts: []conf.Host{{ID: h.ID, Site: h.Site, URI: h.URI, Capacity: h.Capacity, Labels: h.Labels, Simulated: true}}}); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := main1("--config", path, "--once"); code != 0 {
		t.Fatal(errs)
	}
	viewer, err := streams.Connect(ctx, s.Credentials("inspector"))
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.Close()
	es, err := viewer.Last(ctx, streams.Metrics, "metrics.*")
	if err != nil || len(es) != 1 {
		t.Fatalf("%d messages, %v", len(es), err)
	}
	if m := es[0].Msg.(*schemas.Metrics); m.Host != h.ID || len(m.VM) != 6 {
		t.Errorf("host %s, %d rows; want %s and 6", m.Host, len(m.VM), h.ID)
	}
}
