package replay

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
)

// WeekInput is what a fleet recorded in some days: base steps in order, plans, commands,
// outcomes and effects in order of time, and how many mCPU hosts have.
type WeekInput struct {
	Base     time.Duration
	Steps    []*schemas.Steps
	Capacity map[schemas.HostID]float64
	Plans    []*schemas.Plan
	Commands []*schemas.Command
	Outcomes []*schemas.Outcome
	Effects  []*schemas.Effect
	Ladder   learning.Ladder // judged already
}

// Week is what those days were like, what was moved and what that achieved, and what
// would have been moved.
type Week struct {
	From       schemas.Time `json:"from"`
	To         schemas.Time `json:"to"`
	Hosts      int          `json:"hosts"`
	VMs        int          `json:"vms"`
	Unmet      float64      `json:"unmet_core_hours"` // demand above what hosts have
	Waited     float64      `json:"steal_core_hours"` // as measured
	Short      int          `json:"host_steps_short"`
	Commanded  int          `json:"moves_commanded"`
	Succeeded  int          `json:"moves_succeeded"`
	InTime     int          `json:"moves_before_onset"`
	Downtime   float64      `json:"downtime_seconds"`
	Sent       float64      `json:"gib_moved"`
	Expected   float64      `json:"expected_core_hours"`   // what the moves made were to save, after their cost
	Relieved   int          `json:"sources_relieved"`      // moves after which those who stayed certainly wait less
	Burdened   int          `json:"destinations_burdened"` // after which the new neighbours certainly wait more
	Judged     int          `json:"moves_judged"`
	Shadow     int          `json:"moves_not_made"`
	ShadowGain float64      `json:"shadow_expected_core_hours"` // what those were to save
	Right      int          `json:"shadow_right"`
	Wrong      int          `json:"shadow_wrong"`
	Foreign    int          `json:"foreign_moves"` // VMs that changed hosts without our command
	WhatIf     *Result      `json:"what_if,omitempty"`
}

// explains bounds how far before a change of host a command of ours explains it.
const explains = perHour

// Tell goes through what was recorded.
func Tell(in WeekInput) *Week {
	w := &Week{Hosts: len(in.Capacity), Right: in.Ladder.Right, Wrong: in.Ladder.Wrong}
	w.load(&in)
	made := map[schemas.CommandID]bool{}
	onset := map[schemas.CommandID]schemas.Time{}
	for _, c := range in.Commands {
		made[c.ID], onset[c.ID] = true, c.Predicted.Onset
		w.Commanded++
		w.Expected += c.Predicted.Gain.Benefit / 3600
	}
	for _, o := range in.Outcomes {
		if o.Result != schemas.ResultSucceeded {
			continue
		}
		w.Succeeded++
		w.Downtime += float64(o.Downtime) / 1000
		w.Sent += float64(o.Volume) / (1 << 30)
		if onset[o.Command] > o.Time {
			w.InTime++
		}
	}
	for _, e := range in.Effects {
		w.Judged++
		if c, ok := e.Terms["source.steal_mcpu"]; ok && c.High < 0 {
			w.Relieved++
		}
		if c, ok := e.Terms["destination.steal_mcpu"]; ok && c.Low > 0 {
			w.Burdened++
		}
	}
	shadow := map[schemas.CommandID]bool{}
	for _, p := range in.Plans {
		for i := range p.Actions {
			if a := &p.Actions[i]; !made[a.ID] && !shadow[a.ID] {
				shadow[a.ID] = true
				w.Shadow++
				w.ShadowGain += a.Predicted.Gain.Benefit / 3600
			}
		}
	}
	return w
}

