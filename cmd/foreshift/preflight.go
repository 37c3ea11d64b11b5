package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/actuator"
	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/preflight"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

// preflightLimit bounds the looking at one host.
const preflightLimit = 20 * time.Second

func preflightCommand(at *place) *cobra.Command {
	var lease, daemon string
	c := &cobra.Command{Use: "preflight [HOST=URI | URI]...", Short: "Are the hosts fit for live migration? A table per host, before anything moves",
		Long: `Looks at each host's libvirt, QEMU, CPUs, storage and clock, and at the bus, and
says what is wrong and how to mend it. It changes nothing; with --lease it starts a
guest of 16 MiB on one host and tries a second with the same lease on each other,
which must fail: that proves the disk lock, which peer-to-peer moves need.

Without arguments: every host whose agent has reported on the bus, or this machine's
own libvirt when there is no bus. A host that is reached by a local socket only can
be asked in full on that host.

Exit code 1 when a check fails; warnings and what is unknown do not count.`,
		RunE: func(c *cobra.Command, args []string) error {
			hosts, bus, err := at.hostsToCheck(c.Context(), args)
			if err != nil {
				return err
			}
			checks := inspect(c.Context(), hosts, lease, daemon)
			if bus != nil {
				checks = append(checks, *bus)
			}
			worst := preflight.Worst(checks)
			failed := 0
			for _, x := range checks {
				if x.Status == preflight.Fail {
					failed++
				}
			}
			if at.json {
				err = object(c.OutOrStdout(), map[string]any{"checks": checks, "worst": worst, "failed": failed, "hosts": len(hosts)})
			} else {
				err = printChecks(c.OutOrStdout(), checks)
			}
			if err == nil && failed > 0 {
				err = fmt.Errorf("%d checks failed; see the fixes above", failed)
			}
			return err
		}}
	c.Flags().StringVar(&lease, "lease", "", "file in the shared file_lockspace_dir of qemu-lockd.conf: try the disk lock with it")
	c.Flags().StringVar(&daemon, "lock-daemon", actuator.DefaultLockDaemon, "pid file of this host's virtlockd or sanlock")
	return c
}

// tryLocks makes the trial of the disk lock between every two hosts, and looks for the
// lock daemon of this one.
func tryLocks(ctx context.Context, hosts []*checked, lease, daemon string) {
	for _, h := range hosts {
		if h.local {
			var err error
			if h.Lock.Daemon, err = (&actuator.PeerConfig{Daemon: daemon}).Running(); err != nil {
				h.Lock.Down = err.Error()
			}
		}
		for _, o := range hosts {
			if lease == "" || o == h || h.Found == nil || o.Found == nil {
				continue
			}
			look, cancel := context.WithTimeout(ctx, 2*preflightLimit)
			err := libvirt.TryLock(look, h.uri, o.uri, lease)
			cancel()
			if h.Lock.Tried = true; err != nil {
				if h.Lock.Failed == nil {
					h.Lock.Failed = map[string]string{}
				}
				h.Lock.Failed[string(o.ID)] = err.Error()
			}
		}
	}
}

