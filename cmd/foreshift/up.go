package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/foreshift/foreshift/agents/conf"
	"github.com/foreshift/foreshift/console/web"
	"github.com/foreshift/foreshift/internal/service"
	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/internal/stack"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

// linkBandwidth is that of the simulated link between the two sites: slow against
// the 1.25 GB/s within a site.
const linkBandwidth schemas.BytesPerSecond = 250e6

// upOptions are the flags of up.
type upOptions struct {
	hosts, vms int
	trace      string
	base       time.Duration
	days       int
	seed       uint64
	peak       int
	port       int
	simPort    int
	page       string
	mode       string
	agent      string
	log        string
	stopAfter  time.Duration
	untilMoved bool
}

func upCommand(at *place) *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up",
		Short: "All of Foreshift on this machine, on simulated libvirt hosts in two sites",
		Long: "Runs the embedded bus, simulated libvirt hosts in two sites with a slow link, the agent, the\n" +
			"services and the page on this machine. Some simulated days of history are back-filled first;\n" +
			"then everything is live: the agent polls libvirt, the forecaster predicts, the placer decides,\n" +
			"the actuators migrate. Only simulated hosts are moved. Ctrl-C stops all.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return up(c.Context(), at, o, c.OutOrStdout()) },
	}
	f := c.Flags()
	f.IntVar(&o.hosts, "hosts", 8, "simulated hosts")
	f.IntVar(&o.vms, "vms", 60, "simulated VMs")
	f.StringVar(&o.trace, "trace", "", "CSV file of demand to replay instead of the synthetic week; .gz is read as it is")
	f.DurationVar(&o.base, "base-step", time.Second, "length of a base step; a simulated day is 288 of them")
	f.IntVar(&o.days, "days", 3, "simulated days of history to back-fill")
	f.Uint64Var(&o.seed, "seed", 1, "seed of the simulated fleet")
	f.IntVar(&o.peak, "peak-in", 120, "base steps until the fleet's daily peak")
	f.IntVar(&o.port, "nats-port", 0, "port of the embedded NATS on loopback; 0 takes a free one")
	f.IntVar(&o.simPort, "libvirt-port", 0, "port of the simulated libvirt daemons on loopback; 0 takes a free one")
	f.StringVar(&o.page, "page", "127.0.0.1:0", "loopback address of the page; port 0 takes a free one")
	f.StringVar(&o.mode, "mode", string(schemas.ModeAuto), "observe, recommend, approve or auto")
	f.StringVar(&o.agent, "agent", "", "the foreshift-agent binary; default: beside this one, or on the PATH")
	f.StringVar(&o.log, "log", "warn", "log level: debug, info, warn or error")
	f.DurationVar(&o.stopAfter, "for", 0, "stop after this long; 0 runs until Ctrl-C")
	f.BoolVar(&o.untilMoved, "until-moved", false, "stop once a move has ended before the trouble it foresaw; with --for, fail when none did in time")
	return c
}

