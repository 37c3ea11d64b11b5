package domain

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/plugins/inputs"
	"github.com/influxdata/telegraf/selfstat"

	"github.com/foreshift/foreshift/schemas"
)

//go:embed sample.conf
var sampleConfig string

// Name is the input's name in a configuration.
const Name = "foreshift_domain"

// Input is the plugin. Its exported fields are its configuration; sample.conf
// describes them.
type Input struct {
	Hosts       []*Host                      `toml:"host"`
	Timeout     config.Duration              `toml:"timeout"`
	Parallel    int                          `toml:"parallel"`
	DirtyVMs    int                          `toml:"dirty_rate_vms"`
	SharedPaths []string                     `toml:"shared_paths"`
	VMLabels    map[string]map[string]string `toml:"vm_labels"`
	Log         telegraf.Logger              `toml:"-"`

	watched []*watched
	slots   chan struct{}
	ctx     context.Context
	stop    context.CancelFunc
	polls   sync.WaitGroup
	last    time.Time     // when the last gather began
	spacing time.Duration // between the last two
}

// Host is one libvirt host as the configuration declares it.
type Host struct {
	ID         string            `toml:"id"`
	Site       string            `toml:"site"`
	URI        string            `toml:"uri"`
	Speed      float64           `toml:"speed_ratio"`
	Domain     string            `toml:"failure_domain"`
	Simulated  bool              `toml:"simulated"`
	Usage      string            `toml:"usage"`
	Labels     map[string]string `toml:"labels"`
	Capacity   Capacity          `toml:"capacity"`
	Overcommit Overcommit        `toml:"overcommit"`
}

// Capacity is the declared capacity of a host, what its own system takes left out; zero
// is measured (cores; mem less half a GiB for the host) or not limited (net, disk).
type Capacity struct {
	Cores float64     `toml:"cores"`
	Mem   config.Size `toml:"mem"`
	Net   config.Size `toml:"net"`
	Disk  config.Size `toml:"disk"`
}

// Overcommit multiplies capacity when room is judged; zero is 1.
type Overcommit struct {
	CPU float64 `toml:"cpu"`
	Mem float64 `toml:"mem"`
}

// watched is a host and its poll under way.
type watched struct {
	*host
	busy    atomic.Bool
	failing atomic.Bool
	errors  selfstat.Stat
	late    selfstat.Stat
	took    selfstat.Stat
}

// SampleConfig implements [telegraf.PluginDescriber].
func (*Input) SampleConfig() string { return sampleConfig }

// Init checks the configuration and tells all its faults at once.
func (in *Input) Init() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if len(in.Hosts) == 0 {
		bad("no hosts: add [[inputs.%s.host]] with id, site and uri", Name)
	}
	if in.Timeout <= 0 {
		bad("timeout %v: want more than 0, such as \"5s\"", time.Duration(in.Timeout))
	}
	if in.Parallel < 1 || in.Parallel > 4096 {
		bad("parallel %d: want 1 to 4096 hosts at a time", in.Parallel)
	}
	if in.DirtyVMs < 0 || in.DirtyVMs > 64 {
		bad("dirty_rate_vms %d: want 0 (off) to 64 VMs a gather", in.DirtyVMs)
	}
	seen := map[string]bool{}
	for i, h := range in.Hosts {
		if err := h.check(); err != nil {
			bad("host %d (%q): %w", i+1, h.ID, err)
		}
		if seen[h.ID] {
			bad("host %d: id %q is there twice", i+1, h.ID)
		}
		seen[h.ID] = true
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	opt := &options{timeout: time.Duration(in.Timeout), dirty: in.DirtyVMs, shared: in.SharedPaths, vmLabels: in.VMLabels}
	in.watched = in.watched[:0]
	for _, h := range in.Hosts {
		tags := map[string]string{"host": h.ID}
		in.watched = append(in.watched, &watched{
			host:   newHost(h, opt),
			errors: selfstat.Register(Name, "errors", tags),
			late:   selfstat.Register(Name, "late", tags),
			took:   selfstat.RegisterTiming(Name, "poll_ns", tags),
		})
	}
	in.slots = make(chan struct{}, in.Parallel)
	in.ctx, in.stop = context.WithCancel(context.Background())
	return nil
}

