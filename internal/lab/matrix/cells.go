package matrix

import (
	"fmt"
	"regexp"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Cell is one fault at one phase of a move.
type Cell struct {
	Name  string
	Steps []string // where the fault strikes, one a round, in turn
	Quick bool     // one of the subset that every change is tested with

	before func(*run) // before the command, or in its stead
	fault  func(*run) // at the step; the part that reports it waits meanwhile
	after  func(*run) // when the command's end is known, before what was broken is mended

	ends      []schemas.Result   // allowed; empty: any that agrees with what is seen
	why       schemas.ReasonCode // of the end, if it must be this one
	harms     bool               // the fault itself ends the guest: then it need not run
	moved     bool               // it has been at its destination since before the command
	doubles   bool               // the fault itself makes a second domain of the same UUID
	elsewhere bool               // somebody else moves the VM away
	unlocks   bool               // the guest loses its lock: a new one takes its place
	local     bool               // the guest's disk is its host's alone, and goes along
	busy      bool               // the guest writes faster than the link carries, and its owner allows post-copy
}

func (c Cell) step(round int) string {
	if len(c.Steps) == 0 {
		return ""
	}
	return c.Steps[(round-1)%len(c.Steps)]
}

// The phases, each with the steps at which it is struck. The first three steps of a
// phase are three different places of it.
var (
	stepsBefore     = []string{"begin", "prepare", "begin done"}
	stepsPreCopy    = []string{"pre-copy"}
	stepsSwitchover = []string{"switchover", "finish", "resume"}
	stepsAfter      = []string{"confirm", "confirm done", "report done"}
)

// mended is how long what was killed stays dead: a service manager's pause and more.
const mended = 2 * time.Second

// Cells are the matrix, in the order in which it is played.
func Cells() []Cell {
	var out []Cell
	add := func(c Cell) { out = append(out, c) }
	phases := []struct {
		name  string
		steps []string
	}{{"before", stepsBefore}, {"pre-copy", stepsPreCopy}, {"switchover", stepsSwitchover}, {"after", stepsAfter}}
	type victim struct {
		name string
		hit  func(*run)
	}
	for _, v := range []victim{
		{"source libvirtd killed", func(x *run) { x.killLibvirtd(x.src, mended) }},
		{"destination libvirtd killed", func(x *run) { x.killLibvirtd(x.dst, mended) }},
		{"source actuator killed", func(x *run) { x.killPart(x.actuators[x.src], mended) }},
		{"destination actuator killed", func(x *run) { x.killPart(x.actuators[x.dst], mended) }},
		{"NATS killed", func(x *run) { x.killPart(x.bus, mended) }},
	} {
		for _, p := range phases {
			c := Cell{Name: v.name + ", " + p.name, Steps: p.steps, fault: v.hit}
			c.Quick = p.name == "switchover" && v.name != "NATS killed" && v.name != "destination libvirtd killed" // the latter is among the splits
			if v.name == "destination actuator killed" && p.name == "switchover" {
				c.Steps = []string{"receive finish done", "switchover", "receive resume"}
			}
			if v.name == "source libvirtd killed" && p.name == "switchover" {
				c.Steps = []string{"finish", "switchover", "resume"}
			}
			add(c)
		}
	}
	for _, p := range phases {
		c := Cell{Name: "destination QEMU killed, " + p.name, Steps: p.steps, fault: killQEMU, Quick: p.name == "pre-copy"}
		switch p.name {
		case "before": // there is none yet: it is killed as soon as it is there
			c.Steps = []string{"prepare done", "perform"}
		case "switchover":
			c.Steps = []string{"switchover", "perform done", "finish"}
		case "after":
			c.harms = true // the guest ran there and nowhere else
		}
		add(c)
	}
	add(Cell{Name: "link cut, pre-copy", Steps: stepsPreCopy, fault: func(x *run) { x.cutLink(x.dst, time.Duration(4*x.round)*time.Second) }, Quick: true})
	add(Cell{Name: "link cut, switchover", Steps: []string{"switchover"}, fault: func(x *run) { x.cutLink(x.dst, time.Duration(4*x.round)*time.Second) }})
	add(Cell{Name: "link cut past the deadline, switchover", Steps: []string{"switchover"}, fault: func(x *run) { x.cutLink(x.dst, moveLimit+limits().AbortGrace+5*time.Second) }})
	add(Cell{Name: "source actuator stopped longer than the lease", Steps: []string{"finish", "pre-copy", "resume"}, fault: func(x *run) { x.stopPart(x.actuators[x.src], asleep) }})
	add(Cell{Name: "destination actuator stopped longer than the lease", Steps: []string{"receive finish", "prepare", "receive resume"}, fault: func(x *run) { x.stopPart(x.actuators[x.dst], asleep) }})
	add(Cell{Name: "operator aborts", Steps: []string{"pre-copy", "begin", "switchover"}, fault: abort, Quick: true})
	add(Cell{Name: "VM shut down in the middle of its move", Steps: []string{"pre-copy", "prepare", "perform"}, harms: true, fault: func(x *run) {
		_, err := x.Lab.Hosts[x.src].Virsh(x.ctx, "destroy", x.guest.ID.String())
		x.fault(err)
	}})
	add(Cell{Name: "libvirt connection lost at the source", Steps: []string{"hand-over", "confirm", "prepare"}, fault: func(x *run) { x.gates[x.src].Cut() }, Quick: true})
	add(Cell{Name: "libvirt connection lost at the destination", Steps: []string{"hand-over", "resume", "perform"}, fault: func(x *run) { x.gates[x.dst].Cut() }})
	add(Cell{Name: "transfer that does not converge, post-copy allowed", ends: []schemas.Result{schemas.ResultFailed}, why: schemas.ReasonPostCopy, busy: true, before: thin, after: widen})
	return append(append(out, commandCells()...), localCells()...)
}

// localCells are moves of a guest whose disk goes along. Whatever comes of them, the
// disk is whole where the guest runs and nowhere else.
func localCells() []Cell {
	disk := []string{"disk"}
	return []Cell{
		{Name: "local disk, no fault", Steps: disk, fault: func(*run) {}, ends: []schemas.Result{schemas.ResultSucceeded}, local: true, Quick: true},
		{Name: "local disk, link cut", Steps: disk, fault: func(x *run) { x.cutLink(x.dst, time.Duration(4*x.round)*time.Second) }, local: true},
		{Name: "local disk, operator aborts", Steps: disk, ends: []schemas.Result{schemas.ResultFailed}, fault: abort, local: true},
		{Name: "local disk, source actuator killed", Steps: []string{"disk", "confirm", "confirm done"}, fault: func(x *run) { x.killPart(x.actuators[x.src], mended) }, local: true, Quick: true},
		{Name: "local disk, destination actuator killed", Steps: []string{"disk", "receive prepare done", "receive finish"}, fault: func(x *run) { x.killPart(x.actuators[x.dst], mended) }, local: true},
		{Name: "local disk, source libvirtd killed", Steps: []string{"disk", "finish", "confirm"}, fault: func(x *run) { x.killLibvirtd(x.src, mended) }, local: true},
		{Name: "local disk, destination libvirtd killed", Steps: disk, fault: func(x *run) { x.killLibvirtd(x.dst, mended) }, local: true},
	}
}

// thin makes the link carry less than a busy guest writes, and gives the move the time
// that it takes to see that.
func thin(x *run) {
	x.fault(x.Lab.Hosts[x.dst].Throttle(3e6))
	x.cmd.Deadline = x.cmd.Deadline.Add(3 * time.Minute)
}

func widen(x *run) { x.fault(x.Lab.Hosts[x.dst].Throttle(0)) }

func abort(x *run) {
	x.fault(x.act(x.ctx, &schemas.Act{Act: schemas.ActAbort, VM: x.guest.ID, Command: x.cmd.ID, Why: "the lab"}))
}

// asleep is longer than the placer's lease and the actuators' own patience.
const asleep = 17 * time.Second

func killQEMU(x *run) { x.fault(x.Lab.Hosts[x.dst].KillQEMU(x.guest.Name)) }

// Select gives the cells whose names match, all for an empty pattern.
func Select(cells []Cell, pattern string) ([]Cell, error) {
	re, err := regexp.Compile("(?i)" + pattern)
	if err != nil {
		return nil, fmt.Errorf("cells %q: %w", pattern, err)
	}
	var out []Cell
	for _, c := range cells {
		if re.MatchString(c.Name) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no cell matches %q", pattern)
	}
	return out, nil
}
