package console

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
)

// Options say what to measure.
type Options struct {
	Crowd
	Days   float64 // of closed steps that are there before
	Binary string  // foreshift itself
}

// Result is what was measured. Times are in milliseconds.
type Result struct {
	Bench       string             `json:"bench"`
	Hosts       int                `json:"hosts"`
	VMs         int                `json:"vms"`
	Steps       int                `json:"steps"`             // closed steps that were read at the start
	ReadyS      float64            `json:"ready_seconds"`     // from the start until all of it was read
	FirstS      float64            `json:"first_seconds"`     // until the fleet page showed every host
	RSSMB       float64            `json:"rss_mb"`            // at rest, after two further issues of forecasts and with a page open
	PeakMB      float64            `json:"rss_peak_mb"`       // ever
	CPU         float64            `json:"cpu_seconds"`       // of the console, in all
	IssueCPU    float64            `json:"issue_cpu_seconds"` // for one issue of forecasts and one round of reports
	Fleet       int                `json:"fleet_page_bytes"`
	PageMS      map[string]float64 `json:"page_ms"`   // median of nine, by path
	UpdateMS    float64            `json:"update_ms"` // median of nine: from publishing a report to the open fleet page
	UpdateMaxMS float64            `json:"update_max_ms"`
	PaintMS     float64            `json:"first_paint_ms,omitempty"` // median of five: first contentful paint of the fleet page in Chromium
	PaintMaxMS  float64            `json:"first_paint_max_ms,omitempty"`
	NoPaint     string             `json:"no_paint,omitempty"` // why there is none
}

