package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// Options say what is simulated.
type Options struct {
	First   uint64   // first seed
	Seeds   int      // how many, one cluster each
	Days    float64  // simulated days of each
	Faults  []int    // F1 to F14 by number
	Favour  []string // faults that come far more often; empty: each seed draws its own
	Without string   // guards to leave out, by commas
	Kind    string   // "storm", "placer", or "" for both in turn
	Stop    func() bool
	Each    func(seed uint64, o *Outcome)
}

// ParseFaults reads "all", "none" or a list such as F1,F3,F12.
func ParseFaults(s string) ([]int, error) {
	var out []int
	switch s {
	case "all":
		for i := range lastFault {
			out = append(out, i+1)
		}
		return out, nil
	case "none":
		return out, nil
	}
	for _, p := range strings.Split(s, ",") {
		n, err := strconv.Atoi(strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(p)), "F"))
		if err != nil || n < 1 || n > lastFault {
			return nil, fmt.Errorf("faults: %q is none of F1 to F%d, all or none", p, lastFault)
		}
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out, nil
}

// Counts are what happened, so that a run that shows nothing can be told from one in
// which nothing happened.
type Counts struct {
	Events      uint64             `json:"events"`
	Commands    int                `json:"commands"`
	Started     int                `json:"started"`
	Succeeded   int                `json:"succeeded"`
	Failed      int                `json:"failed"`
	Unknown     int                `json:"unknown"`
	Refused     int                `json:"refused"`
	Plans       int                `json:"plans"`
	Redelivered int                `json:"redelivered"`
	Forged      int                `json:"forged_and_refused"`
	PostCopies  int                `json:"post_copies"`
	Invalid     int                `json:"invalid_messages"`
	Faults      [lastFault + 1]int `json:"faults"` // by number
}

func (c *Counts) fault(n int) { c.Faults[n]++ }

func (c *Counts) outcome(r schemas.Result) {
	switch r {
	case schemas.ResultSucceeded:
		c.Succeeded++
	case schemas.ResultFailed:
		c.Failed++
	case schemas.ResultUnknown:
		c.Unknown++
	case schemas.ResultRefused:
		c.Refused++
	}
}

func (c *Counts) add(o *Counts) {
	c.Events += o.Events
	c.Commands += o.Commands
	c.Started += o.Started
	c.Succeeded += o.Succeeded
	c.Failed += o.Failed
	c.Unknown += o.Unknown
	c.Refused += o.Refused
	c.Plans += o.Plans
	c.Redelivered += o.Redelivered
	c.Forged += o.Forged
	c.Invalid += o.Invalid
	c.PostCopies += o.PostCopies
	for i := range c.Faults {
		c.Faults[i] += o.Faults[i]
	}
}

// Outcome is how one seed went.
type Outcome struct {
	Seed      uint64
	Hash      uint64
	Counts    Counts
	Violation *Violation
	Story     string // of the violation
}

// Result sums up a run.
type Result struct {
	Seeds      int      `json:"seeds"`
	Days       float64  `json:"days"`
	Faults     []int    `json:"fault_kinds"`
	Without    string   `json:"without"`
	Kind       string   `json:"kind"`
	Favour     []string `json:"favour,omitempty"`
	Violations []Found  `json:"violations"`
	// Regardless are seeds that break with every guard in its place, too: they say nothing
	// about the one left out, and that something is wrong.
	Regardless []uint64 `json:"regardless,omitempty"`
	Counts     Counts   `json:"counts"`
	Hash       string   `json:"hash"`
}

// Found is a violation with its seed.
type Found struct {
	Seed uint64 `json:"seed"`
	Violation
	Story string `json:"-"`
}

// Run simulates clusters one after the other, until all seeds are done, a guard's
// absence is found, or it is stopped.
func Run(o Options) (*Result, error) {
	rules, err := o.rules()
	if err != nil {
		return nil, err
	}
	if o.Seeds < 1 || o.Days <= 0 || o.Days > 3660 {
		return nil, errors.New("want at least one seed and a number of days above 0")
	}
	res := &Result{Faults: o.Faults, Without: o.Without, Kind: o.Kind, Favour: o.Favour, Violations: []Found{}}
	sum := uint64(14695981039346656037)
	for i := range o.Seeds {
		if o.Stop != nil && o.Stop() {
			break
		}
		seed := o.First + uint64(i)
		out := one(seed, o, rules)
		sum = (sum ^ out.Hash) * 0x100000001b3
		res.Seeds++
		res.Days += o.Days
		res.Counts.add(&out.Counts)
		if o.Each != nil {
			o.Each(seed, out)
		}
		if out.Violation != nil && o.Without != "" && one(seed, o.whole(), migration.DefaultRules()).Violation != nil {
			res.Regardless = append(res.Regardless, seed)
			continue
		}
		if out.Violation != nil {
			res.Violations = append(res.Violations, Found{seed, *out.Violation, out.Story})
			if o.Without != "" || len(res.Violations) >= 5 {
				break
			}
		}
	}
	res.Hash = fmt.Sprintf("%016x", sum)
	return res, nil
}