func printChecks(w io.Writer, checks []preflight.Check) error {
	rows := [][]string{{"HOST", "CHECK", "STATUS", "FOUND"}}
	for _, c := range checks {
		rows = append(rows, []string{ofWhom(c.Host), c.Name, string(c.Status), c.Found})
	}
	if err := table(w, rows...); err != nil {
		return err
	}
	for _, c := range checks {
		if c.Fix != "" {
			fmt.Fprintf(w, "\n%s %s: %s", ofWhom(c.Host), c.Name, c.Fix)
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// ofWhom names what belongs to no host.
func ofWhom(s string) string {
	if s == "" {
		return "(bus)"
	}
	return s
}

// checked is a host to look at.
type checked struct {
	preflight.Host
	uri   string
	local bool           // its URI is a socket of this machine
	site  schemas.SiteID // as its agent reports
}

// hostsToCheck are those named, or those that the bus knows, or this one.
func (p *place) hostsToCheck(ctx context.Context, args []string) ([]*checked, *preflight.Check, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var hosts []*checked
	for _, a := range args {
		id, uri, named := strings.Cut(a, "=")
		if !named || strings.Contains(id, ":") {
			id, uri = a, a
		}
		hosts = append(hosts, &checked{Host: preflight.Host{ID: schemas.HostID(id)}, uri: uri, local: isSocket(uri)})
	}
	bus, err := p.connect(ctx, streams.RoleOperator)
	if err != nil {
		if !errors.Is(err, streams.ErrNotRunning) && len(args) == 0 {
			return nil, nil, err
		}
		if len(hosts) == 0 {
			name, err := os.Hostname()
			if err != nil {
				return nil, nil, err
			}
			hosts = append(hosts, &checked{Host: preflight.Host{ID: schemas.HostID(name)}, uri: "qemu:///system", local: true})
		}
		c := preflight.Bus(0, streams.MaxPayload, err)
		return hosts, &c, nil
	}
	defer bus.Close()
	c := preflight.Bus(bus.Ctrl.NC.MaxPayload(), streams.MaxPayload, nil)
	events, err := bus.Last(ctx, streams.Capacity, "capacity.host.*")
	if err != nil {
		return nil, nil, err
	}
	all, sites := len(args) == 0, map[schemas.SiteID]bool{}
	for _, e := range events {
		r, ok := e.Msg.(*schemas.CapacityHost)
		if !ok {
			continue
		}
		i := slices.IndexFunc(hosts, func(h *checked) bool { return h.ID == r.Host })
		if i < 0 && all {
			hosts = append(hosts, &checked{Host: preflight.Host{ID: r.Host}, uri: r.URI})
			i = len(hosts) - 1
		}
		if i >= 0 {
			h := hosts[i]
			h.Libvirt, h.QEMU = r.Libvirt, r.QEMU
			h.Skew, h.SkewSeen, h.site = time.Duration(e.Time-int64(r.Time)), true, r.Site
		}
		if r.Site != "" {
			sites[r.Site] = true
		}
	}
	if err := ways(ctx, bus, hosts, slices.Sorted(maps.Keys(sites))); err != nil {
		return nil, nil, err
	}
	if len(hosts) == 0 {
		return nil, nil, errors.New("no agent has reported a host yet; name some: `foreshift preflight HOST=URI`")
	}
	return hosts, &c, nil
}

// ways tells each host the links from its site to the fleet's others.
func ways(ctx context.Context, bus *streams.Bus, hosts []*checked, sites []schemas.SiteID) error {
	events, err := bus.Last(ctx, streams.Capacity, "capacity.link.*.*")
	if err != nil {
		return err
	}
	var last []schemas.CapacityLink
	for _, e := range events {
		if m, ok := e.Msg.(*schemas.CapacityLink); ok {
			last = append(last, *m)
		}
	}
	links, err := linksOf(ctx, bus, last, schemas.At(time.Now()))
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if h.site == "" {
			continue
		}
		h.WaysSeen = true
		for _, s := range sites {
			if s == h.site {
				continue
			}
			w := preflight.Way{To: s}
			key := streams.LinkKey(h.site, s)
			if i := slices.IndexFunc(links, func(l tunnelLine) bool { return l.Link == key }); i >= 0 {
				l := &links[i]
				w.Measured, w.Shared, w.Silent, w.Down = true, l.Shared, l.Stale, l.Loss >= 1
			}
			h.Ways = append(h.Ways, w)
		}
	}
	return nil
}

func isSocket(uri string) bool { return strings.Contains(uri, ":///") }

// inspect asks the hosts and judges them.
func inspect(ctx context.Context, hosts []*checked, lease, daemon string) []preflight.Check {
	for _, h := range hosts {
		if isSocket(h.uri) && !h.local {
			h.Why = "its socket is on that host"
			continue
		}
		look, cancel := context.WithTimeout(ctx, preflightLimit)
		x, err := libvirt.Inspect(look, h.uri)
		cancel()
		if err != nil {
			h.Why = err.Error()
			continue
		}
		h.Found = x
		if h.local {
			h.Shared, h.TLS = libvirt.PathShared, certificates()
		}
	}
	compareCPUs(ctx, hosts)
	tryLocks(ctx, hosts, lease, daemon)
	var checks []preflight.Check
	for _, h := range hosts {
		checks = append(checks, preflight.Judge(&h.Host)...)
	}
	return checks
}

// compareCPUs asks every host about every CPU that guests elsewhere have.
func compareCPUs(ctx context.Context, hosts []*checked) {
	names := map[libvirt.CPU]bool{}
	for _, h := range hosts {
		if h.Found == nil {
			continue
		}
		for _, g := range h.Found.Guests {
			if g.CPU.XML != "" {
				names[g.CPU] = true
			}
		}
	}
	cpus := slices.Collect(maps.Keys(names))
	for _, there := range hosts {
		if there.Found == nil {
			continue
		}
		look, cancel := context.WithTimeout(ctx, preflightLimit)
		runs, err := libvirt.Runs(look, there.uri, cpus)
		cancel()
		if err != nil {
			continue // its own row says what is wrong with it
		}
		for _, h := range hosts {
			if h == there || h.Found == nil {
				continue
			}
			if h.Runs == nil {
				h.Runs = map[string][]string{}
			}
			bad := []string{}
			for _, g := range h.Found.Guests {
				if ok, asked := runs[g.CPU]; asked && !ok {
					bad = append(bad, g.Name)
				}
			}
			h.Runs[string(there.ID)] = bad
		}
	}
}

// certificates are those by which QEMU encrypts a migration, where libvirt's
// packages look for them.
func certificates() map[string]bool {
	out := map[string]bool{}
	for _, f := range []string{"ca-cert.pem", "server-cert.pem", "server-key.pem"} {
		path := filepath.Join("/etc/pki/qemu", f)
		_, err := os.Stat(path)
		out[path] = err == nil
	}
	return out
}