// Run measures.
func Run(ctx context.Context, o Options) (res *Result, err error) {
	dir, err := os.MkdirTemp("", "foreshift-console-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := embedded.Start(embedded.Options{StateDir: dir})
	if err != nil {
		return nil, err
	}
	defer s.Shutdown()
	bus := func(role string) (*streams.Bus, error) {
		c := s.Credentials(role)
		c.Log = slog.New(slog.DiscardHandler)
		return streams.Connect(ctx, c)
	}
	b := bench{o: o, dir: dir, url: s.URL(), bus: map[string]*streams.Bus{}, res: &Result{Bench: "console", Hosts: o.Hosts, VMs: o.VMs, PageMS: map[string]float64{}}}
	for _, role := range []string{streams.RoleAdmin, streams.RoleAgent, streams.RoleForecaster, streams.RolePlacer, streams.RoleImporter} {
		if b.bus[role], err = bus(role); err != nil {
			return nil, err
		}
		defer b.bus[role].Close()
	}
	if _, err = streams.Apply(ctx, b.bus[streams.RoleAdmin], s.ApplyOptions()); err != nil {
		return nil, err
	}
	if err := b.fill(ctx); err != nil {
		return nil, err
	}
	if err := b.start(ctx); err != nil {
		return nil, err
	}
	defer b.stop()
	return b.res, b.measure(ctx)
}

type bench struct {
	o      Options
	dir    string
	url    string
	bus    map[string]*streams.Bus
	res    *Result
	cmd    *exec.Cmd
	page   string
	token  string
	issued schemas.Step
	begun  time.Time
	ended  chan error
}

// batch is how many messages are under way at a time.
const batch = 128

func send[M schemas.Message](ctx context.Context, bus *streams.Bus, all func(func(M) bool), subject func(M) (string, string)) error {
	var outs []streams.Out
	var err error
	flush := func() bool {
		err = bus.PublishAsync(ctx, outs)
		outs = outs[:0]
		return err == nil
	}
	all(func(m M) bool {
		sub, id := subject(m)
		outs = append(outs, streams.Out{Subject: sub, ID: id, Msg: m})
		return len(outs) < batch || flush()
	})
	if err == nil && len(outs) > 0 {
		flush()
	}
	return err
}

func (b *bench) capacity(ctx context.Context) error {
	now := schemas.At(time.Now())
	return send(ctx, b.bus[streams.RoleAgent], func(yield func(*schemas.CapacityHost) bool) {
		for h := range b.o.Hosts {
			if !yield(b.o.Capacity(h, now)) {
				return
			}
		}
	}, func(m *schemas.CapacityHost) (string, string) { return streams.SubjectCapacityHost(m.Host), "" })
}

func (b *bench) forecasts(ctx context.Context) error {
	return send(ctx, b.bus[streams.RoleForecaster], b.o.Forecasts(b.issued), func(m *schemas.Forecasts) (string, string) { return streams.SubjectForecasts(m.Partition), "" })
}

// fill puts on the bus what a fleet that has run for a while has put there.
func (b *bench) fill(ctx context.Context) error {
	b.issued = schemas.StepAt(schemas.At(time.Now()), b.o.Base) - 1
	b.res.Steps = int(b.o.Days * schemas.StepsPerDay)
	for i := b.res.Steps - 1; i >= 0; i-- {
		if err := send(ctx, b.bus[streams.RoleImporter], b.o.Steps(b.issued-schemas.Step(i)), func(m *schemas.Steps) (string, string) {
			return streams.SubjectSteps(m.Partition), fmt.Sprintf("%d.%d.0", m.Partition, m.Step)
		}); err != nil {
			return err
		}
	}
	if err := b.capacity(ctx); err != nil {
		return err
	}
	own := func(m schemas.Message) bool {
		p, ok := m.(*schemas.PressureVM)
		return ok && p.Cause == schemas.CauseOwnLimit
	}
	for role, mine := range map[string]bool{streams.RoleForecaster: true, streams.RolePlacer: false} {
		if err := send(ctx, b.bus[role], func(yield func(schemas.Message) bool) {
			for m := range b.o.Pressures(schemas.At(time.Now())) {
				if own(m) == mine && !yield(m) {
					return
				}
			}
		}, func(m schemas.Message) (string, string) {
			switch m := m.(type) {
			case *schemas.PressureVM:
				return streams.SubjectPressureVM(m.VM, m.Cause), ""
			case *schemas.PressureHost:
				return streams.SubjectPressureHost(m.Host), ""
			case *schemas.Benefit:
				return streams.SubjectBenefit(m.VM), ""
			}
			return "", ""
		}); err != nil {
			return err
		}
	}
	return b.forecasts(ctx)
}

var address = regexp.MustCompile(`listen=(http://\S+)`)

// start starts the console as people do, in a process of its own.
func (b *bench) start(ctx context.Context) error {
	b.cmd = exec.CommandContext(ctx, b.o.Binary, "--state", b.dir, "--nats", b.url, "console", "--listen", "127.0.0.1:0", "--base-step", b.o.Base.String())
	b.cmd.Cancel = func() error { return b.cmd.Process.Signal(os.Interrupt) }
	b.cmd.WaitDelay = 10 * time.Second
	log, err := b.cmd.StderrPipe()
	if err != nil {
		return err
	}
	b.begun = time.Now()
	if err := b.cmd.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(log)
	var said bytes.Buffer
	for b.page == "" && lines.Scan() {
		said.WriteString(lines.Text() + "\n")
		if m := address.FindStringSubmatch(lines.Text()); m != nil {
			b.page = m[1]
		}
	}
	if b.page == "" {
		return fmt.Errorf("the console did not start: %w\n%s", b.cmd.Wait(), said.String())
	}
	b.ended = make(chan error, 1)
	var drained sync.WaitGroup
	drained.Go(func() { io.Copy(io.Discard, log) })
	go func() { drained.Wait(); b.ended <- b.cmd.Wait() }()
	text, err := os.ReadFile(filepath.Join(b.dir, "console.tokens"))
	if err != nil {
		return err
	}
	for _, l := range strings.Split(string(text), "\n") {
		if w := strings.Fields(l); len(w) == 3 && w[0] == "viewer" {
			b.token = w[2]
		}
	}
	return nil
}

func (b *bench) stop() {
	b.cmd.Process.Signal(os.Interrupt)
	select {
	case <-b.ended:
	case <-time.After(10 * time.Second):
		b.cmd.Process.Kill()
	}
}

func (b *bench) get(ctx context.Context, path string) ([]byte, time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", b.page+path, nil)
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Authorization", "Bearer "+b.token)
	begun := time.Now()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", path, resp.Status, body)
	}
	return body, time.Since(begun), err
}

