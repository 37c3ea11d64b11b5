package stack_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/foreshift/foreshift/agents/conf"
	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/cluster"
	"github.com/foreshift/foreshift/streams/streamstest"
)

const base = time.Second

// rig is all of Foreshift in processes of its own, on three nats-servers and simulated
// hosts.
type rig struct {
	t           *testing.T
	ctx         context.Context
	dir         string
	o           cluster.Options
	fleet       *sim.Fleet
	small       string // file system of the last server, when there is one
	servers     []*child
	wires       map[[2]int]*wire // routes, by who dials and whom
	forecasters []*child
	placers     []*child
	actuators   []*child
	recorder    *child
	admin       *streams.Bus
	operator    *streams.Bus
	moving      sync.WaitGroup
}

// programs is where foreshift, foreshift-agent and nats-server are.
func programs(t *testing.T) string {
	bin := os.Getenv("FORESHIFT_STACK")
	if bin == "" {
		t.Skip("stack skipped: run ./task test:stack")
	}
	return bin
}

func start(ctx context.Context, t *testing.T, bin, services string) *rig {
	r := &rig{t: t, ctx: ctx, dir: streamstest.Memory(t), wires: map[[2]int]*wire{}}
	var err error
	if r.fleet, err = sim.New(sim.Config{Seed: 7, Hosts: 4, VMs: 12, Base: base, Start: time.Now(), PeakIn: 400}); err != nil {
		t.Fatal(err)
	}
	var hosts []schemas.HostID
	for _, h := range r.fleet.Hosts() {
		hosts = append(hosts, h.ID)
	}
	r.o = streamstest.ClusterOptions(t, r.dir, hosts...)
	r.mountSmall()
	configs, err := cluster.Write(r.o)
	if err != nil {
		t.Fatal(err)
	}
	r.throughWires(configs)
	for i, c := range configs {
		r.servers = append(r.servers, newChild(t, r.dir, r.o.Nodes[i].Name, filepath.Join(bin, "nats-server"), "-c", c))
	}
	streamstest.ApplyReplicated(t, r.o)
	r.admin, r.operator = streamstest.ConnectTo(t, r.o, streams.RoleAdmin), streamstest.ConnectTo(t, r.o, streams.RoleOperator)
	r.prepare()
	ctx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- r.fleet.Serve(ctx) }()
	t.Cleanup(func() { stop(); <-served })
	program := func(name, role string, args ...string) *child {
		return newChild(t, r.dir, name, filepath.Join(services, "foreshift"), append([]string{role, "--state", r.dir, "--nats", r.o.URL(), "--base-step", base.String(), "--log", "info"}, args...)...)
	}
	for i := range 3 {
		r.forecasters = append(r.forecasters, program(fmt.Sprintf("forecaster-%d", i), "forecaster", "--snapshot-every", "5s"))
	}
	for i := range 2 {
		r.placers = append(r.placers, program(fmt.Sprintf("placer-%d", i), "placer"))
	}
	r.recorder = program("recorder", "recorder")
	for _, h := range r.fleet.Hosts() {
		r.actuators = append(r.actuators, program("actuator-"+string(h.ID), "actuator", "--host", string(h.ID), "--uri", h.URI))
	}
	set := conf.Settings{Interval: base, Flush: base / 4, URL: r.o.URL(), Credentials: r.dir, Agent: "stack", Quiet: true, SharedPaths: []string{sim.SharedPath}, Site: r.fleet.Hosts()[0].Site}
	for _, h := range r.fleet.Hosts() {
		set.Hosts = append(set.Hosts, conf.Host{ID: h.ID, Site: h.Site, URI: h.URI, Capacity: h.Capacity, Speed: h.Speed, Domain: h.Domain, Labels: h.Labels, Usage: "vms", Simulated: true})
	}
	path := filepath.Join(r.dir, "agent.conf")
	if err := conf.Write(path, set); err != nil {
		t.Fatal(err)
	}
	newChild(t, r.dir, "agent", filepath.Join(services, "foreshift-agent"), "--config", path)
	r.until("all VMs are forecast", 60*time.Second, r.forecast)
	return r
}

