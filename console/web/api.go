package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/internal/explain"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// apiRoutes adds what stands under /api/: what the pages show, as JSON, and the forms.
func (s *Server) apiRoutes(mux *http.ServeMux) {
	m := s.cfg.Model
	for pattern, get := range map[string]func(*request) (any, error){
		"/api/status":       func(r *request) (any, error) { return statusOf(r), nil },
		"/api/view":         func(r *request) (any, error) { return m.View(r.now, nil), nil },
		"/api/explain":      func(r *request) (any, error) { return explain.OfFleet(m.FleetFacts(r.now)), nil },
		"/api/explain/{vm}": s.apiExplain,
		"/api/vms/{vm}":     s.apiVM,
		"/api/hosts/{host}": s.apiHost,
		"/api/moves":        func(r *request) (any, error) { return map[string]any{"moves": m.Moves(1000, nil)}, nil },
		"/api/plans":        func(r *request) (any, error) { p, e := m.Plans(); return map[string]any{"plan": p, "earlier": e}, nil },
		"/api/learning":     func(r *request) (any, error) { return m.Learning(), nil },
		"/api/calendar":     func(r *request) (any, error) { return map[string]any{"entries": m.Calendar()}, nil },
	} {
		mux.Handle("GET "+pattern, s.guard(s.get(get)))
	}
	mux.Handle("POST /api/acts", s.guard(s.postAct))
	mux.Handle("POST /api/backtest", s.guard(s.postBacktest))
	mux.Handle("POST /api/backtest/stop", s.guard(s.postStop))
	mux.Handle("POST /api/calendar", s.guard(s.postEntry))
	mux.Handle("POST /api/calendar/import", s.guard(s.postImport))
	mux.Handle("POST /api/calendar/{id}/remove", s.guard(s.postRemove))
}

// missing is an error of who asks: answered with 404.
type missing struct{ error }

func (s *Server) get(f func(*request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := s.visitor(r)
		if !v.Can(Viewer) {
			s.fail(w, http.StatusUnauthorized, errors.New("name yourself: send `Authorization: Bearer TOKEN`, or sign in at /login"))
			return
		}
		x, err := f(s.request(r, v))
		switch {
		case errors.As(err, new(missing)):
			s.fail(w, http.StatusNotFound, err)
		case err != nil:
			s.fail(w, http.StatusInternalServerError, err)
		default:
			writeJSON(w, s.log, http.StatusOK, x)
		}
	}
}

func (s *Server) fail(w http.ResponseWriter, status int, err error) {
	writeJSON(w, s.log, status, map[string]string{"error": err.Error()})
}

func statusOf(r *request) map[string]any {
	x := r.summary
	return map[string]any{"time": x.Time, "hosts": x.Hosts, "vms": x.VMs, "sites": x.Sites, "mode": x.Policy.Mode, "paused": x.Policy.Paused, "moves": x.Counts,
		"shortfalls": len(x.Shortfalls), "silent_hosts": x.Silent, "running_twice": len(x.Twice), "ready": x.Ready, "feeds": x.Feeds}
}

// vmNamed finds a VM by id or name.
func (s *Server) vmNamed(name string) (schemas.VMID, error) {
	if id, err := schemas.ParseVMID(name); err == nil {
		return id, nil
	}
	switch vms, _ := s.cfg.Model.Find(name); len(vms) {
	case 0:
		return schemas.VMID{}, missing{fmt.Errorf("no VM has the name or id %.80q; /pressure?all=1 lists them", name)}
	case 1:
		return vms[0], nil
	default:
		return schemas.VMID{}, missing{fmt.Errorf("%d VMs are named %.80q: give the id", len(vms), name)}
	}
}

func (s *Server) apiExplain(r *request) (any, error) {
	id, err := s.vmNamed(r.PathValue("vm"))
	if err != nil {
		return nil, err
	}
	story, ok := s.story(id, r.now)
	if !ok {
		return nil, missing{fmt.Errorf("no host lists a VM %s", id)}
	}
	return map[string]any{"headline": story.Headline, "code": story.Code, "parts": story.Parts, "do": story.Do, "text": story.String()}, nil
}

func (s *Server) apiVM(r *request) (any, error) {
	id, err := s.vmNamed(r.PathValue("vm"))
	if err != nil {
		return nil, err
	}
	v, ok := s.cfg.Model.VM(id)
	if !ok {
		return nil, missing{fmt.Errorf("no host lists a VM %s", id)}
	}
	return map[string]any{"vm": v.VM, "labels": v.Labels, "moves": s.cfg.Model.Moves(100, func(m *console.Move) bool { return m.Command.VM == id })}, nil
}

func (s *Server) apiHost(r *request) (any, error) {
	id := schemas.HostID(r.PathValue("host"))
	h, ok := s.cfg.Model.Host(id, r.now)
	if !ok {
		return nil, missing{fmt.Errorf("no host %.80q has reported", id)}
	}
	room := []float64{}
	for _, x := range h.Headroom() {
		room = append(room, x.Free)
	}
	return map[string]any{"host": h.Host, "state": h.State, "headroom_p90_ratio": room, "grid_start_step": h.Sum.Start, "vms_forecast": h.Sum.VMs, "vms_running": h.Running}, nil
}

// acts that a person says at the page; the others are the placer's.
var sayable = map[schemas.ActKind]bool{schemas.ActPause: true, schemas.ActResume: true, schemas.ActApprove: true, schemas.ActSkip: true, schemas.ActAbort: true,
	schemas.ActCordon: true, schemas.ActUncordon: true, schemas.ActDrain: true, schemas.ActMode: true, schemas.ActRollback: true, schemas.ActResolve: true}

