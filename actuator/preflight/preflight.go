// Package preflight judges whether hosts are fit for live migration, before any VM
// moves.
//
// What comes in: what each host's daemon says of itself ([libvirt.Inspection]),
// which guests' CPUs the other hosts can provide, how far the host's clock is off,
// the links from its site to others, and how large a message the bus takes. What goes out: a row per host and check,
// with what was found and, where something is wrong, how to mend it.
//
// What is promised: it only looks. What could not be asked is "unknown", never
// "ok". A failed check is one for which the host's actuator refuses moves, or with
// which they would do harm; a warning is for a person to weigh. The checks follow
// what was seen to go wrong on real hosts: QEMU before 9 corrupts emulated guests
// on migration, caches that lose writes, CPUs that differ, clocks by which commands
// have expired before they come.
package preflight

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/schemas"
)

// Status is how a check ended.
type Status string

// The statuses, from good to bad.
const (
	OK      Status = "ok"
	Unknown Status = "unknown"
	Warn    Status = "warn"
	Fail    Status = "fail"
)

// Check is one finding.
type Check struct {
	Host   string `json:"host"` // empty: of the bus
	Name   string `json:"check"`
	Status Status `json:"status"`
	Found  string `json:"found"`
	Fix    string `json:"fix,omitempty"`
}

// Host is what is known of one host.
type Host struct {
	ID       schemas.HostID
	Found    *libvirt.Inspection // nil: its daemon could not be asked
	Why      string              // why not
	Libvirt  uint64              // as its agent reports, when the daemon could not be asked
	QEMU     uint64
	Skew     time.Duration           // of its clock against the bus's
	SkewSeen bool                    // the skew is known
	Runs     map[string][]string     // by other host: the CPUs of this host's guests that it cannot provide
	TLS      map[string]bool         // certificates of QEMU found, by file; nil: not on this machine
	Shared   func(path string) *bool // nil, or what the file system says; nil: not told
	Lock     Lock
	Ways     []Way // to the other sites of the fleet
	WaysSeen bool  // the bus was asked for them
}

// Lock is what is known of a host's disk lock, which peer-to-peer moves need.
type Lock struct {
	Daemon string            // that runs, empty if none or not asked
	Down   string            // why none runs
	Tried  bool              // a trial was made with other hosts
	Failed map[string]string // by other host: why the trial proves no lock
}

// The bounds of the checks.
const (
	leastLibvirt = 6_000_000
	knownLibvirt = 9_000_000
	skewWarn     = 5 * time.Second
	skewFail     = 30 * time.Second // half of a command's life
)

// Bus judges the bus: payload is the largest message that its commands' account
// takes, 0 when it could not be asked.
func Bus(payload, want int64, err error) Check {
	c := Check{Name: "bus", Status: OK, Found: fmt.Sprintf("messages of up to %d bytes", payload)}
	switch {
	case err != nil:
		c.Status, c.Found, c.Fix = Unknown, err.Error(), "run this where the bus can be reached, with --state or --nats"
	case payload < want:
		c.Status, c.Fix = Fail, fmt.Sprintf("set max_payload: %d on the NATS servers: a request carries domain XML and libvirt's cookies", want)
	}
	return c
}

// Judge gives the checks of one host.
func Judge(h *Host) []Check {
	j := judge{host: string(h.ID)}
	x := h.Found
	if x == nil {
		j.add("libvirt", Unknown, h.Why, "run `foreshift preflight` on that host")
		x = &libvirt.Inspection{Libvirt: h.Libvirt, QEMU: h.QEMU, Phases: true, KVM: true}
	} else {
		j.daemon(x)
	}
	j.qemu(x, h.Found != nil)
	j.handover(x, h.Found != nil)
	j.lock(h, x.Phases)
	if h.Found != nil {
		j.cpu(h)
		j.storage(h)
	} else {
		j.add("cpu", Unknown, "not asked", "")
		j.add("storage", Unknown, "not asked", "")
	}
	j.tls(h)
	j.clock(h)
	j.tunnel(h)
	return j.checks
}

type judge struct {
	host   string
	checks []Check
}

func (j *judge) add(name string, s Status, found, fix string) {
	j.checks = append(j.checks, Check{j.host, name, s, found, fix})
}

