package link

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/config"
	"github.com/influxdata/telegraf/plugins/inputs"

	"github.com/foreshift/foreshift/schemas"
)

//go:embed sample.conf
var sampleConfig string

// Name is the input's name in a configuration; Measurement that of its metrics.
const (
	Name        = "foreshift_link"
	Measurement = "foreshift_link"
)

// Input is the plugin. Its exported fields are its configuration; sample.conf
// describes them.
type Input struct {
	Site    string          `toml:"site"`
	By      string          `toml:"by"`
	Timeout config.Duration `toml:"timeout"`
	Probes  int             `toml:"probes"`
	Targets []*Target       `toml:"target"`
	Log     telegraf.Logger `toml:"-"`

	sysfs string // where interface counters are read
	dial  func(ctx context.Context, address string) error
}

// Target is the far end of one link.
type Target struct {
	Site      string      `toml:"site"`
	Address   string      `toml:"address"`
	Bandwidth config.Size `toml:"bandwidth"`
	Interface string      `toml:"interface"`

	last   traffic
	lastAt time.Time
}

// traffic is what has passed an interface, in bytes.
type traffic struct{ rx, tx uint64 }

// SampleConfig implements [telegraf.PluginDescriber].
func (*Input) SampleConfig() string { return sampleConfig }

// Init checks the configuration and tells all its faults at once.
func (in *Input) Init() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if err := schemas.CheckToken("site", in.Site); err != nil {
		errs = append(errs, err)
	}
	if in.Timeout <= 0 {
		bad("timeout %v: want more than 0, such as \"1s\"", time.Duration(in.Timeout))
	}
	if in.Probes < 1 || in.Probes > 100 {
		bad("probes %d: want 1 to 100 a gather", in.Probes)
	}
	if len(in.Targets) == 0 {
		bad("no targets: add [[inputs.%s.target]] with site, address and bandwidth", Name)
	}
	for i, t := range in.Targets {
		if err := schemas.CheckToken("site", t.Site); err != nil {
			bad("target %d: %w", i+1, err)
		} else if t.Site == in.Site {
			bad("target %d: site %q is our own; a link joins two sites", i+1, t.Site)
		}
		if _, port, err := net.SplitHostPort(t.Address); err != nil || port == "" {
			bad("target %d: address %q: want HOST:PORT", i+1, t.Address)
		}
		if t.Bandwidth <= 0 {
			bad("target %d: bandwidth %d: declare what the link carries in bytes per second, such as \"125MB\"", i+1, t.Bandwidth)
		}
		if t.Interface != filepath.Base(t.Interface) && t.Interface != "" {
			bad("target %d: interface %q: want a name such as eth0", i+1, t.Interface)
		}
	}
	if in.By == "" {
		name, err := os.Hostname()
		if err != nil {
			bad("by: %w; set it to the agent's name", err)
		}
		in.By = name
	}
	return errors.Join(errs...)
}

// Gather probes all links side by side.
func (in *Input) Gather(acc telegraf.Accumulator) error {
	var wg sync.WaitGroup
	for _, t := range in.Targets {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := in.probe(acc, t); err != nil {
				acc.AddError(fmt.Errorf("link %s to %s: %w", in.Site, t.Site, err))
			}
		}()
	}
	wg.Wait()
	return nil
}

func (in *Input) probe(acc telegraf.Accumulator, t *Target) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(in.Timeout))
	defer cancel()
	rtts := make([]time.Duration, 0, in.Probes)
	var lost int
	var why error
	for range in.Probes {
		start := time.Now()
		err := in.dial(ctx, t.Address)
		took := time.Since(start)
		if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			lost++
			why = err
			continue
		}
		rtts = append(rtts, took)
	}
	now := time.Now()
	a, b := in.Site, t.Site
	if b < a {
		a, b = b, a
	}
	fields := map[string]any{
		"at_ns":                      now.UnixNano(),
		"loss_ratio":                 float64(lost) / float64(in.Probes),
		"bandwidth_bytes_per_second": float64(t.Bandwidth),
	}
	if len(rtts) > 0 {
		slices.Sort(rtts)
		fields["rtt_ms"] = float64(rtts[len(rtts)/2]) / float64(time.Millisecond)
	}
	free, err := in.free(t, now)
	if err != nil {
		return errors.Join(err, why)
	}
	fields["free_bytes_per_second"] = free
	acc.AddFields(Measurement, fields, map[string]string{"site_a": a, "site_b": b, "by": in.By}, now)
	if len(rtts) == 0 {
		return fmt.Errorf("no probe of %s came back: %w", t.Address, why)
	}
	return nil
}

// free is the bandwidth less what passed the named interface, in the busier
// direction, since the gather before; all of it where no interface is named or
// this is the first gather.
func (in *Input) free(t *Target, now time.Time) (float64, error) {
	total := float64(t.Bandwidth)
	if t.Interface == "" {
		return total, nil
	}
	cur, err := readTraffic(filepath.Join(in.sysfs, t.Interface, "statistics"))
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", t.Interface, err)
	}
	last, since := t.last, now.Sub(t.lastAt).Seconds()
	first := t.lastAt.IsZero()
	t.last, t.lastAt = cur, now
	if first || since <= 0 || cur.rx < last.rx || cur.tx < last.tx {
		return total, nil
	}
	busier := max(cur.rx-last.rx, cur.tx-last.tx)
	return max(0, total-float64(busier)/since), nil
}

func readTraffic(dir string) (t traffic, err error) {
	read := func(name string) uint64 {
		b, e := os.ReadFile(filepath.Join(dir, name))
		if e != nil {
			err = errors.Join(err, e)
			return 0
		}
		v, e := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, e))
		}
		return v
	}
	t = traffic{rx: read("rx_bytes"), tx: read("tx_bytes")}
	return t, err
}

// connect opens and closes one TCP connection.
func connect(ctx context.Context, address string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

func init() {
	inputs.Add(Name, func() telegraf.Input {
		return &Input{Timeout: config.Duration(time.Second), Probes: 3, sysfs: "/sys/class/net", dial: connect}
	})
}
