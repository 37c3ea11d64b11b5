package jetstream

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/plugins/outputs"
	"github.com/influxdata/telegraf/selfstat"

	"github.com/foreshift/foreshift/agents/spool"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

//go:embed sample.conf
var sampleConfig string

// Name is the output's name in a configuration.
const Name = "foreshift_jetstream"

// Output is the plugin. Its exported fields are its configuration; sample.conf
// describes them.
type Output struct {
	URL         string            `toml:"url"`
	Credentials string            `toml:"credentials"`
	Role        string            `toml:"role"`
	Agent       string            `toml:"agent"`
	Interval    config.Duration   `toml:"interval"`
	OwnHost     string            `toml:"own_host"`
	LeaseTTL    config.Duration   `toml:"lease_ttl"`
	Timeout     config.Duration   `toml:"timeout"`
	Spool       string            `toml:"spool"`
	SpoolSize   config.Size       `toml:"spool_size"`
	Probes      map[string]string `toml:"probes"`
	Log         telegraf.Logger   `toml:"-"`

	connect func(context.Context) (bus, error)
	ctx     context.Context
	stop    context.CancelFunc
	bus     bus
	build   builder
	own     own
	probes  probes
	hosts   map[schemas.HostID]*hostState
	order   []schemas.HostID // of hosts, so that the work is done in one order
	vms     map[schemas.VMID]vmEntry
	swept   int64
	links   map[linkKey]*link
	spare   []*gather
	rows    int         // waiting, in all gathers
	ring    *spool.Ring // nil: none

	ignored, broken, overtaken, lost, sent, spooled, unspooled selfstat.Stat
}

// vmEntry is what bucket vms holds of a VM as far as this agent put it there.
type vmEntry struct {
	hash string
	seen int64 // gather that last named the VM, ns
}

// maxWaiting bounds the rows that wait for their gather to be complete, or for the
// bus: about 200 bytes each.
const maxWaiting = 1 << 18

// bus is what the output uses of [streams.Bus].
type bus interface {
	Publish(context.Context, streams.Out) (uint64, error)
	PublishAsync(context.Context, []streams.Out) error
	Hold(ctx context.Context, key string, ttl time.Duration) (*streams.Lease, error)
	Close()
}

// SampleConfig implements [telegraf.PluginDescriber].
func (*Output) SampleConfig() string { return sampleConfig }

