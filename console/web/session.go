package web

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	cookieName  = "foreshift"
	sessionLife = 12 * time.Hour
	maxSessions = 1000
	maxNotes    = 5
)

// session is one signed-in browser.
type session struct {
	Person
	csrf  string // must come with every act
	ends  time.Time
	mu    sync.Mutex
	notes []note // to be shown on the next page
}

// note is a word to the person after an act.
type note struct {
	Text string `json:"text"`
	Bad  bool   `json:"bad"`
}

func (s *session) say(n note) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, n)
	s.notes = s.notes[max(0, len(s.notes)-maxNotes):]
}

func (s *session) hear() []note {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.notes
	s.notes = nil
	return out
}

// sessions are the browsers that are signed in.
type sessions struct {
	mu sync.Mutex
	by map[string]*session
}

func secret() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

func (s *sessions) begin(p Person, now time.Time) (id string, one *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[string]*session{}
	}
	oldest := ""
	for k, x := range s.by {
		if now.After(x.ends) {
			delete(s.by, k)
		} else if oldest == "" || x.ends.Before(s.by[oldest].ends) {
			oldest = k
		}
	}
	if len(s.by) >= maxSessions {
		delete(s.by, oldest)
	}
	id, one = secret(), &session{Person: p, csrf: secret(), ends: now.Add(sessionLife)}
	s.by[id] = one
	return id, one
}

func (s *sessions) of(r *http.Request, now time.Time) *session {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.by[c.Value]; x != nil && now.Before(x.ends) {
		return x
	}
	return nil
}

func (s *sessions) end(r *http.Request) {
	if c, err := r.Cookie(cookieName); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.by, c.Value)
	}
}

// visitor is who makes a request.
type visitor struct {
	Person
	session *session // nil without one
	bearer  bool     // named himself by a token in the request itself
}

// Can reports whether the visitor may do what the role may.
func (v *visitor) Can(r Role) bool {
	switch r {
	case Viewer:
		return v.Role == Viewer || v.Role == Operator
	case Operator:
		return v.Role == Operator
	}
	return true
}

// visitor finds out who asks: by a bearer token, by a session, or nobody; where
// everybody may look on, nobody is a viewer.
func (s *Server) visitor(r *http.Request) visitor {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		if p, ok := s.cfg.Tokens.Person(strings.TrimSpace(token)); ok {
			return visitor{Person: p, bearer: true}
		}
		return visitor{}
	}
	if x := s.sessions.of(r, s.cfg.Now()); x != nil {
		return visitor{Person: x.Person, session: x}
	}
	if s.cfg.Open {
		return visitor{Person: Person{Role: Viewer}}
	}
	return visitor{}
}

// unforged says whether a request that changes something was made on purpose: it
// carries a token of its own, or the session's secret that no other site knows.
func (v *visitor) unforged(r *http.Request) bool {
	if v.bearer {
		return true
	}
	if v.session == nil {
		return false
	}
	given := r.Header.Get("X-Foreshift-CSRF")
	if given == "" {
		given = r.PostFormValue("csrf")
	}
	return subtle.ConstantTimeCompare([]byte(given), []byte(v.session.csrf)) == 1
}

// ours says whether the request names this server. A page elsewhere whose name was
// made to lead here (DNS rebinding) gives its own name.
func (s *Server) ours(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() || host == "localhost" {
		return true
	}
	return slices.Contains(s.cfg.Hosts, host)
}

func (s *Server) signIn(w http.ResponseWriter, r *http.Request) {
	p, ok := s.cfg.Tokens.Person(strings.TrimSpace(r.PostFormValue("token")))
	if !ok {
		s.log.Warn("a wrong token was given", "from", r.RemoteAddr)
		s.login(w, r, "This token is not known. It stands in the console's token file.", http.StatusUnauthorized)
		return
	}
	id, _ := s.sessions.begin(p, s.cfg.Now())
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.cfg.Secure, MaxAge: int(sessionLife.Seconds())})
	s.log.Info("signed in", "name", p.Name, "role", p.Role)
	http.Redirect(w, r, back(r.PostFormValue("back")), http.StatusSeeOther)
}

func (s *Server) signOut(w http.ResponseWriter, r *http.Request) {
	if v := s.visitor(r); v.session != nil && !v.unforged(r) {
		http.Error(w, "this form is old: load the page again", http.StatusForbidden)
		return
	}
	s.sessions.end(r)
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.cfg.Secure, MaxAge: -1})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// back is a place on this site to return to.
func back(to string) string {
	u, err := url.Parse(to)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n") {
		return "/"
	}
	return u.RequestURI()
}
