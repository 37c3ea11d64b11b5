package scale

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
)

// Options of a run.
type Options struct {
	VMs, Hosts int
	Base       time.Duration // base step
	Interval   time.Duration // of the agents; divides Base, at most 12 a step
	History    int           // steps of history to begin with
	Capacity   bool          // hosts tell of their capacity and VMs too, for placers
	Binary     string        // foreshift
	Dir        string        // for the bus and the keys; empty: a temporary one
	Log        *slog.Logger
	Say        func(format string, args ...any)
}

// Validate reports all faults at once.
func (o Options) Validate() error {
	var errs []error
	if o.VMs < 1 || o.VMs > 1<<20 || o.Hosts < 1 || o.Hosts > o.VMs || o.VMs/o.Hosts > 1000 {
		errs = append(errs, fmt.Errorf("%d VMs on %d hosts: want up to a million VMs and 1000 a host", o.VMs, o.Hosts))
	}
	if o.Interval <= 0 || o.Base < time.Second || o.Base%o.Interval != 0 || o.Base/o.Interval > 12 {
		errs = append(errs, fmt.Errorf("an agent interval of %v does not divide a base step of %v into 1 to 12 parts", o.Interval, o.Base))
	}
	if o.History < 0 || o.History > 4000 {
		errs = append(errs, fmt.Errorf("%d steps of history: want 0 to 4000", o.History))
	}
	return errors.Join(errs...)
}

// rig is a bus, a fleet that reports to it, and the forecasters.
type rig struct {
	Options
	srv         *embedded.Server
	agent       *streams.Bus
	reader      *streams.Bus
	vms         []schemas.VMID
	first       schemas.Step // of which all samples are sent
	stop        context.CancelFunc
	sent        sync.WaitGroup
	err         error
	capacityErr error
	mu          sync.Mutex
	last        schemas.Step // of which all samples were sent
	procs       []*proc
	temp        string
}

func start(ctx context.Context, o Options) (*rig, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	r := &rig{Options: o}
	if r.Dir == "" {
		dir, err := os.MkdirTemp("", "foreshift-scale-")
		if err != nil {
			return nil, err
		}
		r.Dir, r.temp = dir, dir
	}
	var err error
	if r.srv, err = embedded.Start(embedded.Options{StateDir: r.Dir}); err != nil {
		return nil, err
	}
	for n := range o.VMs {
		var id schemas.VMID
		binary.LittleEndian.PutUint64(id[:], uint64(n)*0x9e3779b97f4a7c15+1)
		id[15] = 1
		r.vms = append(r.vms, id)
	}
	admin, err := r.bus(ctx, streams.RoleAdmin)
	if err != nil {
		return r, err
	}
	defer admin.Close()
	if _, err := streams.Apply(ctx, admin, streams.ApplyOptions{Scale: streams.ScaleEmbedded * 4}); err != nil {
		return r, err
	}
	if r.agent, err = r.bus(ctx, streams.RoleAgent); err != nil {
		return r, err
	}
	if r.reader, err = r.bus(ctx, streams.RoleInspector); err != nil {
		return r, err
	}
	if err := r.backfill(ctx); err != nil {
		return r, err
	}
	ctx, r.stop = context.WithCancel(ctx)
	r.sent.Go(func() { r.err = r.report(ctx) })
	if r.Capacity {
		r.sent.Go(func() { r.capacityErr = r.tellCapacity(ctx) })
	}
	return r, nil
}

func (r *rig) bus(ctx context.Context, role string) (*streams.Bus, error) {
	c := r.srv.Credentials(role)
	c.Log = slog.New(slog.DiscardHandler)
	return streams.Connect(ctx, c)
}

// close ends everything that was started.
func (r *rig) close() {
	for _, p := range r.procs {
		p.end()
	}
	if r.stop != nil {
		r.stop()
		r.sent.Wait()
	}
	for _, b := range []*streams.Bus{r.agent, r.reader} {
		if b != nil {
			b.Close()
		}
	}
	if r.srv != nil {
		r.srv.Shutdown()
	}
	if r.temp != "" {
		if err := os.RemoveAll(r.temp); err != nil {
			r.Say("the directory %s stays: %v", r.temp, err)
		}
	}
}

// demand is what VM n demands of CPU in a step, the parts' marks apart.
func demand(n int, s schemas.Step) float32 {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	binary.LittleEndian.PutUint64(b[8:], uint64(s))
	day := float32((s%schemas.StepsPerDay)*400) / schemas.StepsPerDay
	return 1500 + float32(n%97)*5 + day + float32(xxhash.Sum64(b[:])%256)
}

// mark is what the k-th sample of a step adds.
func mark(k int) float32 { return float32(int(16) << k) }

// mean is what a step with every sample once has.
func (r *rig) mean(n int, s schemas.Step) float32 {
	parts := int(r.Base / r.Interval)
	sum := float32(0)
	for k := range parts {
		sum += mark(k)
	}
	return demand(n, s) + sum/float32(parts)
}

func (r *rig) columns(n int, cpu float32, cols *[schemas.NumColumns][]float32) {
	cols[schemas.ColCPU] = append(cols[schemas.ColCPU], cpu)
	cols[schemas.ColMem] = append(cols[schemas.ColMem], 4e9+float32(n%31)*1e7)
	cols[schemas.ColNetRx] = append(cols[schemas.ColNetRx], 1e5+cpu)
	cols[schemas.ColDiskWr] = append(cols[schemas.ColDiskWr], 2e5+cpu)
}