// load goes through the base steps: what hosts carried, and who changed hosts.
func (w *Week) load(in *WeekInput) {
	at := map[schemas.VMID]schemas.HostID{}
	ours := map[schemas.VMID][]*schemas.Command{}
	for _, c := range in.Commands {
		ours[c.VM] = append(ours[c.VM], c)
	}
	hours := in.Base.Hours()
	for i := 0; i < len(in.Steps); {
		step := in.Steps[i].Step
		load := map[schemas.HostID]float64{}
		for ; i < len(in.Steps) && in.Steps[i].Step == step; i++ {
			m := in.Steps[i]
			cpu, steal := m.Cols[schemas.ColCPU], m.Cols[schemas.ColSteal]
			for k, id := range m.VM {
				h := m.Host[k]
				if cpu != nil && cpu[k] == cpu[k] {
					load[h] += float64(cpu[k])
				}
				if steal != nil && steal[k] == steal[k] {
					w.Waited += float64(steal[k]) / 1000 * hours
				}
				if old, known := at[id]; known && old != h && !explained(ours[id], h, step, in.Base) {
					w.Foreign++
				}
				at[id] = h
			}
		}
		for _, h := range slices.Sorted(maps.Keys(load)) {
			if c := in.Capacity[h]; c > 0 && load[h] > c {
				w.Unmet += (load[h] - c) / 1000 * hours
				w.Short++
			}
		}
	}
	w.VMs = len(at)
	if n := len(in.Steps); n > 0 {
		w.From, w.To = in.Steps[0].Step.Start(in.Base), in.Steps[n-1].Step.End(in.Base)
	}
}

func explained(cs []*schemas.Command, to schemas.HostID, step schemas.Step, base time.Duration) bool {
	return slices.ContainsFunc(cs, func(c *schemas.Command) bool {
		began := schemas.StepAt(c.Issued, base)
		return (c.Destination == to || c.Source == to) && began <= step && began > step-explains
	})
}

// Table writes the report for people.
func (w *Week) Table(out io.Writer) error {
	var b strings.Builder
	on := fmt.Sprintf(" on %d hosts", w.Hosts)
	if w.Hosts == 0 { // an imported history alone
		on = "; no host reports here, so that nobody knows how full they were"
	}
	fmt.Fprintf(&b, "%s to %s: %d VMs%s\n\n", w.From.Std().UTC().Format("2006-01-02 15:04"), w.To.Std().UTC().Format("2006-01-02 15:04"), w.VMs, on)
	fmt.Fprintf(&b, "what happened   %.2f core-hours of demand above what hosts have, in %d steps of a host; VMs waited %.2f core-hours for cores\n", w.Unmet, w.Short, w.Waited)
	fmt.Fprintf(&b, "what was moved  %d moves commanded, %d succeeded, %d of them before the shortage; %.1f GiB, %.2f s of standstill; they were to save %.2f core-hours\n",
		w.Commanded, w.Succeeded, w.InTime, w.Sent, w.Downtime, w.Expected)
	if w.Judged > 0 {
		fmt.Fprintf(&b, "what it did     of %d moves with a known effect, those who stayed certainly wait less after %d, the new neighbours certainly more after %d\n", w.Judged, w.Relieved, w.Burdened)
	}
	fmt.Fprintf(&b, "not made        %d moves were planned and not made; they were to save %.2f core-hours", w.Shadow, w.ShadowGain)
	if n := w.Right + w.Wrong; n > 0 {
		fmt.Fprintf(&b, "; the shortage came in %d of the %d that can be judged", w.Right, n)
	}
	b.WriteByte('\n')
	if w.Foreign > 0 {
		fmt.Fprintf(&b, "others          %d times a VM changed hosts without a command of ours: another balancer, or people, move VMs here\n", w.Foreign)
	}
	if _, err := io.WriteString(out, b.String()); err != nil {
		return err
	}
	if w.WhatIf == nil {
		return nil
	}
	if _, err := io.WriteString(out, "\nwhat Foreshift would have done with this demand, on hosts of one size, beside other rules:\n\n"); err != nil {
		return err
	}
	return w.WhatIf.Table(out)
}