// rules are those in force. Where guards are left out, their days and their faults are
// the default.
func (o *Options) rules() (*migration.Rules, error) {
	rules := migration.DefaultRules()
	for _, name := range o.off() {
		g, err := Find(name)
		if err != nil {
			return nil, err
		}
		if g.machine {
			if rules, err = rules.Without(name); err != nil {
				return nil, err
			}
		}
		if o.Kind == "" {
			o.Kind = g.kind
		}
		if len(o.Favour) == 0 {
			o.Favour = g.favour
		}
	}
	return rules, nil
}

// off are the guards that are left out.
func (o *Options) off() []string {
	if o.Without == "" {
		return nil
	}
	return strings.Split(o.Without, ",")
}

// whole are the same options with every guard in its place.
func (o Options) whole() Options {
	o.Without = ""
	return o
}

// one simulates a seed; when an invariant breaks, it is run again to tell the story.
func one(seed uint64, o Options, rules *migration.Rules) *Outcome {
	w := newWorld(seed, o, rules, false)
	w.run()
	out := &Outcome{Seed: seed, Hash: w.sum, Counts: w.counts, Violation: w.bad}
	out.Counts.Events = w.events
	if w.bad != nil {
		again := newWorld(seed, o, rules, true)
		again.run()
		out.Story = again.tell()
		if again.sum != w.sum || again.bad == nil {
			out.Story += "\n(the story does not repeat: the simulation is not deterministic)"
		}
	}
	return out
}

// newWorld builds the cluster of a seed.
func newWorld(seed uint64, o Options, rules *migration.Rules, keep bool) *world {
	storm := o.Kind == "storm" || o.Kind == "" && seed%4 != 0
	w := &world{seed: seed, mix: draw(seed, o.Faults, o.Favour, storm), rules: rules, off: o.off(), now: epoch, end: epoch + int64(o.Days*24*float64(time.Hour)) + int64(calmFor), keep: keep,
		facts: map[*message]*fact{}, started: map[schemas.CommandID]int{}, byVM: map[schemas.VMID]*guest{}, byHost: map[schemas.HostID]*host{}, lastBeat: epoch}
	w.net, w.disk, w.hyper, w.steps, w.acts, w.work = newDice(seed, "net"), newDice(seed, "disk"), newDice(seed, "hypervisors"), newDice(seed, "steps"), newDice(seed, "acts"), newDice(seed, "work")
	w.chance, w.twists = newDice(seed, "twists at steps"), twists()
	m := &w.mix
	for i := range m.hosts {
		h := &host{w: w, id: schemas.HostID(fmt.Sprintf("h%d", i)), index: i, site: "site-a", cores: 8, gib: 40}
		if i >= (m.hosts+1)/2 {
			h.site = "site-b"
		}
		h.disk, h.files = newDisk(w, m.vms), make([]fileOf, m.vms)
		h.act = newActuator(w, h)
		w.hosts, w.byHost[h.id] = append(w.hosts, h), h
	}
	w.links = newNetwork(w, m.hosts+1+m.placers, m.hosts)
	w.nats = newNATS(w)
	w.keys = newKeyring(w, w.hosts)
	w.person = &person{w}
	w.populate()
	for _, h := range w.hosts {
		w.nats.durable[h.id] = &durable{n: w.nats, host: h.id, next: 1, most: unacked}
		h.act.start()
	}
	w.boss = newCommander(w, m.hosts)
	w.boss.start()
	w.populatePlacers()
	w.schedule()
	w.after(20*time.Second, w.watch)
	w.after(time.Minute, w.person.round)
	w.at(w.end-int64(calmFor), w.quiet)
	return w
}

// populate makes the VMs and places them.
func (w *world) populate() {
	d := newDice(w.seed, "guests")
	for i := range w.mix.vms {
		g := &guest{w: w, version: 1, index: i, name: fmt.Sprintf("vm%d", i), copies: make([]copyOf, len(w.hosts))}
		copy(g.id[:], "foreshift-vm")
		for g.id[14] = byte(i + 1); g.id.Partition() >= 4; { // few partitions, few messages
			g.id[15]++
		}
		for j := range g.copies {
			g.copies[j].state = migration.Absent
		}
		at := d.IntN(len(w.hosts))
		c := &g.copies[at]
		if g.local = d.odds(w.mix.local); g.local {
			w.hosts[at].files[i] = fileOf{there: true, whole: true, version: 1}
		}
		c.state, c.since, c.whole, c.version = migration.Running, w.now, true, 1
		g.leased(w.hosts[at], migration.Absent, migration.Running)
		w.guests, w.byVM[g.id] = append(w.guests, g), g
	}
}