// backfill writes the history, as an importer does.
func (r *rig) backfill(ctx context.Context) error {
	if r.History == 0 {
		return nil
	}
	b, err := r.bus(ctx, streams.RoleImporter)
	if err != nil {
		return err
	}
	defer b.Close()
	now := schemas.StepAt(schemas.At(time.Now()), r.Base)
	begun := time.Now()
	for s := now - schemas.Step(r.History); s < now; s++ {
		var parts [schemas.Partitions]*schemas.Steps
		for n, id := range r.vms {
			p := id.Partition()
			m := parts[p]
			if m == nil {
				m = &schemas.Steps{Partition: p, Step: s, Base: r.Base}
				parts[p] = m
			}
			m.VM, m.Host = append(m.VM, id), append(m.Host, r.host(n))
			m.Coverage, m.Flags = append(m.Coverage, 1), append(m.Flags, schemas.FlagImported)
			m.AllocCPU, m.AllocMem = append(m.AllocCPU, allocCPU), append(m.AllocMem, 16e9)
			r.columns(n, demand(n, s), &m.Cols)
		}
		var outs []streams.Out
		for p, m := range parts {
			if m != nil {
				outs = append(outs, streams.Out{Subject: streams.SubjectSteps(p), Msg: m})
			}
		}
		if err := b.PublishAsync(ctx, outs); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	r.Say("%d steps of history of %d VMs written in %v", r.History, r.VMs, time.Since(begun).Round(time.Second))
	return nil
}

// allocCPU is so low that pressures are told of.
const allocCPU = 2200

func (r *rig) host(n int) schemas.HostID { return schemas.HostID(fmt.Sprintf("h%d", n%r.Hosts)) }

// tell publishes samples, and those again that a busy server did not acknowledge in time,
// as an agent does from its spool: their ids keep them from counting twice.
func (r *rig) tell(ctx context.Context, outs []streams.Out) (err error) {
	for range 5 {
		if err = r.agent.PublishAsync(ctx, outs); err == nil {
			return nil
		}
		r.Say("told again: %v", err)
	}
	return err
}

// report publishes the samples of all hosts as they fall due, until ctx ends.
func (r *rig) report(ctx context.Context) error {
	parts := int64(r.Base / r.Interval)
	r.first = schemas.StepAt(schemas.At(time.Now()), r.Base) + 1
	end := r.first.Start(r.Base).Std()
	for seq := uint64(1); ; seq++ {
		end = end.Add(r.Interval)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(end)):
		}
		k := int((end.UnixNano()/int64(r.Interval) - 1) % parts)
		s := schemas.StepAt(schemas.At(end)-1, r.Base)
		outs := make([]streams.Out, r.Hosts)
		for h := range outs {
			m := &schemas.Metrics{Host: r.host(h), Site: "a", Agent: "bench", Seq: seq}
			for n := h; n < len(r.vms); n += r.Hosts {
				m.VM, m.Time, m.IntervalS = append(m.VM, r.vms[n]), append(m.Time, schemas.At(end)), append(m.IntervalS, float32(r.Interval.Seconds()))
				m.Flags, m.AllocCPU, m.AllocMem = append(m.Flags, 0), append(m.AllocCPU, allocCPU), append(m.AllocMem, 16e9)
				r.columns(n, demand(n, s)+mark(k), &m.Cols)
			}
			outs[h] = streams.Out{Subject: streams.SubjectMetrics(m.Host), ID: fmt.Sprintf("%s.%d", m.Host, seq), Msg: m}
		}
		if err := r.tell(context.WithoutCancel(ctx), outs); err != nil {
			return fmt.Errorf("agents: %w", err)
		}
		if k == int(parts)-1 {
			r.mu.Lock()
			r.last = s
			r.mu.Unlock()
		}
	}
}

// proc is one service.
type proc struct {
	cmd   *exec.Cmd
	out   *os.File
	addr  string // of its metrics
	ended chan struct{}
	err   error
	name  string
}

// spawn starts a forecaster and returns at once.
func (r *rig) spawn() (*proc, error) {
	return r.service("forecaster", "--snapshot-every", max(r.Base, 15*time.Second).String(), "--max-vms", fmt.Sprint(r.VMs))
}

// service starts a service as a process and returns at once.
func (r *rig) service(name string, extra ...string) (*proc, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	p := &proc{addr: addr, ended: make(chan struct{}), name: fmt.Sprintf("%s %d", name, len(r.procs))}
	if p.out, err = os.Create(filepath.Join(r.Dir, fmt.Sprintf("%s-%d.log", name, len(r.procs)))); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(r.Binary, append([]string{name, "--state", r.Dir, "--nats", r.srv.URL(), "--base-step", r.Base.String(), "--listen", addr, "--log", "info"}, extra...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	r.procs = append(r.procs, p)
	return p, nil
}

func (p *proc) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *proc) signal(s syscall.Signal) error {
	if !p.alive() {
		return fmt.Errorf("%s has ended: %v", p.name, p.err)
	}
	return p.cmd.Process.Signal(s)
}

// last is what it logged last.
func (p *proc) last() string {
	b, err := os.ReadFile(p.out.Name())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-600):]))
}

// kill is kill -9.
func (p *proc) kill() error {
	err := p.signal(syscall.SIGKILL)
	<-p.ended
	return err
}

// end stops it in good order, or by force after a while.
func (p *proc) end() {
	if p.alive() && p.cmd.Process.Signal(syscall.SIGCONT) == nil && p.cmd.Process.Signal(syscall.SIGTERM) == nil {
		select {
		case <-p.ended:
		case <-time.After(30 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	}
	_ = p.out.Close()
}
