package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	maxStreams = 200                    // open pages at a time
	pace       = 400 * time.Millisecond // between two looks
	breath     = 10 * time.Second       // a sign of life to the browser when nothing changes
)

// follow sends what changes on a page, region by region, until the browser leaves.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, v visitor, p pageFunc) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		http.Error(w, "too many open pages", http.StatusServiceUnavailable)
		return
	}
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	sent := map[string]uint64{}
	last, quiet := time.Time{}, time.Time{}
	for {
		version, changed := s.cfg.Model.Changed()
		if v.session != nil && s.sessions.of(r, s.cfg.Now()) != v.session {
			return // signed out, or the session has ended
		}
		q := s.request(r, v)
		sh := p(q)
		parts, err := s.draw(s.frame(q, sh), sh)
		if err != nil {
			s.log.Error("page not drawn", "path", r.URL.Path, "error", err)
			return
		}
		news := parts[:0:0]
		here := make(map[string]bool, len(parts))
		for _, x := range parts {
			here[x.ID] = true
			if h := xxhash.Sum64String(string(x.HTML)); sent[x.ID] != h {
				sent[x.ID] = h
				news = append(news, x)
			}
		}
		var gone []string
		for id := range sent {
			if !here[id] {
				gone = append(gone, id)
				delete(sent, id)
			}
		}
		last = time.Now()
		if len(news) > 0 || len(gone) > 0 {
			b, err := json.Marshal(map[string]any{"version": version, "parts": news, "gone": gone})
			if err != nil {
				s.log.Error("page not drawn", "path", r.URL.Path, "error", err)
				return
			}
			fmt.Fprintf(w, "data: %s\n\n", b)
			quiet = last
		} else if last.Sub(quiet) > breath {
			fmt.Fprint(w, "event: breath\ndata: \n\n")
			quiet = last
		}
		if out.Flush() != nil {
			return
		}
		select {
		case <-time.After(pace):
		case <-r.Context().Done():
			return
		case <-s.stopped:
			return
		}
		select { // things also grow old by themselves
		case <-changed:
		case <-time.After(time.Second):
		case <-r.Context().Done():
			return
		case <-s.stopped:
			return
		}
	}
}