func version(v uint64) string {
	if v == 0 {
		return "unknown version"
	}
	return fmt.Sprintf("%d.%d.%d", v/1e6, v/1e3%1e3, v%1e3)
}

func (j *judge) daemon(x *libvirt.Inspection) {
	s, fix := OK, ""
	switch {
	case x.Libvirt == 0:
		s = Unknown
	case x.Libvirt < leastLibvirt:
		s, fix = Fail, "install libvirt 6.0 or newer; 9.0 and newer are tested"
	case x.Libvirt < knownLibvirt:
		s, fix = Warn, "libvirt 9.0 and newer are tested"
	}
	j.add("libvirt", s, version(x.Libvirt), fix)
}

func (j *judge) qemu(x *libvirt.Inspection, asked bool) {
	found := version(x.QEMU)
	emulated := 0
	for _, g := range x.Guests {
		if g.Emulated {
			emulated++
		}
	}
	switch {
	case x.QEMU == 0:
		j.add("qemu", Unknown, found, "")
	case x.QEMU < libvirt.LeastEmulated && (emulated > 0 || !x.KVM):
		j.add("qemu", Fail, fmt.Sprintf("%s; %d of %d guests are emulated (TCG)", found, emulated, len(x.Guests)), "QEMU before 9.0 corrupts emulated guests on migration: install 9.0 or newer, or use KVM; until then their moves are refused")
	case !asked:
		j.add("qemu", OK, found+", as its agent says", "")
	case !x.KVM:
		j.add("qemu", Warn, found+"; no KVM", "emulated guests are slow, and their moves too")
	default:
		j.add("qemu", OK, found+", KVM", "")
	}
}

func (j *judge) handover(x *libvirt.Inspection, asked bool) {
	switch {
	case !asked:
		j.add("handover", Unknown, "not asked", "")
	case x.Phases:
		j.add("handover", OK, "client-managed, paused", "")
	default:
		j.add("handover", Fail, "the daemon does not let a client lead the phases of a migration", "install a newer libvirt, and connect to its own socket; or prove a disk lock and start the actuators with --handover p2p")
	}
}

// lock judges the disk lock. The paused handover needs none.
func (j *judge) lock(h *Host, phases bool) {
	l := &h.Lock
	found, s, fix := "not tried", Unknown, "try it: foreshift preflight --lease FILE, a file in the shared file_lockspace_dir of qemu-lockd.conf"
	others := make([]string, 0, len(l.Failed))
	for o := range l.Failed {
		others = append(others, o)
	}
	slices.Sort(others)
	switch {
	case len(others) > 0:
		found, s = "proves nothing with "+others[0]+": "+l.Failed[others[0]], Warn
		fix = "without it peer-to-peer moves are refused; the paused handover needs none"
	case l.Down != "":
		found, s, fix = l.Down, Warn, "without it peer-to-peer moves are refused; the paused handover needs none"
	case l.Tried:
		found, s, fix = "proven by a trial with every host", OK, ""
	}
	if l.Daemon != "" {
		found += "; " + l.Daemon
	}
	switch {
	case phases && s != OK:
		// Nothing here needs it.
		s, found = OK, "not needed: the source cannot run by itself in a paused handover ("+found+")"
		fix = ""
	case !phases && s != OK:
		s, fix = Fail, "neither the paused handover nor a lock holds: nothing is moved from or to this host. "+fix
	}
	j.add("lock", s, found, fix)
}

func (j *judge) cpu(h *Host) {
	if h.Runs == nil {
		j.add("cpu", Unknown, "no other host could be asked", "")
		return
	}
	passed := 0
	for _, g := range h.Found.Guests {
		if g.CPUMode == "host-passthrough" {
			passed++
		}
	}
	peers := make([]string, 0, len(h.Runs))
	for p := range h.Runs {
		if len(h.Runs[p]) > 0 {
			peers = append(peers, p)
		}
	}
	slices.Sort(peers)
	switch {
	case len(peers) > 0:
		first := h.Runs[peers[0]]
		j.add("cpu", Warn, fmt.Sprintf("%d of %d hosts cannot provide the CPU of some guests: %s not %s", len(peers), len(h.Runs), peers[0], strings.Join(first[:min(3, len(first))], ", ")), "give the guests a CPU model that all hosts have (virsh hypervisor-cpu-baseline)")
	case passed > 0:
		j.add("cpu", Warn, fmt.Sprintf("%d guests have host-passthrough", passed), "they only move between hosts with the same CPU and microcode; use a named model")
	default:
		j.add("cpu", OK, fmt.Sprintf("%d other hosts can run all %d guests", len(h.Runs), len(h.Found.Guests)), "")
	}
}

