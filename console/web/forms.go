package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/foreshift/foreshift/console/agenda"
	"github.com/foreshift/foreshift/schemas"
)

// formEntry makes an entry of what a form or a file's form says of all its events.
func formEntry(get func(string) string) (*schemas.Calendar, *time.Location, error) {
	e := &schemas.Calendar{Class: strings.TrimSpace(get("class")), Zone: strings.TrimSpace(get("zone"))}
	if e.Zone == "" {
		e.Zone = "UTC"
	}
	zone, err := time.LoadLocation(e.Zone)
	if err != nil || e.Zone == "Local" {
		return nil, nil, fmt.Errorf("zone %.60q is not known: give a name of the IANA database, such as Europe/Berlin", e.Zone)
	}
	if e.Match, err = agenda.ParseMatch(split(get("match"))); err != nil {
		return nil, nil, err
	}
	if e.Expected, err = agenda.ParseExpected(split(get("expect"))); err != nil {
		return nil, nil, err
	}
	return e, zone, nil
}

func split(list string) (out []string) {
	for _, s := range strings.Split(list, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// postEntry adds an entry to the calendar.
func (s *Server) postEntry(w http.ResponseWriter, r *http.Request) {
	v, ok := s.allowed(w, r)
	if !ok {
		return
	}
	e, err := entryOf(r.PostFormValue)
	if err == nil {
		err = s.enter(r.Context(), v, []*schemas.Calendar{e})
	}
	if err != nil {
		s.answer(w, r, v, http.StatusBadRequest, note{err.Error(), true})
		return
	}
	s.answer(w, r, v, http.StatusOK, note{fmt.Sprintf("%s: %s", e.Name, agenda.NextText(e, schemas.At(s.cfg.Now()))), false}, "id", e.ID)
}

func entryOf(get func(string) string) (*schemas.Calendar, error) {
	e, zone, err := formEntry(get)
	if err != nil {
		return nil, err
	}
	e.Name, e.Repeat, e.ID = strings.TrimSpace(get("name")), strings.TrimSpace(get("repeat")), strings.TrimSpace(get("id"))
	if e.Name == "" {
		return nil, fmt.Errorf("the entry has no name")
	}
	if e.ID == "" {
		e.ID = agenda.IDOf(e.Name)
	}
	begin, err := agenda.When(strings.TrimSpace(get("start")), zone)
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	end, err := agenda.When(strings.TrimSpace(get("end")), zone)
	if err != nil {
		return nil, fmt.Errorf("end: %w", err)
	}
	e.Start, e.End = schemas.At(begin), schemas.At(end)
	return e, agenda.Check(e)
}

const entryTimeout = 30 * time.Second

// enter publishes entries and notes who did: the calendar is telemetry and unsigned.
func (s *Server) enter(ctx context.Context, v visitor, entries []*schemas.Calendar) error {
	ctx, cancel := context.WithTimeout(ctx, entryTimeout)
	defer cancel()
	if err := agenda.Publish(ctx, s.cfg.Bus, entries); err != nil {
		return err
	}
	for _, e := range entries {
		s.log.Info("calendar entry", "id", e.ID, "removed", e.Removed, "by", v.Name)
	}
	return nil
}

// postRemove takes an entry back.
func (s *Server) postRemove(w http.ResponseWriter, r *http.Request) {
	v, ok := s.allowed(w, r)
	if !ok {
		return
	}
	id := r.PathValue("id")
	for _, e := range s.cfg.Model.Calendar() {
		if e.ID != id {
			continue
		}
		gone := *e
		gone.Removed = true
		if err := s.enter(r.Context(), v, []*schemas.Calendar{&gone}); err != nil {
			s.answer(w, r, v, http.StatusBadGateway, note{err.Error(), true})
			return
		}
		s.answer(w, r, v, http.StatusOK, note{e.Name + " is taken back", false})
		return
	}
	s.answer(w, r, v, http.StatusNotFound, note{fmt.Sprintf("no entry %.60q is in force", id), true})
}

// postImport takes the events of an iCalendar file.
func (s *Server) postImport(w http.ResponseWriter, r *http.Request) {
	v, ok := s.allowed(w, r)
	if !ok {
		return
	}
	entries, skipped, err := readFile(r)
	if err == nil && len(entries) == 0 {
		err = fmt.Errorf("no event could be used of %d", len(skipped))
		if len(skipped) > 0 {
			err = fmt.Errorf("%w; the first: %s", err, skipped[0])
		}
	}
	if err == nil {
		err = s.enter(r.Context(), v, entries)
	}
	if err != nil {
		s.answer(w, r, v, http.StatusBadRequest, note{err.Error(), true})
		return
	}
	text := fmt.Sprintf("%d events taken", len(entries))
	if len(skipped) > 0 {
		text += fmt.Sprintf(", %d left out; the first: %s", len(skipped), skipped[0])
	}
	s.answer(w, r, v, http.StatusOK, note{text, false}, "imported", len(entries), "skipped", skipped)
}

// readFile reads the file of a form, or a body of text/calendar.
func readFile(r *http.Request) ([]*schemas.Calendar, []string, error) {
	get := r.FormValue
	var in io.Reader
	if f, _, err := r.FormFile("file"); err == nil {
		defer f.Close()
		in = f
	} else {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, nil, err
		}
		if len(b) == 0 {
			return nil, nil, fmt.Errorf("no file was given")
		}
		in = bytes.NewReader(b)
	}
	defaults, zone, err := formEntry(get)
	if err != nil {
		return nil, nil, err
	}
	return agenda.ReadICS(in, defaults, zone)
}