// Init checks the configuration and tells all its faults at once.
func (o *Output) Init() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if o.URL == "" {
		bad("url: want the address of the bus, such as \"nats://127.0.0.1:4222\"")
	}
	if o.Credentials == "" {
		bad("credentials: want the directory that holds creds/%s.TEL.nk", o.Role)
	}
	if o.Interval < 0 || o.LeaseTTL < config.Duration(time.Second) || o.Timeout <= 0 {
		bad("interval %v must not be negative, lease_ttl %v not below 1s, timeout %v above 0",
			time.Duration(o.Interval), time.Duration(o.LeaseTTL), time.Duration(o.Timeout))
	}
	if o.OwnHost != "" {
		if err := schemas.CheckToken("own_host", o.OwnHost); err != nil {
			errs = append(errs, err)
		}
	}
	names := make(map[string]schemas.VMID, len(o.Probes))
	for key, vm := range o.Probes {
		id, err := schemas.ParseVMID(vm)
		if err != nil {
			bad("probes %q: %w", key, err)
		}
		names[key] = id
	}
	if o.Agent == "" {
		name, err := os.Hostname()
		if err != nil {
			bad("agent: %w; set it to a name of this agent", err)
		}
		o.Agent = name
	}
	if o.Spool != "" && len(errs) == 0 {
		var err error
		if o.ring, err = spool.Open(o.Spool, int64(o.SpoolSize)); err != nil {
			bad("spool: %w", err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	o.own = own{net: map[string]*wire{}}
	o.probes = probes{names: names, http: map[schemas.VMID]*reading{}, ping: map[schemas.VMID]*reading{}}
	o.hosts, o.vms, o.links = map[schemas.HostID]*hostState{}, map[schemas.VMID]vmEntry{}, map[linkKey]*link{}
	o.build = builder{
		// A name of this very run: a restarted agent counts from 1 again.
		agent:    o.Agent + "-" + strconv.FormatInt(time.Now().UnixNano(), 36),
		interval: time.Duration(o.Interval), ownHost: schemas.HostID(o.OwnHost), own: &o.own, probes: &o.probes,
		vmHash: func(v schemas.VMID) string { return o.vms[v].hash },
	}
	o.ctx, o.stop = context.WithCancel(context.Background())
	stat := func(name string) selfstat.Stat { return selfstat.Register(Name, name, map[string]string{}) }
	o.ignored, o.broken, o.overtaken, o.lost, o.sent = stat("ignored"), stat("broken"), stat("incomplete"), stat("lost"), stat("messages")
	o.spooled, o.unspooled = stat("spooled"), stat("spool_dropped")
	if o.connect == nil {
		o.connect = o.dial
	}
	return nil
}

func (o *Output) dial(ctx context.Context) (bus, error) {
	return streams.Connect(ctx, streams.Credentials{URL: o.URL, Role: o.Role, Dir: o.Credentials, Log: slog.Default()})
}

// Connect reaches for the bus. One that cannot be reached now is no error: the
// backlog waits in Telegraf's buffer and every Write tries again. Credentials
// that are not there are.
func (o *Output) Connect() error {
	err := o.reach()
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; run `foreshift streams auth` or point credentials at the state directory of `foreshift up`", err)
	}
	if err != nil {
		o.Log.Warnf("The bus cannot be reached yet, trying again at every flush: %v", err)
	}
	return nil
}

func (o *Output) reach() error {
	if o.bus != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(o.ctx, time.Duration(o.Timeout))
	defer cancel()
	b, err := o.connect(ctx)
	if err != nil {
		return fmt.Errorf("bus %s: %w", o.URL, err)
	}
	o.bus = b
	return nil
}

// Write takes metrics in and publishes every gather that is complete.
func (o *Output) Write(metrics []telegraf.Metric) error {
	for _, m := range metrics {
		o.ingest(m)
	}
	o.bound()
	if err := o.reach(); err != nil {
		return o.keep(err)
	}
	ctx, cancel := context.WithTimeout(o.ctx, time.Duration(o.Timeout))
	defer cancel()
	if err := o.unspool(ctx); err != nil {
		return o.keep(err)
	}
	if err := o.flush(ctx, false); err != nil {
		return o.keep(err)
	}
	return o.flushLinks(ctx)
}

// Close publishes what still waits and ends the connection.
func (o *Output) Close() error {
	if o.bus == nil {
		o.stop()
		return nil
	}
	ctx, cancel := context.WithTimeout(o.ctx, time.Duration(o.Timeout))
	defer cancel()
	err := o.flush(ctx, true)
	o.stop()
	for _, l := range o.links {
		l.release()
	}
	o.bus.Close()
	o.bus = nil
	if o.ring != nil {
		err = errors.Join(err, o.ring.Close())
	}
	return err
}

// ingest puts one metric where it belongs. The same metric again changes nothing.
func (o *Output) ingest(m telegraf.Metric) {
	switch m.Name() {
	case measureVM, measureHost:
		o.ingestHost(m)
	case measureLink:
		if !o.ingestLink(m) {
			o.broken.Incr(1)
		}
	case measureCPU, measureMem, measureNet, measurePSI:
		o.own.ingest(m)
	case measureResponse, measurePing:
		if !o.probes.ingest(m) {
			o.ignored.Incr(1)
		}
	default:
		o.ignored.Incr(1)
	}
}

func (o *Output) ingestHost(m telegraf.Metric) {
	head := readHeader(m)
	if schemas.CheckToken("host", head.host) != nil || schemas.CheckToken("site", head.site) != nil {
		o.broken.Incr(1)
		return
	}
	h := o.hosts[schemas.HostID(head.host)]
	if h == nil {
		h = &hostState{id: schemas.HostID(head.host), last: map[schemas.VMID]before{}}
		o.hosts[h.id] = h
		at, _ := slices.BinarySearch(o.order, h.id)
		o.order = slices.Insert(o.order, at, h.id)
	}
	g := h.find(head.at, o.fresh)
	if g == nil {
		return // published already: Telegraf repeats a batch of which a part failed
	}
	g.site = schemas.SiteID(head.site)
	if m.Name() == measureHost {
		g.host, g.done = readHost(m), true
		return
	}
	id, err := schemas.ParseVMID(head.vm)
	if err != nil || id.IsZero() || len(g.vms) >= schemas.MaxMetricsRows-1 {
		o.broken.Incr(1)
		return
	}
	before := len(g.vms)
	g.add(readVM(m, id))
	o.rows += len(g.vms) - before
}

// fresh gives an empty gather, a used one if there is.
func (o *Output) fresh() *gather {
	if n := len(o.spare); n > 0 {
		g := o.spare[n-1]
		o.spare = o.spare[:n-1]
		return g
	}
	return &gather{byVM: map[schemas.VMID]int{}}
}

// retire takes a gather back for use again.
func (o *Output) retire(g *gather) {
	o.rows -= len(g.vms)
	clear(g.byVM)
	*g = gather{vms: g.vms[:0], byVM: g.byVM}
	if len(o.spare) < 1024 {
		o.spare = append(o.spare, g)
	}
}

// bound gives up the oldest gathers when too many wait.
func (o *Output) bound() {
	for o.rows > maxWaiting {
		var oldest *hostState
		for _, id := range o.order {
			if h := o.hosts[id]; len(h.waiting) > 0 && (oldest == nil || h.waiting[0].at < oldest.waiting[0].at) {
				oldest = h
			}
		}
		g := oldest.waiting[0]
		oldest.waiting = slices.Delete(oldest.waiting, 0, 1)
		o.retire(g)
		o.lost.Incr(1)
	}
}

func init() {
	outputs.Add(Name, func() telegraf.Output {
		return &Output{Role: "agent", LeaseTTL: config.Duration(10 * time.Second), Timeout: config.Duration(20 * time.Second), SpoolSize: 256 << 20}
	})
}