func (j *judge) storage(h *Host) {
	var unsafe, local, along, unclear []string
	for _, g := range h.Found.Guests {
		for _, d := range g.Disks {
			name := g.Name + " " + d.Target
			if d.Cache == "unsafe" {
				unsafe = append(unsafe, name)
				continue
			}
			if d.Type == "network" || d.Type == "volume" {
				continue
			}
			switch shared(h, d) {
			case sharedNo:
				if pooled(h, d) && !d.Chain {
					along = append(along, name)
				} else {
					local = append(local, name)
				}
			case sharedUnclear:
				unclear = append(unclear, name)
			}
		}
	}
	list := func(s []string) string {
		if len(s) > 3 {
			return strings.Join(s[:3], ", ") + fmt.Sprintf(" and %d more", len(s)-3)
		}
		return strings.Join(s, ", ")
	}
	switch {
	case len(unsafe) > 0:
		j.add("storage", Fail, "cache='unsafe': "+list(unsafe), "set cache='none': what is not flushed is lost in a move; until then theirs are refused")
	case len(local) > 0:
		j.add("storage", Warn, "on local storage that cannot go along: "+list(local), "put them into a storage pool that all hosts have at the same path (virsh pool-define-as NAME dir --target DIR), flattened (virsh blockpull), or on shared storage; until then their moves are refused")
	case len(unclear) > 0:
		j.add("storage", Unknown, "in no storage pool: "+list(unclear), "run `foreshift preflight` on that host")
	case len(along) > 0:
		j.add("storage", OK, "copied along with their guests: "+list(along), "")
	default:
		j.add("storage", OK, fmt.Sprintf("the disks of %d guests are shared", len(h.Found.Guests)), "")
	}
}

// pooled reports that a disk lies in a storage pool of its host.
func pooled(h *Host, d libvirt.Disk) bool {
	for i := range h.Found.Pools {
		if h.Found.Pools[i].Holds(d.Path) {
			return true
		}
	}
	return false
}

type sharing uint8

const (
	sharedYes sharing = iota
	sharedNo
	sharedUnclear
)

func shared(h *Host, d libvirt.Disk) sharing {
	for i := range h.Found.Pools {
		if p := &h.Found.Pools[i]; p.Holds(d.Path) {
			if p.Shared || d.Common {
				return sharedYes
			}
			if h.Shared == nil {
				return sharedNo
			}
			break
		}
	}
	if h.Shared != nil {
		if yes := h.Shared(d.Path); yes != nil {
			if *yes {
				return sharedYes
			}
			return sharedNo
		}
	}
	return sharedUnclear
}

func (j *judge) tls(h *Host) {
	if h.TLS == nil {
		j.add("tls", Unknown, "certificates are only seen on the host itself", "")
		return
	}
	var missing []string
	for f, there := range h.TLS {
		if !there {
			missing = append(missing, f)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		j.add("tls", Warn, "QEMU has no "+strings.Join(missing, ", "), "guests' memory crosses the network in the clear; see migrate_tls_x509_cert_dir in qemu.conf")
		return
	}
	j.add("tls", OK, "QEMU has its certificates", "")
}

func (j *judge) clock(h *Host) {
	off := h.Skew.Abs().Round(10 * time.Millisecond)
	switch {
	case !h.SkewSeen:
		j.add("clock", Unknown, "its agent has not reported", "")
	case off >= skewFail:
		j.add("clock", Fail, off.String()+" off", "run chrony or ntpd: commands expire after a minute")
	case off >= skewWarn:
		j.add("clock", Warn, off.String()+" off", "run chrony or ntpd")
	default:
		j.add("clock", OK, "within "+max(off, 10*time.Millisecond).String(), "")
	}
}

// Worst is the worst status of all.
func Worst(checks []Check) Status {
	order := []Status{OK, Unknown, Warn, Fail}
	worst := OK
	for _, c := range checks {
		if slices.Index(order, c.Status) > slices.Index(order, worst) {
			worst = c.Status
		}
	}
	return worst
}
