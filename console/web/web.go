// Package web is the console: pages over the live picture of the fleet, their JSON,
// and the forms by which operators act.
//
// What comes in: HTTP requests, and a [live.Model] that others keep up to date. What
// goes out: pages that are whole without a script, an event stream by which an open
// page follows within a second, the same facts as JSON under /api/, and acts, signed
// and published by [console.Say] as the command line's are.
//
// What is promised:
//
//   - A page costs a look into memory, never a read of the bus, but for what is asked
//     for by name and older than what is kept.
//   - Only an operator acts, named by a token; what acts came from a form of ours or
//     carries the token itself. Nothing is loaded from elsewhere, no script or style
//     stands in a page, foreign pages can neither frame nor read it.
//   - Empty, loading, stale and broken are told apart and said in words.
//   - Colour never speaks alone.
package web

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/console/live"
	"github.com/foreshift/foreshift/internal/chart"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

//go:embed assets
var assets embed.FS

//go:embed pages
var pageFiles embed.FS

// Config is what a console stands on.
type Config struct {
	Model  *live.Model
	Bus    *streams.Bus // acts and the calendar; old plans
	Tokens *Tokens
	Open   bool     // whoever reaches the page may look on
	Hosts  []string // names by which the page is reached, besides those of loopback
	Secure bool     // reached over TLS only
	// Compare makes the plan that would have been made without a forecast; nil where
	// that cannot be had.
	Compare func(context.Context, *schemas.Plan) (*schemas.Plan, error)
	// Backtest runs one; nil where none can be run. TraceDir holds the files that it may
	// be given; empty: none.
	Backtest Backtest
	TraceDir string
	Version  string
	Log      *slog.Logger
	Now      func() time.Time // nil: the clock
	Stop     <-chan struct{}  // closed when it is to stop: open pages are let go
}

// Server serves the console.
type Server struct {
	cfg      Config
	log      *slog.Logger
	pages    *template.Template
	sessions sessions
	compared comparisons
	trials   trials
	streams  chan struct{} // a place each for the event streams open at a time
	stopped  <-chan struct{}
	stamp    string // of the assets, so that a browser takes new ones
}

// New makes one.
func New(c Config) (*Server, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Server{cfg: c, log: c.Log, streams: make(chan struct{}, maxStreams), stopped: c.Stop}
	t, err := template.New("").Funcs(s.funcs()).ParseFS(pageFiles, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("console: pages: %w", err)
	}
	s.pages = t
	hash := xxhash.New()
	for _, name := range []string{"app.css", "app.js"} {
		b, err := assets.ReadFile("assets/" + name)
		if err != nil {
			return nil, fmt.Errorf("console: %w", err)
		}
		hash.Write(b)
	}
	s.stamp = fmt.Sprintf("%x", hash.Sum64())[:8]
	return s, nil
}

// Routes adds the console to mux.
func (s *Server) Routes(mux *http.ServeMux) {
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the folder is embedded
	}
	static := http.StripPrefix("/assets/", http.FileServerFS(files))
	mux.Handle("GET /assets/chart.css", s.guard(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		if _, err := io.WriteString(w, chart.CSS); err != nil {
			s.log.Debug("style not sent", "error", err)
		}
	}))
	mux.Handle("GET /assets/", s.guard(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == s.stamp {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		static.ServeHTTP(w, r)
	}))
	for pattern, p := range map[string]pageFunc{
		"/{$}": s.fleet, "/pressure": s.pressure, "/vms/{vm}": s.vm, "/hosts/{host}": s.host, "/plans": s.plans, "/plans/{plan}": s.planOf,
		"/moves": s.moves, "/learning": s.learning, "/calendar": s.calendarPage, "/backtest": s.backtest, "/about": s.about,
	} {
		mux.Handle("GET "+pattern, s.guard(s.page(p)))
	}
	mux.Handle("GET /backtest/report", s.guard(s.report))
	mux.Handle("GET /find", s.guard(s.find))
	mux.Handle("GET /login", s.guard(func(w http.ResponseWriter, r *http.Request) { s.login(w, r, "", http.StatusOK) }))
	mux.Handle("POST /login", s.guard(s.signIn))
	mux.Handle("POST /logout", s.guard(s.signOut))
	s.apiRoutes(mux)
}

// guard sets the headers of every answer and turns away who came under a name that
// is not ours, or from another site.
func (s *Server) guard(h http.HandlerFunc) http.Handler {
	cross := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hd := w.Header()
		hd.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		hd.Set("X-Content-Type-Options", "nosniff")
		hd.Set("Referrer-Policy", "same-origin")
		hd.Set("X-Frame-Options", "DENY")
		hd.Set("Cross-Origin-Opener-Policy", "same-origin")
		hd.Set("Cross-Origin-Resource-Policy", "same-origin")
		hd.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
		hd.Set("Cache-Control", "no-store")
		if !s.ours(r) {
			http.Error(w, "this console does not go by the name "+fmt.Sprintf("%.80q", r.Host)+"; name it with --host-name", http.StatusMisdirectedRequest)
			return
		}
		if err := cross.Check(r); err != nil {
			http.Error(w, "refused: the request comes from another site", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		h(w, r)
	})
}