func (b *bench) measure(ctx context.Context) error {
	if err := b.untilRead(ctx); err != nil {
		return err
	}
	for _, path := range []string{"/", "/pressure", "/vms/" + b.o.VM(9).String(), "/hosts/" + string(b.o.Host(9)), "/plans", "/moves", "/learning", "/api/explain/vm-00009"} {
		var took []float64
		for range 9 {
			body, d, err := b.get(ctx, path)
			if err != nil {
				return err
			}
			took = append(took, float64(d.Microseconds())/1000)
			if path == "/" {
				b.res.Fleet = len(body)
			}
		}
		slices.Sort(took)
		b.res.PageMS[path] = took[len(took)/2]
	}
	if err := b.updates(ctx); err != nil {
		return err
	}
	before, err := b.cpu()
	if err != nil {
		return err
	}
	for range 2 { // forecasts come anew and hosts report meanwhile
		b.issued++
		if err := send(ctx, b.bus[streams.RoleImporter], b.o.Steps(b.issued), func(m *schemas.Steps) (string, string) { return streams.SubjectSteps(m.Partition), "" }); err != nil {
			return err
		}
		if err := errors.Join(b.forecasts(ctx), b.capacity(ctx)); err != nil {
			return err
		}
	}
	time.Sleep(5 * time.Second)
	if b.res.CPU, err = b.cpu(); err != nil {
		return err
	}
	b.res.IssueCPU = (b.res.CPU - before) / 2
	if b.res.RSSMB, b.res.PeakMB, err = b.memory(); err != nil {
		return err
	}
	if err := b.paint(ctx); errors.Is(err, ErrNoBrowser) {
		b.res.NoPaint = err.Error()
	} else if err != nil {
		return err
	}
	return nil
}

// untilRead waits until the console has read all that was there.
func (b *bench) untilRead(ctx context.Context) error {
	for {
		if time.Since(b.begun) > 15*time.Minute {
			return errors.New("the console has not read the bus within 15 minutes")
		}
		body, _, err := b.get(ctx, "/api/status")
		if err != nil {
			return err
		}
		text := string(body)
		if b.res.FirstS == 0 && strings.Contains(text, fmt.Sprintf(`"hosts":%d,`, b.o.Hosts)) {
			b.res.FirstS = time.Since(b.begun).Seconds()
		}
		if b.res.FirstS > 0 && !strings.Contains(text, `"ready":false`) {
			b.res.ReadyS = time.Since(b.begun).Seconds()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// updates opens the fleet page and measures from a host's report to its arrival there.
func (b *bench) updates(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", b.page+"/", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+b.token)
	r.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := bufio.NewReaderSize(resp.Body, 1<<20)
	var took []float64
	for n := range 10 {
		id := b.o.Host(b.o.Hosts + n) // a host that was not there before
		if n > 0 {
			m := b.o.Capacity(0, schemas.At(time.Now()))
			m.Host, m.VMs = id, m.VMs[:0]
			if _, err := b.bus[streams.RoleAgent].Publish(ctx, streams.Out{Subject: streams.SubjectCapacityHost(id), Msg: m}); err != nil {
				return err
			}
		}
		begun := time.Now()
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return fmt.Errorf("the open page: %w", err)
			}
			if strings.HasPrefix(line, "data: {") && (n == 0 || strings.Contains(line, string(id))) {
				break
			}
		}
		if n > 0 {
			took = append(took, float64(time.Since(begun).Microseconds())/1000)
		}
		time.Sleep(137 * time.Millisecond)
	}
	slices.Sort(took)
	b.res.UpdateMS, b.res.UpdateMaxMS = took[len(took)/2], took[len(took)-1]
	return nil
}

// memory is the resident memory of the console, now and at most.
func (b *bench) memory() (now, most float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for _, l := range strings.Split(string(text), "\n") {
		name, rest, _ := strings.Cut(l, ":")
		kb, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
		switch name {
		case "VmRSS":
			now = kb / 1024
		case "VmHWM":
			most = kb / 1024
		}
	}
	return now, most, nil
}

// cpu is the CPU time of the console in seconds.
func (b *bench) cpu() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, errors.New("/proc/PID/stat is not understood")
	}
	var sum float64
	for _, x := range f[11:13] {
		n, err := strconv.ParseFloat(x, 64)
		if err != nil {
			return 0, err
		}
		sum += n / 100 // the kernel's USER_HZ
	}
	return sum, nil
}