// check validates a host and fills what was left out.
func (h *Host) check() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if err := schemas.CheckToken("id", h.ID); err != nil {
		errs = append(errs, err)
	}
	if err := schemas.CheckToken("site", h.Site); err != nil {
		errs = append(errs, err)
	}
	if u, err := url.Parse(h.URI); err != nil {
		bad("uri: %w", err)
	} else if t := transport(u); u.Scheme == "" || t != "unix" && t != "tcp" && t != "tls" {
		bad("uri %q: want qemu:///system, qemu+unix:///system?socket=PATH, qemu+tcp://HOST/system or qemu+tls://HOST/system", h.URI)
	}
	for _, v := range []struct {
		name string
		at   *float64
		most float64
	}{{"speed_ratio", &h.Speed, 100}, {"overcommit.cpu", &h.Overcommit.CPU, 100}, {"overcommit.mem", &h.Overcommit.Mem, 100}} {
		if *v.at == 0 {
			*v.at = 1
		}
		if !(*v.at > 0 && *v.at <= v.most) {
			bad("%s %v: want a ratio above 0 and at most %v", v.name, *v.at, v.most)
		}
	}
	if c := h.Capacity.Cores; !(c >= 0 && c <= 1e6) {
		bad("capacity.cores %v: want 0 (measured) to 1000000", c)
	}
	if h.Capacity.Mem < 0 || h.Capacity.Net < 0 || h.Capacity.Disk < 0 {
		bad("capacity: mem, net and disk must not be negative")
	}
	switch h.Usage {
	case "", "auto", usageNode, usageVMs:
	default:
		bad("usage %q: want auto, node or vms", h.Usage)
	}
	return errors.Join(errs...)
}

// Start implements [telegraf.ServiceInput]: a poll that is late delivers after
// its gather, so the plugin must be told when to stop.
func (in *Input) Start(telegraf.Accumulator) error { return nil }

// Stop ends the polls under way and closes the connections.
func (in *Input) Stop() {
	in.stop()
	in.polls.Wait()
	for _, w := range in.watched {
		w.close()
	}
}

// Gather polls every host that is not still being polled, and waits for them, but
// not longer than half a gather's spacing: what comes later is delivered then.
func (in *Input) Gather(acc telegraf.Accumulator) error {
	now := time.Now()
	if !in.last.IsZero() {
		in.spacing = now.Sub(in.last)
	}
	in.last = now
	done := make(chan struct{}, len(in.watched))
	started := 0
	for _, w := range in.watched {
		if !w.busy.CompareAndSwap(false, true) {
			w.late.Incr(1)
			continue
		}
		started++
		in.polls.Add(1)
		go func() {
			defer in.polls.Done()
			defer func() { w.busy.Store(false); done <- struct{}{} }()
			in.poll(acc, w)
		}()
	}
	limit := time.Duration(in.Timeout)
	if in.spacing > 0 {
		limit = min(limit, in.spacing/2)
	}
	patience := time.NewTimer(limit)
	defer patience.Stop()
	for ; started > 0; started-- {
		select {
		case <-done:
		case <-patience.C:
			return nil
		case <-in.ctx.Done():
			return nil
		}
	}
	return nil
}

func (in *Input) poll(acc telegraf.Accumulator, w *watched) {
	select {
	case in.slots <- struct{}{}:
		defer func() { <-in.slots }()
	case <-in.ctx.Done():
		return
	}
	// The deadline holds for each call; all calls of a poll share a few of them.
	ctx, cancel := context.WithTimeout(in.ctx, 3*time.Duration(in.Timeout))
	defer cancel()
	start := time.Now()
	r, err := w.poll(ctx)
	switch {
	case errors.Is(err, errBackingOff):
		return
	case err == nil:
		w.took.Incr(time.Since(start).Nanoseconds())
		err = w.emit(acc, r)
	}
	if in.ctx.Err() != nil {
		return
	}
	if err != nil {
		w.errors.Incr(1)
		if !w.failing.Swap(true) {
			acc.AddError(fmt.Errorf("%s: %w; asking again after %v", w.host, err, w.wait))
		} else {
			in.Log.Debugf("%s: %v; asking again after %v", w.host, err, w.wait)
		}
		return
	}
	if w.failing.Swap(false) {
		in.Log.Infof("%s answers again", w.host)
	}
}

func init() {
	inputs.Add(Name, func() telegraf.Input {
		return &Input{Timeout: config.Duration(5 * time.Second), Parallel: 64, DirtyVMs: 2}
	})
}