// maxBody bounds what is sent to us: an imported calendar is the largest.
const maxBody = 18 << 20

// request is one look at a page.
type request struct {
	*http.Request
	visitor
	now     schemas.Time
	summary live.Summary
}

// region is a part of a page that is drawn, and sent anew when it has changed, by
// itself.
type region struct {
	id   string // in the page
	name string // of the template
	data any
}

// sheet is a page before it is drawn.
type sheet struct {
	title   string
	nav     string // which entry of the navigation it belongs to
	status  int    // 0: OK
	regions []region
	wide    bool
}

type pageFunc func(*request) *sheet

// context is what templates see.
type frame struct {
	*request
	Title, Nav string
	Here       string // path and query of the page
	Stamp      string
	Parts      []part
	Notes      []note
	CSRF       string
	Open       bool
	Version    string
	Data       any
	Bus        string // why the bus cannot be reached, empty when it can
	Base       time.Duration
}

// part is a drawn region.
type part struct {
	ID   string        `json:"id"`
	HTML template.HTML `json:"html"`
}

// Now, Summary and Who are for templates.
func (r *request) Now() schemas.Time     { return r.now }
func (r *request) Summary() live.Summary { return r.summary }
func (r *request) Who() Person           { return r.Person }
func (r *request) Operator() bool        { return r.Can(Operator) }

func (s *Server) request(r *http.Request, v visitor) *request {
	now := schemas.At(s.cfg.Now())
	return &request{Request: r, visitor: v, now: now, summary: s.cfg.Model.Summary(now)}
}

func (s *Server) frame(r *request, sh *sheet) *frame {
	f := &frame{request: r, Title: sh.title, Nav: sh.nav, Here: r.URL.RequestURI(), Stamp: s.stamp, Open: s.cfg.Open, Version: s.cfg.Version, Base: s.cfg.Model.Base()}
	if r.session != nil {
		f.CSRF = r.session.csrf
	}
	if s.cfg.Bus != nil {
		if err := s.cfg.Bus.Ready(); err != nil {
			f.Bus = err.Error()
		}
	}
	return f
}

// draw draws the regions of a page: those every page has, then its own.
func (s *Server) draw(f *frame, sh *sheet) ([]part, error) {
	all := append([]region{{"state", "state", nil}, {"alerts", "alerts", nil}}, sh.regions...)
	out := make([]part, 0, len(all))
	var b bytes.Buffer
	for _, g := range all {
		b.Reset()
		one := *f
		one.Data = g.data
		if err := s.pages.ExecuteTemplate(&b, g.name, &one); err != nil {
			return nil, fmt.Errorf("region %s: %w", g.id, err)
		}
		out = append(out, part{g.id, template.HTML(b.String())})
	}
	return out, nil
}

// page serves a page whole, or, to who asks for an event stream, what changes on it.
func (s *Server) page(p pageFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := s.visitor(r)
		if !v.Can(Viewer) {
			if r.Header.Get("Accept") == "text/event-stream" {
				http.Error(w, "sign in first", http.StatusUnauthorized)
				return
			}
			s.login(w, r, "", http.StatusUnauthorized)
			return
		}
		if r.Header.Get("Accept") == "text/event-stream" {
			s.follow(w, r, v, p)
			return
		}
		q := s.request(r, v)
		sh := p(q)
		f := s.frame(q, sh)
		parts, err := s.draw(f, sh)
		if err != nil {
			s.log.Error("page not drawn", "path", r.URL.Path, "error", err)
			http.Error(w, "this page could not be drawn; the log says why", http.StatusInternalServerError)
			return
		}
		f.Parts, f.Notes = parts, v.session.hear()
		s.write(w, "layout", f, sh.status)
	}
}

func (s *Server) write(w http.ResponseWriter, name string, data any, status int) {
	var b bytes.Buffer
	if err := s.pages.ExecuteTemplate(&b, name, data); err != nil {
		s.log.Error("page not drawn", "template", name, "error", err)
		http.Error(w, "this page could not be drawn; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if status != 0 {
		w.WriteHeader(status)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		s.log.Debug("page not sent", "error", err)
	}
}

// login shows the form by which one signs in.
func (s *Server) login(w http.ResponseWriter, r *http.Request, fault string, status int) {
	to := r.FormValue("back")
	if to == "" && r.Method == http.MethodGet && r.URL.Path != "/login" {
		to = r.URL.RequestURI()
	}
	s.write(w, "login", map[string]any{"Back": back(to), "Fault": fault, "Stamp": s.stamp, "File": s.cfg.Tokens.Path(), "Open": s.cfg.Open}, status)
}

func writeJSON(w http.ResponseWriter, log *slog.Logger, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		log.Error("answer not written", "error", err)
		http.Error(w, "internal error; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(append(b, '\n')); err != nil {
		log.Debug("answer not sent", "error", err)
	}
}
