package web

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/console/live"
	"github.com/foreshift/foreshift/internal/explain"
	"github.com/foreshift/foreshift/schemas"
)

// notFound is the page of what is not there.
func notFound(nav, what, do string) *sheet {
	return &sheet{title: "Not found", nav: nav, status: http.StatusNotFound, regions: []region{{"none", "not-found", map[string]string{"What": what, "Do": do}}}}
}

// story explains a VM in the words of the command line.
func (s *Server) story(id schemas.VMID, now schemas.Time) (explain.Story, bool) {
	v := s.cfg.Model.View(now, &id)
	if len(v.VMs) == 0 {
		return explain.Story{}, false
	}
	return v.Explain(&v.VMs[0]), true
}

func (s *Server) vm(r *request) *sheet {
	id, err := schemas.ParseVMID(r.PathValue("vm"))
	if err != nil {
		return notFound("pressure", err.Error(), "Look for the VM by its name.")
	}
	v, ok := s.cfg.Model.VM(id)
	if !ok {
		return notFound("pressure", "No host lists a VM "+id.String()+".", "It may have been removed, or its host has not reported yet.")
	}
	moves := s.cfg.Model.Moves(20, func(m *console.Move) bool { return m.Command.VM == id })
	story, _ := s.story(id, r.now)
	plan, _ := s.cfg.Model.Plans()
	d := map[string]any{"VM": v, "Moves": moves, "Story": story, "Plan": plan, "Action": actionOf(plan, id), "Entries": s.entriesOf(v, r.now), "Running": runningOf(moves)}
	d["Charts"] = s.vmCharts(v, moves, r.now)
	sh := &sheet{title: v.Name, nav: "pressure"}
	for _, name := range []string{"vm-head", "vm-story", "vm-charts", "vm-else", "vm-moves"} {
		sh.regions = append(sh.regions, region{name, name, d})
	}
	return sh
}

func actionOf(p *schemas.Plan, id schemas.VMID) *schemas.Action {
	if p == nil {
		return nil
	}
	for i := range p.Actions {
		if p.Actions[i].VM == id {
			return &p.Actions[i]
		}
	}
	return nil
}

func runningOf(moves []console.Move) *console.Move {
	for i := range moves {
		if moves[i].Outcome == nil {
			return &moves[i]
		}
	}
	return nil
}

func (s *Server) host(r *request) *sheet {
	id := schemas.HostID(r.PathValue("host"))
	h, ok := s.cfg.Model.Host(id, r.now)
	if !ok {
		return notFound("fleet", "No host "+string(id)+" has reported.", "See the map for those that have.")
	}
	vms, total := s.cfg.Model.VMs(live.Query{Host: id, N: 60, Steps: 36})
	moves := s.cfg.Model.Moves(12, func(m *console.Move) bool { return m.Command.Source == id || m.Command.Destination == id })
	d := map[string]any{"Host": h, "VMs": vms, "Total": total, "Moves": moves, "Tile": tileOf(h, 0)}
	d["Charts"] = s.hostCharts(h, moves, r.now)
	sh := &sheet{title: string(id), nav: "fleet"}
	for _, name := range []string{"host-head", "host-charts", "host-vms", "host-moves"} {
		sh.regions = append(sh.regions, region{name, name, d})
	}
	return sh
}

// find leads to the VM or host of that name, or to the list of those that have it in
// theirs.
func (s *Server) find(w http.ResponseWriter, r *http.Request) {
	v := s.visitor(r)
	if !v.Can(Viewer) {
		s.login(w, r, "", http.StatusUnauthorized)
		return
	}
	q := r.FormValue("q")
	vms, hosts := s.cfg.Model.Find(q)
	to := "/pressure?q=" + url.QueryEscape(q)
	switch {
	case len(hosts) == 1:
		to = "/hosts/" + url.PathEscape(string(hosts[0]))
	case len(vms) == 1:
		to = "/vms/" + vms[0].String()
	case q == "":
		to = "/pressure?all=1"
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// planRow is one action of the plan with what people and the bus have said of it.
type planRow struct {
	schemas.Action
	Said *schemas.Act  // the last word of an operator on it
	Move *console.Move // once it was commanded
}

func (s *Server) plans(r *request) *sheet {
	plan, earlier := s.cfg.Model.Plans()
	said := s.cfg.Model.Said()
	var rows []planRow
	declined := []group{}
	if plan != nil {
		moves := s.cfg.Model.Moves(200, nil)
		for _, a := range plan.Actions {
			row := planRow{Action: a, Said: wordOn(said, plan.ID, a.ID)}
			if i := slices.IndexFunc(moves, func(m console.Move) bool { return m.Command.ID == a.ID }); i >= 0 {
				row.Move = &moves[i]
			}
			rows = append(rows, row)
		}
		declined = s.groups(plan)
	}
	d := map[string]any{"Plan": plan, "Rows": rows, "Earlier": earlier, "Declined": declined, "Said": said[:min(len(said), 15)], "Fleet": explain.OfFleet(s.cfg.Model.FleetFacts(r.now))}
	sh := &sheet{title: "Plans", nav: "plans", wide: true}
	for _, name := range []string{"plan-head", "plan-rows", "plan-declined", "plan-said", "plan-earlier"} {
		sh.regions = append(sh.regions, region{name, name, d})
	}
	return sh
}

// wordOn is what an operator last said of an action.
func wordOn(said []schemas.Act, plan schemas.PlanID, id schemas.CommandID) *schemas.Act {
	for i := range said {
		a := &said[i]
		if (a.Act == schemas.ActApprove || a.Act == schemas.ActSkip) && (a.Command == id || a.Command == "" && a.Plan == plan) {
			return a
		}
	}
	return nil
}

// group is what was declined for one reason.
type group struct {
	Code     schemas.ReasonCode
	N        int
	Examples []example
}

type example struct {
	VM     schemas.VMID
	Name   string
	Detail string
}

const maxExamples = 5

// groups puts the declines of a plan together by reason, the most frequent first.
func (s *Server) groups(p *schemas.Plan) []group {
	var out []group
	for i := range p.Declined {
		d := &p.Declined[i]
		at := slices.IndexFunc(out, func(g group) bool { return g.Code == d.Reason.Code })
		if at < 0 {
			at = len(out)
			out = append(out, group{Code: d.Reason.Code})
		}
		g := &out[at]
		if g.N++; len(g.Examples) < maxExamples {
			name := "the fleet"
			if !d.VM.IsZero() {
				name = s.cfg.Model.Name(d.VM)
			}
			g.Examples = append(g.Examples, example{d.VM, name, d.Reason.Detail})
		}
	}
	slices.SortStableFunc(out, func(a, b group) int { return b.N - a.N })
	return out
}
