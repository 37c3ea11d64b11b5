package placer

import (
	"math"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/placer/plan"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// What counts as a change worth telling, and how often to tell without one.
const (
	tellChance = .05
	tellSteps  = 3
)

// changed reports whether a subject is to be told again. sig holds what else must
// not change silently.
func (d *Decider) changed(old told, known bool, p float64, onset schemas.Time, sig string, step schemas.Step) bool {
	if !known || step-old.Step >= tellSteps || sig != old.Sig || math.Abs(p-old.P) >= tellChance {
		return true
	}
	moved := onset.Sub(old.Onset).Abs()
	return (onset == 0) != (old.Onset == 0) || moved >= tellSteps*d.cfg.Base
}

// tell publishes what changed: host pressures always, VM pressures and benefits
// while a host is pressed and once when it no longer is, shortfalls until they end.
func (d *Decider) tell(s *plan.State, dec *plan.Decision) []streams.Out {
	var outs []streams.Out
	step := s.V.Step
	put := func(subject, sig string, m schemas.Message) {
		outs = append(outs, streams.Out{Subject: subject, ID: subject + "." + schemas.HashJSON([]any{s.V.Now, sig}), Msg: m})
	}
	moving := map[schemas.VMID]bool{}
	for i := range dec.Plan.Actions {
		moving[dec.Plan.Actions[i].VM] = true
	}
	live := map[schemas.VMID]bool{}
	for h := range s.V.Hosts {
		p, id := &s.Pressure[h], s.V.Hosts[h].ID
		if !s.V.Hosts[h].Fresh {
			continue // nothing is known of it now
		}
		old, known := d.st.Hosts[id]
		if d.changed(old, known, p.Score, p.Onset, p.Resource.String(), step) {
			d.st.Hosts[id] = told{p.Score, p.Onset, p.Resource.String(), step}
			put(streams.SubjectPressureHost(id), "host", s.HostPressure(int32(h)))
		}
		pressed := s.Pressed(int32(h))
		if !pressed && !d.anyTold(s, int32(h)) {
			continue
		}
		for _, m := range s.VMPressures(int32(h), moving) {
			old, known := d.st.VMs[m.VM]
			if !pressed && !known {
				continue
			}
			live[m.VM] = pressed
			if d.changed(old, known, float64(m.Score), m.Onset, string(id)+m.Advice, step) || !pressed {
				d.st.VMs[m.VM] = told{float64(m.Score), m.Onset, string(id) + m.Advice, step}
				put(streams.SubjectPressureVM(m.VM, schemas.CauseHostContention), "vm", m)
			}
		}
	}
	for v := range d.st.VMs {
		if !live[v] {
			delete(d.st.VMs, v)
		}
	}
	outs = append(outs, d.tellBenefits(s, dec)...)
	return append(outs, d.tellShortfalls(s)...)
}

// anyTold reports whether a VM of the host was last told of pressure.
func (d *Decider) anyTold(s *plan.State, h int32) bool {
	for _, i := range s.V.Hosts[h].VMs {
		if _, ok := d.st.VMs[s.V.VMs[i].ID]; ok {
			return true
		}
	}
	return false
}

func (d *Decider) tellBenefits(s *plan.State, dec *plan.Decision) []streams.Out {
	var outs []streams.Out
	now := map[schemas.VMID]bool{}
	for i := range dec.Benefits {
		b := &dec.Benefits[i]
		now[b.VM] = true
		sig := string(b.Destination) + " " + string(b.Reason.Code)
		old, known := d.st.Gains[b.VM]
		if d.changed(old, known, float64(b.Gain.Ratio), 0, sig, s.V.Step) {
			d.st.Gains[b.VM] = told{float64(b.Gain.Ratio), 0, sig, s.V.Step}
			outs = append(outs, streams.Out{Subject: streams.SubjectBenefit(b.VM), ID: "benefit." + schemas.HashJSON([]any{s.V.Now, b.VM}), Msg: b})
		}
	}
	var ended []schemas.VMID
	for v := range d.st.Gains {
		if !now[v] {
			ended = append(ended, v)
			delete(d.st.Gains, v)
		}
	}
	slices.SortFunc(ended, func(a, b schemas.VMID) int { return strings.Compare(string(a[:]), string(b[:])) })
	for _, v := range ended {
		i := s.V.VMIndex(v)
		if i < 0 {
			continue
		}
		outs = append(outs, streams.Out{Subject: streams.SubjectBenefit(v), ID: "benefit." + schemas.HashJSON([]any{s.V.Now, v}),
			Msg: &schemas.Benefit{VM: v, Host: s.V.Hosts[s.V.VMs[i].Host].ID, Time: s.V.Now, WhyNot: []schemas.Decline{},
				Reason: schemas.Reason{Code: schemas.ReasonNoPressure, Detail: "its host is no longer pressed"}}})
	}
	return outs
}

func (d *Decider) tellShortfalls(s *plan.State) []streams.Out {
	var outs []streams.Out
	now := map[schemas.SiteID]bool{}
	for _, f := range s.Shortfalls() {
		now[f.Site] = true
		old, known := d.st.Sites[f.Site]
		rel := 0.0
		if known {
			rel = math.Abs(f.Amount-old.P) / max(1, old.P)
		}
		if !known || rel >= .1 || s.V.Step-old.Step >= tellSteps || f.Resource != old.Sig {
			d.st.Sites[f.Site] = told{f.Amount, f.Onset, f.Resource, s.V.Step}
			outs = append(outs, streams.Out{Subject: streams.SubjectShortfall(f.Site), ID: "shortfall." + schemas.HashJSON(f), Msg: f})
		}
	}
	for _, site := range s.V.Sites {
		if old, ok := d.st.Sites[site]; ok && !now[site] {
			delete(d.st.Sites, site)
			f := &schemas.Shortfall{Site: site, Time: s.V.Now, Resource: old.Sig}
			outs = append(outs, streams.Out{Subject: streams.SubjectShortfall(site), ID: "shortfall." + schemas.HashJSON(f), Msg: f})
		}
	}
	return outs
}

// count keeps the figures of a decision.
func (d *Decider) count(s *plan.State, dec *plan.Decision) {
	st := &d.stats
	st.Decisions++
	for i := range dec.Plan.Declined {
		st.Declined[dec.Plan.Declined[i].Reason.Code]++
	}
	st.Before, st.After = dec.Plan.Before, dec.Plan.After
	st.Hosts, st.VMs, st.Unknown, st.Evaluations = len(s.V.Hosts), len(s.V.VMs), len(s.V.Unknown), dec.Plan.Used
	used := policy.NewTally(s.P, s.V.Attempts, s.V.Now, s.V.Base, s.V.Resumed)
	st.Budgets = map[string][2]int{"cluster": {used.Cluster, s.P.MaxPerCluster}, "hour": {used.Hour, s.P.MaxPerHour}}
	st.Pressed, st.UnderWay, st.Duplicates = 0, 0, 0
	for h := range s.V.Hosts {
		if s.Pressed(int32(h)) {
			st.Pressed++
		}
	}
	for i := range s.V.VMs {
		if s.V.VMs[i].Move != nil {
			st.UnderWay++
		}
		if s.V.VMs[i].Duplicate && s.V.VMs[i].Certain {
			st.Duplicates++
		}
	}
	for h := range d.st.Hosts {
		if s.V.HostIndex(h) < 0 {
			delete(d.st.Hosts, h)
		}
	}
}
