package web

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

var bearer = []string{"Authorization", "Bearer " + operatorToken}

// eventually waits for a page to say something.
func (s *testSite) eventually(path, want string) {
	s.t.Helper()
	c := browser(s.t)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, body := s.get(c, path, bearer...)
		if strings.Contains(body, want) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s does not say %q:\n%s", path, want, body)
		}
	}
}

func TestCalendarIsKept(t *testing.T) {
	s := serve(t, false)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go s.model.Run(ctx, s.bus, slog.New(slog.DiscardHandler))
	c := browser(t)
	entry := url.Values{"name": {"Black Friday"}, "class": {"campaign"}, "start": {"2031-11-28 09:00"}, "end": {"2031-11-28 21:00"}, "zone": {"Europe/Berlin"}, "match": {"tier=web"}, "expect": {"cpu=+40%"}}
	if code, body := s.post(c, "/api/calendar", entry, bearer...); code != 200 || !strings.Contains(body, `"id":"black-friday"`) {
		t.Fatalf("%d %s", code, body)
	}
	s.eventually("/calendar", "cpu &#43;40 %")
	for field, wrong := range map[string]string{"name": "", "start": "soon", "end": "2031-11-27 09:00", "zone": "Mars/Olympus", "match": "tier", "expect": "cpu=much", "repeat": "FREQ=SOMETIMES"} {
		bad := url.Values{}
		for k, v := range entry {
			bad[k] = v
		}
		bad.Set(field, wrong)
		if code, body := s.post(c, "/api/calendar", bad, bearer...); code != 400 {
			t.Errorf("%s %q: %d %s", field, wrong, code, body)
		}
	}
	if code, _ := s.post(c, "/api/calendar", entry, "Authorization", "Bearer "+viewerToken); code != 403 {
		t.Errorf("a viewer: %d", code)
	}
	file, err := os.ReadFile("../agenda/testdata/campaigns.ics")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	f, err := m.CreateFormFile("file", "campaigns.ics")
	if err != nil {
		t.Fatal(err)
	}
	f.Write(file)
	m.WriteField("class", "import")
	m.Close()
	r, _ := http.NewRequest("POST", s.url+"/api/calendar/import", &b)
	r.Header.Set("Content-Type", m.FormDataContentType())
	r.Header.Set(bearer[0], bearer[1])
	if code, body, _ := s.do(c, r); code != 200 || !strings.Contains(body, `"imported":5`) {
		t.Fatalf("import: %d %s", code, body)
	}
	s.eventually("/calendar", "Black Friday, all shops")
	if code, body := s.post(c, "/api/calendar/black-friday/remove", nil, bearer...); code != 200 {
		t.Fatalf("remove: %d %s", code, body)
	}
	if code, _ := s.post(c, "/api/calendar/nothing/remove", nil, bearer...); code != 404 {
		t.Errorf("remove what is not there: %d", code)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, body := s.get(c, "/api/calendar", bearer...); !strings.Contains(body, `"black-friday"`) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the entry is still there")
		}
	}
}

func TestBacktestFromThePage(t *testing.T) {
	s := serve(t, false)
	c := browser(t)
	ask := url.Values{"trace": {"month.csv"}, "placements": {"2"}, "utilisation": {"92"}, "policy": {"none", "predictive"}}
	for field, wrong := range map[string]string{"trace": "../../etc/passwd", "placements": "0", "utilisation": "x", "policy": "magic"} {
		bad := url.Values{}
		for k, v := range ask {
			bad[k] = v
		}
		bad.Set(field, wrong)
		if code, body := s.post(c, "/api/backtest", bad, bearer...); code != 400 {
			t.Errorf("%s %q: %d %s", field, wrong, code, body)
		}
	}
	if code, _ := s.get(c, "/backtest/report", bearer...); code != 404 {
		t.Errorf("a report before the first: %d", code)
	}
	if code, body := s.post(c, "/api/backtest", ask, bearer...); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	s.eventually("/backtest", "3 of 10 steps")
	if code, _ := s.post(c, "/api/backtest", ask, bearer...); code != 400 {
		t.Errorf("a second at a time: %d", code)
	}
	s.trial <- nil
	s.eventually("/backtest", "the table")
	if !strings.HasSuffix(s.asked.Traces[0], "/month.csv") || s.asked.U != .92 || len(s.asked.Policies) != 2 {
		t.Errorf("asked %+v", s.asked)
	}
	if code, body := s.get(c, "/backtest/report", bearer...); code != 200 || body != "<p>the report</p>" {
		t.Errorf("report: %d %s", code, body)
	}
	ask.Set("trace", "")
	ask.Set("days", "14")
	if code, body := s.post(c, "/api/backtest", ask, bearer...); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	s.trial <- errors.New("only 3 days are kept")
	s.eventually("/backtest", "only 3 days are kept")
	s.post(c, "/api/backtest", ask, bearer...)
	if code, _ := s.post(c, "/api/backtest/stop", nil, bearer...); code != 200 {
		t.Errorf("stop: %d", code)
	}
	s.eventually("/backtest", "It was stopped")
}

func TestPlanBesideTheOneWithoutForecast(t *testing.T) {
	s := serve(t, true)
	s.tell(&schemas.Plan{ID: "p-9", Time: schemas.At(time.Now()), Before: 4, After: 1, Actions: []schemas.Action{{ID: "c", VM: web1, Name: "web", Source: "a", Destination: "b"}}})
	s.eventually("/plans/p-9", "7 core-s")
	if _, body := s.get(browser(t), "/plans/p-9"); !strings.Contains(body, "web</a>: a → b") || !strings.Contains(body, "Nothing moves.") {
		t.Error(body)
	}
}
