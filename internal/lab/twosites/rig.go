// Package twosites is the laboratory of the tunnels: real hypervisors in two sites, real
// gateways, and between them a link that is shaped, delayed, watched and broken.
//
// What comes in: a lab of three hosts, two private and one public. What goes out: moves
// over the link as an operator's client sees them.
//
// What is promised: the gateways are programs of their own (`foreshift tunnel run`), which
// are killed as such; the actuators and the share-out are those that run live. Everything
// that is made goes with the lab.
package twosites

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/foreshift/foreshift/actuator"
	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
)

// Config says what the link is like.
type Config struct {
	Dir    string
	Binary string                 // foreshift's
	WAN    schemas.BytesPerSecond // of the link itself, shaped by the lab
	Rate   schemas.BytesPerSecond // to which the tunnel is shaped
	Delay  time.Duration          // one way
	MTU    int
	Say    func(string)
	// Share is how the link is shared among moves; the zero value is by the gateways.
	Share Sharing
	// Bare runs no hypervisors and no actuators: plain flows stand for the moves.
	Bare bool
}

// Sharing is how moves share the link.
type Sharing int

// The ways to share.
const (
	Shared Sharing = iota // by the gateways' share-out
	Equal                 // to each of three a third of what is not reserved, from the start
	Free                  // nobody shares it out: moves are as other traffic, without a ceiling
)

func (s Sharing) String() string { return [...]string{"shared out", "equal shares", "no control"}[s] }

// Rig is a running lab in two sites.
type Rig struct {
	Lab   *lab.Lab
	Sites *lab.Sites

	cfg      Config
	srv      *embedded.Server
	dir      string
	placer   *streams.Bus
	operator *streams.Bus
	agent    *streams.Bus
	// of the hosts' actuators
	actuators []*streams.Bus
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	roles     map[schemas.SiteID]*exec.Cmd

	mu       sync.Mutex
	n        int
	outcomes map[schemas.CommandID]schemas.Outcome
	progress []schemas.Progress
	link     *schemas.CapacityLink
	links    []schemas.CapacityLink // every share-out, bounded by the lab's life
	guests   []*lab.Guest
}

// reserved is the part of the link that is guaranteed to other traffic.
const reserved = .1

// Hosts of the lab: two private, one public.
func hosts() []lab.HostConfig {
	return []lab.HostConfig{{ID: "lab-a", Site: "private"}, {ID: "lab-b", Site: "private"}, {ID: "lab-c", Site: "public"}}
}

// Start brings up lab, link, bus and actuators; the gateways are started by [Rig.Gateways].
func Start(ctx context.Context, c Config) (r *Rig, err error) {
	r = &Rig{cfg: c, dir: filepath.Join(c.Dir, "bus"), roles: map[schemas.SiteID]*exec.Cmd{}, outcomes: map[schemas.CommandID]schemas.Outcome{}}
	if r.Lab, err = lab.Up(ctx, lab.Config{Dir: filepath.Join(c.Dir, "lab"), Hosts: hosts(), Bare: c.Bare, Progress: c.Say}); err != nil {
		return nil, err
	}
	if err := r.start(ctx); err != nil {
		return nil, errors.Join(err, r.Stop())
	}
	return r, nil
}

