// Package conf writes configurations for foreshift-agent.
//
// What comes in: [Settings], what an agent shall watch and where it shall put it.
// What goes out: a TOML file for Telegraf's own loader, readable by people, that
// cmd/foreshift-agent accepts as it is. It promises that whatever text the
// settings hold reaches the agent unchanged, and that the file is there whole or
// not at all. It imports nothing of Telegraf, so that the control plane can start
// agents without carrying it.
package conf

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Settings are what an agent is told. Zero values give the agent's own defaults
// unless said otherwise.
type Settings struct {
	Interval time.Duration // of the gathers; 0 = 10 s
	Flush    time.Duration // of the output; 0 = half the interval, 100 ms to 10 s

	URL         string // of the bus
	Credentials string // directory that holds creds/<role>.TEL.nk
	Role        string // "" = agent
	Agent       string // name in messages; "" = the machine's
	OwnHost     schemas.HostID

	Hosts       []Host
	Timeout     time.Duration // of one libvirt call
	Parallel    int           // hosts polled at a time
	DirtyVMs    int           // VMs per host and gather whose dirty rate is measured; negative = none
	SharedPaths []string
	VMLabels    map[string]map[string]string // by name or UUID

	Site   schemas.SiteID // the agent's own; wanted by Links
	Links  []Link
	Probes []Probe

	Debug   bool
	Quiet   bool
	LogFile string // "" = standard error
}

// Host is one libvirt host to watch.
type Host struct {
	ID         schemas.HostID
	Site       schemas.SiteID
	URI        string
	Capacity   schemas.Amounts // CPU in mCPU of reference speed; 0 = measured (CPU, Mem), not limited (Net, Disk)
	Overcommit schemas.Overcommit
	Speed      schemas.Ratio // 0 = 1
	Domain     string        // failure domain
	Usage      string        // auto, node or vms; "" = auto
	Labels     map[string]string
	Simulated  bool
}

// Link is a link from Site to another.
type Link struct {
	Site      schemas.SiteID
	Address   string // HOST:PORT where a TCP connection shows the round trip
	Bandwidth schemas.BytesPerSecond
	Interface string // whose traffic is taken off; "" = none
}

// Probe is the application of a VM, asked by HTTP.
type Probe struct {
	URL string
	VM  schemas.VMID
}

// Write checks the settings and writes the configuration, mode 0600. It replaces
// the file at once or leaves it as it was.
func Write(path string, s Settings) error {
	text, err := s.TOML()
	if err != nil {
		return fmt.Errorf("agent configuration: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".agent-*.conf")
	if err != nil {
		return fmt.Errorf("agent configuration: %w", err)
	}
	defer os.Remove(f.Name()) // gone already when it was renamed
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("agent configuration %s: %w", path, err)
	}
	return nil
}

func (s *Settings) defaults() {
	if s.Interval == 0 {
		s.Interval = 10 * time.Second
	}
	if s.Flush == 0 {
		s.Flush = min(max(s.Interval/2, 100*time.Millisecond), 10*time.Second)
	}
	if s.Role == "" {
		s.Role = "agent"
	}
}

// check tells all faults at once; the plugins check the rest when they load.
func (s *Settings) check() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if s.Interval < 10*time.Millisecond || s.Flush < 10*time.Millisecond {
		bad("interval %v and flush %v: want 10ms or more", s.Interval, s.Flush)
	}
	if s.URL == "" || s.Credentials == "" {
		bad("url and credentials of the bus are wanted")
	}
	if len(s.Hosts) == 0 && len(s.Links) == 0 {
		bad("nothing to watch: no hosts and no links")
	}
	seen := map[schemas.HostID]bool{}
	for i, h := range s.Hosts {
		if err := schemas.CheckToken("id", string(h.ID)); err != nil {
			bad("host %d: %w", i+1, err)
		}
		if err := schemas.CheckToken("site", string(h.Site)); err != nil {
			bad("host %q: %w", h.ID, err)
		}
		if h.URI == "" {
			bad("host %q: no uri", h.ID)
		}
		if seen[h.ID] {
			bad("host %q is there twice", h.ID)
		}
		seen[h.ID] = true
		for _, v := range h.Capacity.Vec() {
			if !(v >= 0) || !schemas.Finite(v) {
				bad("host %q: capacity %v", h.ID, v)
			}
		}
	}
	if len(s.Links) > 0 {
		if err := schemas.CheckToken("site", string(s.Site)); err != nil {
			bad("links want the agent's own site: %w", err)
		}
	}
	for _, l := range s.Links {
		if _, _, err := net.SplitHostPort(l.Address); err != nil || !(l.Bandwidth > 0) || !schemas.Finite(float64(l.Bandwidth)) {
			bad("link to %q: want an address HOST:PORT and a bandwidth, have %q and %v", l.Site, l.Address, float64(l.Bandwidth))
		}
	}
	for _, p := range s.Probes {
		if p.VM.IsZero() || p.URL == "" {
			bad("probe %q of VM %s: want both", p.URL, p.VM)
		}
	}
	return errors.Join(errs...)
}