// up runs until ctx ends, or as its flags say.
func up(ctx context.Context, at *place, o upOptions, out io.Writer) (err error) {
	p := policy.Default()
	p.Mode, p.Version = schemas.Mode(o.mode), 1
	if err := policy.Validate(p); err != nil {
		return usageError{err}
	}
	log, err := service.Logger(os.Stderr, o.log, false)
	if err != nil {
		return usageError{err}
	}
	l, err := service.Listen(o.page)
	if err != nil {
		return usageError{err}
	}
	defer l.Close() // a second time when it has served
	if o.agent == "" {
		o.agent, err = stack.FindAgent()
	} else {
		o.agent, err = exec.LookPath(o.agent)
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(at.state, 0o700); err != nil {
		return err
	}
	unlock, err := lockDir(at.state)
	if err != nil {
		return err
	}
	defer unlock()
	begin := time.Now()
	say := newStory(out)
	say.line("Foreshift %s: all of it on this machine, moving simulated VMs only\n", versionText())

	fleet, err := sim.New(sim.Config{Seed: o.seed, Hosts: o.hosts, VMs: o.vms, Base: o.base, Start: begin, Trace: o.trace, Port: o.simPort, PeakIn: o.peak, LinkBandwidth: linkBandwidth})
	if err != nil {
		return usageError{err}
	}
	hosts := fleet.Hosts()
	// Each start is a fleet of its own: what an earlier one left on the bus is not its history.
	if err := clearFleet(at.state); err != nil {
		fleet.Close()
		return err
	}
	c := stack.Config{StateDir: at.state, Port: o.port, Base: o.base, Grace: max(o.base/10, min(o.base, time.Second)), Policy: p, Version: versionText(), Log: log}
	for _, h := range hosts {
		c.Hosts = append(c.Hosts, stack.Host{ID: h.ID, URI: h.URI})
	}
	s, err := stack.Start(ctx, c)
	if err != nil {
		fleet.Close()
		return err
	}
	defer func() {
		say.line("stopping ...")
		err = errors.Join(err, s.Stop(), streams.RemoveState(at.state))
		say.line("stopped; the state is kept in %s", at.state)
	}()
	s.Go("simulated hosts", fleet.Serve)
	say.item("bus", "embedded NATS at %s, accounts TEL, CTRL, AUDIT", s.Server.URL())
	say.item("hosts", "%d simulated libvirt hosts in %s, %d VMs; try: virsh -c %s list --all", len(hosts), sites(hosts), len(fleet.VMs()), strings.Replace(hosts[0].URI, hosts[0].Address, "127.0.0.1", 1))

	if err := backfill(ctx, s, fleet, o, say); err != nil {
		return err
	}
	if err := s.Services(); err != nil {
		return err
	}
	say.item("services", "recorder, forecaster, placer, tunnel, %d actuators; mode %s, on simulated hosts only", len(hosts), p.Mode)
	if err := startAgent(s, at.state, o, hosts); err != nil {
		return err
	}
	say.item("agent", "foreshift-agent, a process of its own, every %s", o.base)
	page, act, err := startPage(s, l, at.state, o.base, log)
	if err != nil {
		return err
	}
	say.item("console", "%s  to look on", page)
	say.item("", "%s  to act", act)
	state := streams.State{URL: s.Server.URL(), Page: page, PID: os.Getpid(), Started: schemas.At(begin), Base: o.base.String(), Version: versionText()}
	if err := state.Save(at.state); err != nil {
		return err
	}
	w := newWatcher(s, fleet, say)
	defer w.stop()
	if err := w.untilReady(ctx, 2*time.Minute); err != nil {
		return err
	}
	day := time.Duration(schemas.StepsPerDay) * o.base
	say.line("\nready after %s; a simulated day lasts %s (288 steps of %s); look with `foreshift status`; Ctrl-C stops all\n", time.Since(begin).Round(100*time.Millisecond), day, o.base)
	return w.run(ctx, o)
}

// backfill publishes what STEPS would hold of the days before.
func backfill(ctx context.Context, s *stack.Stack, fleet *sim.Fleet, o upOptions, say *story) error {
	importer, err := s.Bus(streams.RoleImporter)
	if err != nil {
		return err
	}
	last := schemas.StepAt(schemas.At(time.Now()), o.base) - 1
	n := o.days * schemas.StepsPerDay
	bar := say.progress("history", fmt.Sprintf("%d simulated days back-filled", o.days), n)
	for i := range n {
		step := last - schemas.Step(n-1-i)
		var outs []streams.Out
		for _, m := range fleet.History(step) {
			outs = append(outs, streams.Out{Subject: streams.SubjectSteps(m.Partition), ID: fmt.Sprintf("%d.%d.%d", m.Partition, m.Step, m.Revision), Msg: m})
		}
		if err := importer.PublishAsync(ctx, outs); err != nil {
			return fmt.Errorf("back-fill step %d: %w", step, err)
		}
		bar(i + 1)
	}
	return nil
}

func startAgent(s *stack.Stack, dir string, o upOptions, hosts []sim.Host) error {
	set := conf.Settings{Interval: o.base, Flush: max(o.base/4, 50*time.Millisecond), URL: s.Server.URL(), Credentials: dir, Agent: "up",
		LogFile: filepath.Join(dir, "agent.log"), Quiet: true, Site: hosts[0].Site, SharedPaths: []string{sim.SharedPath}}
	linked := map[schemas.SiteID]bool{hosts[0].Site: true}
	for _, h := range hosts {
		set.Hosts = append(set.Hosts, conf.Host{ID: h.ID, Site: h.Site, URI: h.URI, Capacity: h.Capacity, Speed: h.Speed, Domain: h.Domain, Labels: h.Labels, Usage: "vms", Simulated: true})
		if !linked[h.Site] {
			linked[h.Site] = true
			addr, _, _ := strings.Cut(strings.TrimPrefix(h.URI, "qemu+tcp://"), "/")
			set.Links = append(set.Links, conf.Link{Site: h.Site, Address: addr, Bandwidth: linkBandwidth})
		}
	}
	path := filepath.Join(dir, "agent.conf")
	if err := conf.Write(path, set); err != nil {
		return err
	}
	return s.Agent(o.agent, path, nil)
}

// startPage serves the console: everybody on this machine may look on, to act takes
// the operator's token.
func startPage(s *stack.Stack, l net.Listener, dir string, base time.Duration, log *slog.Logger) (page, act string, err error) {
	mux := http.NewServeMux()
	s.Health.Routes(mux, s.Registry)
	tokens, keep, err := addConsole(mux, consoleOptions{open: true}, dir, s.Operator, base, log)
	if err != nil {
		return "", "", err
	}
	s.Go("console", keep)
	s.Go("page", func(ctx context.Context) error { return service.Serve(ctx, l, mux) })
	page = "http://" + l.Addr().String() + "/"
	return page, page + "login#" + tokens.Token(web.Operator), nil
}

// clearFleet removes what an earlier start kept of its fleet; keys stay.
func clearFleet(dir string) error {
	for _, name := range []string{"jetstream", "actuator", "agent.log"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func sites(hosts []sim.Host) string {
	var names []string
	count := map[schemas.SiteID]int{}
	for _, h := range hosts {
		if count[h.Site]++; count[h.Site] == 1 {
			names = append(names, string(h.Site))
		}
	}
	for i, n := range names {
		names[i] = fmt.Sprintf("%s (%d)", n, count[schemas.SiteID(n)])
	}
	return strings.Join(names, " and ")
}