func (r *Rig) start(ctx context.Context) (err error) {
	if r.Sites, err = r.Lab.Split(ctx, r.cfg.WAN, r.cfg.Delay, r.cfg.MTU); err != nil {
		return err
	}
	var ids []schemas.HostID
	for _, h := range r.Lab.Hosts {
		ids = append(ids, h.ID)
	}
	if r.srv, err = embedded.Start(embedded.Options{StateDir: r.dir, Hosts: ids, PerHost: true}); err != nil {
		return err
	}
	admin, err := r.connect(ctx, streams.RoleAdmin)
	if err != nil {
		return err
	}
	defer admin.Close()
	if _, err := streams.Apply(ctx, admin, streams.ApplyOptions{Hosts: ids, Scale: streams.ScaleEmbedded}); err != nil {
		return err
	}
	for role, to := range map[string]**streams.Bus{streams.RolePlacer: &r.placer, streams.RoleOperator: &r.operator, streams.RoleAgent: &r.agent} {
		if *to, err = r.connect(ctx, role); err != nil {
			return err
		}
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	r.wg.Go(func() { r.beat(run) })
	r.wg.Go(func() {
		r.listen(run, r.placer, streams.Input{Stream: streams.Migrations, Filters: []string{"migrations.*.outcome.*"}})
	})
	r.wg.Go(func() { r.listen(run, r.operator, streams.Input{Stream: streams.Progress}) })
	r.wg.Go(func() {
		r.listen(run, r.operator, streams.Input{Stream: streams.Capacity, Filters: []string{"capacity.link.*.*"}})
	})
	authorities, err := streams.LoadAuthorities(filepath.Join(r.dir, streams.FileAuthorities))
	if err != nil {
		return err
	}
	for _, h := range r.Lab.Hosts {
		b, err := r.connect(ctx, streams.RoleActuator(h.ID))
		if err != nil {
			return err
		}
		r.actuators = append(r.actuators, b)
		if r.cfg.Bare {
			continue
		}
		a, err := actuator.New(actuator.Config{Bus: b, Host: h.ID, URI: h.URI, MigrateAddress: h.Address, Authorities: authorities,
			StateDir: filepath.Join(r.dir, "actuator", string(h.ID)), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		r.wg.Go(func() {
			if err := a.Run(run); err != nil {
				r.cfg.Say("actuator: " + err.Error())
			}
		})
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(r.srv.URL(), "nats://"), ":")
	var n int
	fmt.Sscan(port, &n)
	for _, g := range []*lab.GatewayHost{r.Sites.Private, r.Sites.Public} {
		if err := r.Sites.Forward(g, n); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rig) connect(ctx context.Context, role string) (*streams.Bus, error) {
	c := r.srv.Credentials(role)
	c.Log = slog.New(slog.DiscardHandler)
	return streams.Connect(ctx, c)
}

// put publishes a message; the rig's heart goes on when one is lost.
func (r *Rig) put(ctx context.Context, b *streams.Bus, subject string, m schemas.Message) error {
	r.mu.Lock()
	r.n++
	id := fmt.Sprintf("lab-%d", r.n)
	r.mu.Unlock()
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := b.Publish(short, streams.Out{Subject: subject, ID: id, Msg: m})
	return err
}

// beat is the placer's heartbeat and the agents' word of the hosts.
func (r *Rig) beat(ctx context.Context) {
	for {
		now := schemas.At(time.Now())
		err := r.put(ctx, r.placer, streams.SubjectAct(schemas.ActHeartbeat), &schemas.Act{Act: schemas.ActHeartbeat, ID: fmt.Sprintf("beat-%d", now), By: "placer", Time: now})
		r.mu.Lock()
		guests := append([]*lab.Guest(nil), r.guests...)
		r.mu.Unlock()
		for i, h := range r.Lab.Hosts {
			site := h.Site
			if r.cfg.Share != Shared {
				site = "one" // to the gateways no move crosses the link
			}
			m := &schemas.CapacityHost{Host: h.ID, Site: site, Time: now, Capacity: schemas.Amounts{CPU: 2000, Mem: 2 << 30}, Overcommit: schemas.Overcommit{CPU: 1, Mem: 1}, Speed: 1}
			if i == 0 { // memory and dirty rate are the VM's, wherever it is told
				for _, g := range guests {
					m.VMs = append(m.VMs, schemas.InventoryVM{VM: g.ID, Name: g.Name, State: schemas.VMRunning, VCPUs: 1, AllocMem: g.Memory, DirtyRate: g.DirtyRate})
				}
			}
			err = errors.Join(err, r.put(ctx, r.agent, streams.SubjectCapacityHost(h.ID), m))
		}
		if err != nil && ctx.Err() == nil {
			r.cfg.Say("heartbeat: " + err.Error())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
	}
}

func (r *Rig) listen(ctx context.Context, b *streams.Bus, in streams.Input) {
	err := b.Consume(ctx, "lab", in, func(e streams.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		switch m := e.Msg.(type) {
		case *schemas.Outcome:
			r.outcomes[m.Command] = *m
		case *schemas.Progress:
			r.progress = append(r.progress, *m)
		case *schemas.CapacityLink:
			if m.Shared {
				r.link = m
				r.links = append(r.links, *m)
			}
		}
	})
	if err != nil && ctx.Err() == nil {
		r.cfg.Say("listen: " + err.Error())
	}
}

// flags of a gateway's role.
func (r *Rig) flags(g *lab.GatewayHost) []string {
	var reach []string
	for _, h := range r.Lab.Hosts {
		reach = append(reach, string(h.ID)+"="+h.Address)
	}
	return []string{"--bridge", g.Bridge, "--interface", g.Prefix, "--keys", r.keys(g), "--mtu", fmt.Sprint(r.cfg.MTU), "--reach", strings.Join(reach, ",")}
}

func (r *Rig) keys(g *lab.GatewayHost) string {
	return filepath.Join(r.cfg.Dir, "keys-"+string(g.Site))
}

// Gateway starts a site's role.
func (r *Rig) Gateway(g *lab.GatewayHost) error {
	peer := r.Sites.Public.Site
	if g.Site == peer {
		peer = r.Sites.Private.Site
	}
	args := append([]string{"tunnel", "run", "--state", r.dir, "--nats", r.srv.URL(), "--site", string(g.Site), "--peer", string(peer),
		"--rate", fmt.Sprint(float64(r.cfg.Rate) / 1e6), "--endpoint", g.Endpoint}, r.flags(g)...)
	cmd, err := g.Start(r.log(g), r.cfg.Binary, args...)
	if err != nil {
		return err
	}
	r.roles[g.Site] = cmd
	return nil
}

func (r *Rig) log(g *lab.GatewayHost) string {
	return filepath.Join(r.cfg.Dir, "gateway-"+string(g.Site)+".log")
}

// Logs is the end of what the gateways said.
func (r *Rig) Logs() string {
	var out string
	for _, g := range []*lab.GatewayHost{r.Sites.Private, r.Sites.Public} {
		b, _ := os.ReadFile(r.log(g))
		out += string(g.Site) + ": " + string(b[max(0, len(b)-3000):]) + "\n"
	}
	return out
}

// Kill ends a site's role without warning.
func (r *Rig) Kill(g *lab.GatewayHost) error {
	cmd := r.roles[g.Site]
	if cmd == nil {
		return nil
	}
	delete(r.roles, g.Site)
	err := cmd.Process.Kill()
	_ = cmd.Wait()
	return err
}

// Remove takes a site's end of the tunnel away, as an operator does.
func (r *Rig) Remove(ctx context.Context, g *lab.GatewayHost) error {
	args := []string{"tunnel", "remove", "--state", r.dir, "--bridge", g.Bridge, "--interface", g.Prefix, "--keys", r.keys(g), "--mtu", fmt.Sprint(r.cfg.MTU)}
	if out, err := g.Run(ctx, r.cfg.Binary, args...); err != nil {
		return fmt.Errorf("remove the tunnel of %s: %w: %s", g.Site, err, out)
	}
	return nil
}

// Rotate asks a site's role for new keys, and gives what the command said.
func (r *Rig) Rotate(ctx context.Context, g *lab.GatewayHost) (string, error) {
	return g.Run(ctx, r.cfg.Binary, "tunnel", "rotate", "--state", r.dir, "--keys", r.keys(g))
}

// Joined waits until the public site's host answers in the segment, or says that it
// does not in time.
func (r *Rig) Joined(within time.Duration) bool {
	for late := time.Now().Add(within); time.Now().Before(late); time.Sleep(100 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(r.Lab.Hosts[2].Address, "1"), 500*time.Millisecond)
		if err == nil {
			c.Close()
			return true
		}
		if strings.Contains(err.Error(), "refused") {
			return true
		}
	}
	return false
}

// Guest starts a VM on a host.
func (r *Rig) Guest(ctx context.Context, host int, spec lab.GuestSpec) (*lab.Guest, error) {
	g, err := r.Lab.StartGuest(ctx, r.Lab.Hosts[host], spec)
	if err == nil {
		r.mu.Lock()
		r.guests = append(r.guests, g)
		r.mu.Unlock()
	}
	return g, err
}

// Order commands a move between two hosts.
func (r *Rig) Order(ctx context.Context, g *lab.Guest, from, to int, deadline time.Duration) (schemas.CommandID, error) {
	last, err := r.placer.LastUnder(ctx, streams.Migrations, "migrations.>")
	after := uint64(0)
	if err == nil {
		after = last.Seq
	}
	now := schemas.At(time.Now())
	src, dst := r.Lab.Hosts[from], r.Lab.Hosts[to]
	c := &schemas.Command{ID: schemas.CommandID(fmt.Sprintf("c-%s-%d", g.Name, now)), Plan: "lab", PlanHash: "00", VM: g.ID, Name: g.Name, Source: src.ID, Destination: dst.ID,
		Issued: now, Expires: now.Add(schemas.CommandLife), Deadline: now.Add(deadline), AfterSeq: after, Reason: schemas.Reason{Code: schemas.ReasonOK}, MaxDowntime: 500}
	switch {
	case src.Site == dst.Site || r.cfg.Share == Free:
	case r.cfg.Share == Equal:
		c.Bandwidth = r.cfg.Rate * (1 - reserved) / 3
		// No share-out will name it: it need not wait for one.
		c.Issued, c.Expires = now.Add(-3*time.Second), c.Expires.Add(-3*time.Second)
	default:
		c.Bandwidth = r.cfg.Rate
	}
	return c.ID, r.put(ctx, r.placer, streams.SubjectCommand(c.VM, c.Source, c.Destination), c)
}

// Outcome waits for the end of a move.
func (r *Rig) Outcome(id schemas.CommandID, within time.Duration) (schemas.Outcome, error) {
	for late := time.Now().Add(within); time.Now().Before(late); time.Sleep(20 * time.Millisecond) {
		r.mu.Lock()
		o, ok := r.outcomes[id]
		r.mu.Unlock()
		if ok && o.Result != schemas.ResultUnknown {
			return o, nil
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var last schemas.Progress
	for _, p := range r.progress {
		if p.Command == id {
			last = p
		}
	}
	return schemas.Outcome{}, fmt.Errorf("no end of %s within %s; its last progress: %+v", id, within, last)
}

// Progress is what was told of a move so far.
func (r *Rig) Progress(id schemas.CommandID) (out []schemas.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.progress {
		if p.Command == id {
			out = append(out, p)
		}
	}
	return out
}

// Copying waits until a move sends memory.
func (r *Rig) Copying(id schemas.CommandID, within time.Duration) error {
	for late := time.Now().Add(within); time.Now().Before(late); time.Sleep(20 * time.Millisecond) {
		for _, p := range r.Progress(id) {
			if p.Phase == schemas.PhasePreCopy && p.Processed > 0 {
				return nil
			}
		}
		r.mu.Lock()
		o, ended := r.outcomes[id]
		r.mu.Unlock()
		if ended {
			return fmt.Errorf("%s ended before it copied: %s %s", id, o.Result, o.Reason)
		}
	}
	return fmt.Errorf("%s does not copy within %s", id, within)
}

// Link is the share-out as it was last told.
func (r *Rig) Link() *schemas.CapacityLink {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.link
}

// Stop ends everything.
func (r *Rig) Stop() error {
	var errs []error
	for _, cmd := range r.roles {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	if r.cancel != nil {
		r.cancel()
	}
	r.wg.Wait()
	for _, b := range append(r.actuators, r.placer, r.operator, r.agent) {
		if b != nil {
			b.Close()
		}
	}
	if r.srv != nil {
		r.srv.Shutdown()
	}
	if r.Sites != nil {
		errs = append(errs, r.Sites.Close())
	}
	return errors.Join(append(errs, r.Lab.Down(context.Background()))...)
}