// TOML is the configuration as text.
func (s Settings) TOML() (string, error) {
	s.defaults()
	if err := s.check(); err != nil {
		return "", err
	}
	w := &writer{}
	w.line("# Written by foreshift; the agent's sample configuration explains every setting.")
	w.section("[agent]")
	w.duration("interval", s.Interval)
	w.duration("flush_interval", s.Flush)
	w.set("round_interval", "true")
	w.text("precision", "1ms")
	w.set("metric_batch_size", "5000")
	w.set("metric_buffer_limit", "200000")
	w.set("omit_hostname", "true")
	w.set("skip_processors_after_aggregators", "true")
	w.flag("debug", s.Debug)
	w.flag("quiet", s.Quiet)
	w.text("logfile", s.LogFile)
	s.domain(w)
	s.link(w)
	if s.OwnHost != "" {
		w.section("[[inputs.cpu]]")
		w.set("percpu", "false")
		w.section("[[inputs.mem]]")
		w.section("[[inputs.net]]")
		w.set("ignore_protocol_stats", "true")
		w.section("[[inputs.kernel]]")
		w.list("collect", []string{"psi"})
	}
	if len(s.Probes) > 0 {
		w.section("[[inputs.http_response]]")
		urls := make([]string, 0, len(s.Probes))
		for _, p := range s.Probes {
			urls = append(urls, p.URL)
		}
		w.list("urls", urls)
	}
	s.output(w)
	return w.String(), nil
}

func (s *Settings) domain(w *writer) {
	if len(s.Hosts) == 0 {
		return
	}
	const table = "inputs.foreshift_domain"
	w.section("[[" + table + "]]")
	w.duration("timeout", s.Timeout)
	w.number("parallel", float64(s.Parallel))
	if s.DirtyVMs != 0 {
		w.set("dirty_rate_vms", strconv.Itoa(max(s.DirtyVMs, 0)))
	}
	w.list("shared_paths", s.SharedPaths)
	for _, vm := range slices.Sorted(maps.Keys(s.VMLabels)) {
		w.table(table+".vm_labels."+quoteKey(vm), s.VMLabels[vm])
	}
	for _, h := range s.Hosts {
		const table = table + ".host"
		speed := float64(h.Speed)
		if speed == 0 {
			speed = 1
		}
		w.section("[[" + table + "]]")
		w.text("id", string(h.ID))
		w.text("site", string(h.Site))
		w.text("uri", h.URI)
		w.number("speed_ratio", float64(h.Speed))
		w.text("failure_domain", h.Domain)
		w.text("usage", h.Usage)
		w.flag("simulated", h.Simulated)
		w.table(table+".labels", h.Labels)
		if h.Capacity != (schemas.Amounts{}) {
			w.section("[" + table + ".capacity]")
			w.number("cores", float64(h.Capacity.CPU)/1000/speed)
			w.bytes("mem", float64(h.Capacity.Mem))
			w.bytes("net", float64(h.Capacity.Net))
			w.bytes("disk", float64(h.Capacity.Disk))
		}
		if h.Overcommit != (schemas.Overcommit{}) {
			w.section("[" + table + ".overcommit]")
			w.number("cpu", float64(h.Overcommit.CPU))
			w.number("mem", float64(h.Overcommit.Mem))
		}
	}
}

func (s *Settings) link(w *writer) {
	if len(s.Links) == 0 {
		return
	}
	const table = "inputs.foreshift_link"
	w.section("[[" + table + "]]")
	w.text("site", string(s.Site))
	w.text("by", s.Agent)
	for _, l := range s.Links {
		w.section("[[" + table + ".target]]")
		w.text("site", string(l.Site))
		w.text("address", l.Address)
		w.bytes("bandwidth", float64(l.Bandwidth))
		w.text("interface", l.Interface)
	}
}

func (s *Settings) output(w *writer) {
	const table = "outputs.foreshift_jetstream"
	w.section("[[" + table + "]]")
	w.text("url", s.URL)
	w.text("credentials", s.Credentials)
	w.text("role", s.Role)
	w.text("agent", s.Agent)
	w.duration("interval", s.Interval)
	w.text("own_host", string(s.OwnHost))
	if len(s.Probes) > 0 {
		probes := map[string]string{}
		for _, p := range s.Probes {
			probes[p.URL] = p.VM.String()
		}
		w.table(table+".probes", probes)
	}
}

// writer writes TOML. What is empty or zero is left to the agent's defaults.
type writer struct{ strings.Builder }

func (w *writer) line(s string)         { w.WriteString(s + "\n") }
func (w *writer) section(s string)      { w.line("\n" + s) }
func (w *writer) set(key, value string) { w.line("  " + key + " = " + value) }
func (w *writer) flag(key string, v bool) {
	if v {
		w.set(key, "true")
	}
}

func (w *writer) text(key, v string) {
	if v != "" {
		w.set(key, quote(v))
	}
}

func (w *writer) duration(key string, v time.Duration) {
	if v != 0 {
		w.text(key, v.String())
	}
}

func (w *writer) number(key string, v float64) {
	if v == 0 {
		return
	}
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if key != "parallel" && !strings.Contains(s, ".") {
		s += ".0"
	}
	w.set(key, s)
}

func (w *writer) bytes(key string, v float64) {
	if v > 0 {
		w.set(key, strconv.FormatInt(int64(min(v, 1<<62)), 10))
	}
}

func (w *writer) list(key string, vs []string) {
	if len(vs) == 0 {
		return
	}
	q := make([]string, len(vs))
	for i, v := range vs {
		q[i] = quote(v)
	}
	w.set(key, "["+strings.Join(q, ", ")+"]")
}

func (w *writer) table(name string, m map[string]string) {
	if len(m) == 0 {
		return
	}
	w.section("[" + name + "]")
	for _, k := range slices.Sorted(maps.Keys(m)) {
		w.set(quoteKey(k), quote(m[k]))
	}
}

// quote writes a value. A dollar sign is doubled, since Telegraf would take it for
// a variable of the environment; in keys it does not.
func quote(s string) string { return quoteKey(strings.ReplaceAll(s, "$", "$$")) }

// quoteKey writes a TOML basic string.
func quoteKey(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