// allowed says whether the visitor may change something, or answers him.
func (s *Server) allowed(w http.ResponseWriter, r *http.Request) (visitor, bool) {
	v := s.visitor(r)
	switch {
	case v.Role == Nobody || v.session == nil && !v.bearer:
		s.answer(w, r, v, http.StatusUnauthorized, note{"Sign in as an operator to act.", true})
	case !v.Can(Operator):
		s.answer(w, r, v, http.StatusForbidden, note{"A viewer looks on; only an operator acts.", true})
	case !v.unforged(r):
		s.answer(w, r, v, http.StatusForbidden, note{"This form is old: load the page again.", true})
	default:
		return v, true
	}
	return v, false
}

// answer tells how it went: in JSON to programs and to the page's script, else on the
// page to which it leads back.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, v visitor, status int, n note, more ...any) {
	if wantsJSON(r) || v.session == nil {
		out := map[string]any{"said": n.Text}
		if n.Bad {
			out = map[string]any{"error": n.Text}
		}
		for i := 0; i+1 < len(more); i += 2 {
			out[more[i].(string)] = more[i+1]
		}
		writeJSON(w, s.log, status, out)
		return
	}
	v.session.say(n)
	http.Redirect(w, r, back(r.PostFormValue("back")), http.StatusSeeOther)
}

func wantsJSON(r *http.Request) bool {
	return isJSON(r) || strings.Contains(r.Header.Get("Accept"), "application/json")
}

func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// postAct publishes an act: a form's, or one of JSON as the schema has it.
func (s *Server) postAct(w http.ResponseWriter, r *http.Request) {
	v, ok := s.allowed(w, r)
	if !ok {
		return
	}
	a, err := readAct(r)
	if err == nil {
		err = s.check(a)
	}
	if err != nil {
		s.answer(w, r, v, http.StatusBadRequest, note{err.Error(), true})
		return
	}
	seq, err := console.Say(r.Context(), s.cfg.Bus, v.Name, a)
	switch {
	case errors.Is(err, streams.ErrNoSigner):
		s.answer(w, r, v, http.StatusInternalServerError, note{"this console has no signing key: " + err.Error(), true})
	case err != nil:
		s.log.Warn("act not recorded", "act", a.Act, "by", v.Name, "error", err)
		s.answer(w, r, v, http.StatusBadGateway, note{fmt.Sprintf("%s was not recorded: %v", a.Act, err), true})
	default:
		s.log.Info("act", "act", a.Act, "by", v.Name, "sequence", seq)
		s.answer(w, r, v, http.StatusOK, note{fmt.Sprintf("%s: recorded as act %d", a.Act, seq), false}, "act", a.Act, "id", a.ID, "sequence", seq)
	}
}

const maxJSONAct = 64 << 10

func readAct(r *http.Request) (*schemas.Act, error) {
	a := &schemas.Act{}
	if isJSON(r) {
		d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxJSONAct))
		d.DisallowUnknownFields()
		if err := d.Decode(a); err != nil {
			return nil, fmt.Errorf("act: %w", err)
		}
		return a, nil
	}
	get := r.PostFormValue
	a.Act, a.Why, a.Host, a.Plan, a.Command, a.Mode, a.RunsAt = schemas.ActKind(get("act")), get("why"), schemas.HostID(get("host")), schemas.PlanID(get("plan")), schemas.CommandID(get("command")), schemas.Mode(get("mode")), schemas.HostID(get("runs_at"))
	if text := get("vm"); text != "" {
		var err error
		if a.VM, err = schemas.ParseVMID(text); err != nil {
			return nil, err
		}
	}
	if text := get("version"); text != "" {
		if _, err := fmt.Sscanf(text, "%d", &a.Version); err != nil {
			return nil, fmt.Errorf("version %.20q: want a number from 1", text)
		}
	}
	return a, nil
}

// check refuses what cannot be meant; the placer and the actuators check again.
func (s *Server) check(a *schemas.Act) error {
	if !sayable[a.Act] || a.Policy != nil {
		return fmt.Errorf("act %.20q cannot be said here", a.Act)
	}
	running := func(m *console.Move) bool {
		return m.Command.ID == a.Command && (m.Outcome == nil || m.Outcome.Result == schemas.ResultUnknown)
	}
	switch a.Act {
	case schemas.ActApprove, schemas.ActSkip:
		if a.Plan == "" {
			return fmt.Errorf("%s: which plan?", a.Act)
		}
	case schemas.ActAbort, schemas.ActResolve:
		if len(s.cfg.Model.Moves(1, running)) == 0 {
			return fmt.Errorf("%s: no such move is under way", a.Act)
		}
		if a.Act == schemas.ActResolve && a.RunsAt == "" {
			return errors.New("resolve: on which host have you seen the VM running?")
		}
	case schemas.ActCordon, schemas.ActUncordon, schemas.ActDrain:
		if _, ok := s.cfg.Model.Host(a.Host, schemas.At(s.cfg.Now())); !ok {
			return fmt.Errorf("%s: no host %.64q has reported", a.Act, a.Host)
		}
	case schemas.ActMode:
		switch a.Mode {
		case schemas.ModeObserve, schemas.ModeRecommend, schemas.ModeApprove, schemas.ModeAuto:
		default:
			return fmt.Errorf("mode %.20q: want observe, recommend, approve or auto", a.Mode)
		}
	case schemas.ActRollback:
		if a.Version == 0 {
			return errors.New("rollback: to which version?")
		}
	}
	return nil
}