// prepare sets a policy under which much moves, and writes some history.
func (r *rig) prepare() {
	p := policy.Default()
	p.Version, p.Mode = 1, schemas.ModeAuto
	p.MaxPerHour, p.MaxPerVMDay, p.MaxPerCluster, p.MaxPerHost, p.CoolDownSteps = 1000, 1000, 3, 2, 1
	p.BreakerRow, p.BreakerShare = 1000, 1
	if _, err := r.admin.Publish(r.ctx, streams.Out{Subject: streams.SubjectPolicy, Msg: &p}); err != nil {
		r.t.Fatal(err)
	}
	importer := streamstest.ConnectTo(r.t, r.o, streams.RoleImporter)
	last := schemas.StepAt(schemas.At(time.Now()), base) - 1
	for s := last - 30; s <= last; s++ {
		var outs []streams.Out
		for _, m := range r.fleet.History(s) {
			outs = append(outs, streams.Out{Subject: streams.SubjectSteps(m.Partition), ID: fmt.Sprintf("%d.%d.%d", m.Partition, m.Step, m.Revision), Msg: m})
		}
		if err := importer.PublishAsync(r.ctx, outs); err != nil {
			r.t.Fatal(err)
		}
	}
}

// throughWires has each server dial the others over a wire of ours, and tells nobody
// another way.
func (r *rig) throughWires(configs []string) {
	for i, path := range configs {
		b, err := os.ReadFile(path)
		if err != nil {
			r.t.Fatal(err)
		}
		text := strings.Replace(string(b), "\n  routes: [", "\n  advertise: \"127.0.0.1:1\"\n  routes: [", 1)
		text = strings.Replace(text, "jetstream {", "jetstream {\n  max_file_store: 100GB", 1)
		for j, n := range r.o.Nodes {
			if i != j {
				w := newWire(r.t, n.Route)
				r.wires[[2]int{i, j}] = w
				text = strings.Replace(text, "nats://"+n.Route, "nats://"+w.l.Addr().String(), 1)
			}
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

// isolate cuts a server off from the others, not from its clients.
func (r *rig) isolate(server int, down bool) {
	for pair, w := range r.wires {
		if pair[0] == server || pair[1] == server {
			w.cut(down)
		}
	}
}

// mountSmall gives the last server a file system that can be filled.
func (r *rig) mountSmall() {
	if os.Geteuid() != 0 {
		return
	}
	dir := filepath.Join(r.dir, "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=192m"); err != nil {
		r.t.Logf("no file system to be filled: %v", err)
		return
	}
	r.small = dir
	r.t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			r.t.Error(err)
		}
	})
	r.o.Nodes[2].Store = filepath.Join(dir, "jetstream")
}

func (r *rig) until(what string, within time.Duration, ok func() bool) time.Duration {
	r.t.Helper()
	begun := time.Now()
	for !ok() {
		if time.Since(begun) > within || r.ctx.Err() != nil {
			r.t.Fatalf("%s: not within %v", what, within)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(begun)
}

// forecast says whether all VMs have been forecast within the last seconds.
func (r *rig) forecast() bool {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	events, err := r.operator.Last(ctx, streams.Forecasts)
	if err != nil {
		return false
	}
	seen := map[schemas.VMID]bool{}
	for _, e := range events {
		if m, ok := e.Msg.(*schemas.Forecasts); ok && time.Since(time.Unix(0, e.Time)) < 5*base {
			for _, v := range m.VM {
				seen[v] = true
			}
		}
	}
	return len(seen) == len(r.fleet.VMs())
}

// leader is the server that leads a stream of commands.
func (r *rig) leader(stream string) int {
	for r.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(r.ctx, 2*time.Second)
		s, err := r.admin.Ctrl.JS.Stream(ctx, stream)
		cancel()
		if err == nil && s.CachedInfo().Cluster != nil {
			for i, n := range r.o.Nodes {
				if n.Name == s.CachedInfo().Cluster.Leader {
					return i
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatalf("%s has no leader", stream)
	return 0
}

// act says an operator's word, as often as it takes.
func (r *rig) act(kind schemas.ActKind, host schemas.HostID) {
	a := &schemas.Act{ID: fmt.Sprintf("%s-%s-%d", kind, host, time.Now().UnixNano()), Act: kind, By: "stack", Time: schemas.At(time.Now()), Host: host, Why: "test"}
	for r.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(r.ctx, 2*time.Second)
		_, err := r.operator.Publish(ctx, streams.Out{Subject: streams.SubjectAct(kind), ID: a.ID, Msg: a})
		cancel()
		if err == nil {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// restless drains one host after the other until ctx ends, so that something always moves.
func (r *rig) restless(ctx context.Context) {
	hosts := r.fleet.Hosts()
	r.moving.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			h := hosts[i%len(hosts)].ID
			r.act(schemas.ActDrain, h)
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
			r.act(schemas.ActUncordon, h)
		}
	})
}
