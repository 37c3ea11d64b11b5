package web

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/console/live"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
	"github.com/foreshift/foreshift/streams/streamstest"
)

const (
	operatorToken = "operator-token-of-this-test"
	viewerToken   = "viewer-token-of-this-test-too"
)

// site is a console over a bus of its own.
type testSite struct {
	t      *testing.T
	url    string
	model  *live.Model
	bus    *streams.Bus
	placer *streams.Bus
	server *embedded.Server
	http   *httptest.Server
	asked  BacktestAsk
	trial  chan error // ends the backtest that runs
}

// backtest stands in for the real one, which takes minutes.
func (s *testSite) backtest(ctx context.Context, ask BacktestAsk, progress func(done, total int)) ([]byte, string, error) {
	s.asked = ask
	progress(3, 10)
	select {
	case err := <-s.trial:
		return []byte("<p>the report</p>"), "the table", err
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
}

func serve(t *testing.T, open bool) *testSite {
	t.Helper()
	path := filepath.Join(t.TempDir(), FileTokens)
	if err := os.WriteFile(path, []byte("# people\noperator ann "+operatorToken+"\nviewer vic "+viewerToken+" # looks on\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := LoadTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	server := streamstest.Start(t)
	bus := streamstest.Connect(t, server, streams.RoleOperator)
	stop := make(chan struct{})
	s := &testSite{t: t, model: live.New(time.Minute), bus: bus, placer: streamstest.Connect(t, server, streams.RolePlacer), server: server}
	traces := t.TempDir()
	if err := os.WriteFile(filepath.Join(traces, "month.csv"), []byte("vm,t,cpu_pct\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.trial = make(chan error)
	w, err := New(Config{TraceDir: traces, Backtest: s.backtest, Compare: func(context.Context, *schemas.Plan) (*schemas.Plan, error) {
		return &schemas.Plan{ID: "alone", Before: 7}, nil
	}, Model: s.model, Bus: bus, Tokens: tokens, Open: open, Log: slog.New(slog.DiscardHandler), Stop: stop, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	w.Routes(mux)
	h := httptest.NewServer(mux)
	s.url, s.http = h.URL, h
	t.Cleanup(func() { close(stop); h.Close() })
	return s
}

// browser keeps cookies and does not follow where it is led.
func browser(t *testing.T) *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (s *testSite) do(c *http.Client, r *http.Request) (int, string, http.Header) {
	s.t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func (s *testSite) get(c *http.Client, path string, headers ...string) (int, string) {
	r, _ := http.NewRequest("GET", s.url+path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	code, body, _ := s.do(c, r)
	return code, body
}

func (s *testSite) post(c *http.Client, path string, form url.Values, headers ...string) (int, string) {
	r, _ := http.NewRequest("POST", s.url+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	code, body, _ := s.do(c, r)
	return code, body
}

var web1 = schemas.VMID{15: 1}

func (s *testSite) tell(msgs ...schemas.Message) {
	for i, m := range msgs {
		s.model.Apply(streams.Event{Seq: uint64(i + 1), Time: time.Now().UnixNano(), Msg: m})
	}
}

// story is a small fleet in trouble, with a name that means mischief.
func (s *testSite) story() {
	now := schemas.At(time.Now())
	s.tell(&schemas.CapacityHost{Host: "a", Site: "private", Time: now, Capacity: schemas.Amounts{CPU: 8000, Mem: 1 << 34}, VMs: []schemas.InventoryVM{
		{VM: web1, Name: "<b>web</b>", State: schemas.VMRunning, AllocCPU: 2000, AllocMem: 1 << 31, Movable: true},
		{VM: schemas.VMID{15: 2}, Name: "twice", State: schemas.VMRunning}}},
		&schemas.CapacityHost{Host: "b", Site: "public", Time: now, VMs: []schemas.InventoryVM{{VM: schemas.VMID{15: 2}, Name: "twice", State: schemas.VMRunning}}},
		&schemas.CapacityHost{Host: "old", Site: "public", Time: now.Add(-time.Hour)},
		&schemas.PressureVM{VM: web1, Host: "a", Cause: schemas.CauseHostContention, Score: .83, Resource: "cpu", Onset: now.Add(time.Minute), Chances: map[string]schemas.Chance{"cpu": {H24: .83}}},
		&schemas.Shortfall{Site: "private", Resource: "cpu", Onset: now.Add(time.Hour), Amount: 3000},
		&schemas.Plan{ID: "p-1", Time: now, Mode: schemas.ModeApprove, Actions: []schemas.Action{{ID: "c-1", VM: web1, Name: "<b>web</b>", Source: "a", Destination: "b", Due: now,
			Reason: schemas.Reason{Code: schemas.ReasonOK, Detail: "a runs short"}, Hold: schemas.Reason{Code: schemas.ReasonNeedsApproval, Detail: "it waits for a person"}}},
			Declined: []schemas.Decline{{VM: schemas.VMID{15: 2}, Reason: schemas.Reason{Code: schemas.ReasonDuplicate, Detail: "seen on two hosts"}}}},
		&schemas.Command{ID: "c-0", VM: web1, Name: "<b>web</b>", Source: "b", Destination: "a", Issued: now, Reason: schemas.Reason{Detail: "b ran short"}},
		&schemas.Progress{Command: "c-0", VM: web1, Phase: schemas.PhasePreCopy, Total: 100, Processed: 40, Remaining: 60, Speed: 5e6})
}

var pages = []string{"/", "/pressure", "/pressure?all=1&q=web", "/vms/" + web1.String(), "/hosts/a", "/plans", "/moves", "/moves?result=failed", "/learning", "/backtest", "/calendar", "/about"}

func TestPagesShowTheFleet(t *testing.T) {
	s := serve(t, true)
	s.story()
	c := browser(t)
	for _, path := range pages {
		code, body := s.get(c, path)
		if code != 200 || !strings.Contains(body, "</html>") || strings.Contains(body, "<b>web</b>") {
			t.Errorf("%s: %d, whole %v, markup of a name passed on %v", path, code, strings.Contains(body, "</html>"), strings.Contains(body, "<b>web</b>"))
		}
		if regexp.MustCompile(`<script[^>]*>[^<]|<style| style="| on[a-z]+="|https?://[^w]`).MatchString(body) {
			t.Errorf("%s: a script, a style or something foreign stands in the page", path)
		}
		for _, want := range []string{"runs on a, b at once", "1 host has not been heard of", "Shortfall at private"} {
			if !strings.Contains(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, ""), want) {
				t.Errorf("%s lacks %q", path, want)
			}
		}
		if strings.Contains(body, `action="/api/acts"`) {
			t.Errorf("%s offers an act to who looks on", path)
		}
	}
	for path, want := range map[string]string{"/": "silent since", "/pressure": "83 %", "/plans": "needs approval", "/moves": "pre-copy", "/vms/" + web1.String(): "is being moved from b to a"} {
		if _, body := s.get(c, path); !strings.Contains(body, want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
	for path, want := range map[string]int{"/vms/x": 404, "/vms/" + (schemas.VMID{15: 9}).String(): 404, "/hosts/nobody": 404, "/plans/none": 404, "/api/vms/nobody": 404, "/find?q=a": 303} {
		if code, body := s.get(c, path); code != want {
			t.Errorf("%s: %d, want %d\n%s", path, code, want, body)
		}
	}
}

func TestEmptyFleetSaysSo(t *testing.T) {
	s := serve(t, true)
	c := browser(t)
	_, body := s.get(c, "/")
	if !strings.Contains(body, "Waiting for the first word of the hosts") {
		t.Error("before anything was read it does not say that it waits")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go s.model.Run(ctx, s.bus, slog.New(slog.DiscardHandler))
	for i := 0; !s.model.Summary(schemas.At(time.Now())).Ready; i++ {
		if time.Sleep(20 * time.Millisecond); i > 500 {
			t.Fatalf("not ready: %+v", s.model.Summary(0).Feeds)
		}
	}
	for path, want := range map[string]string{"/": "No host has reported yet", "/pressure": "No VM is under pressure", "/plans": "No plan has been published yet", "/moves": "Nothing moves now", "/learning": "Nothing to compare yet", "/calendar": "The calendar is empty"} {
		if _, body := s.get(c, path); !strings.Contains(body, want) {
			t.Errorf("%s of an empty fleet lacks %q", path, want)
		}
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	s := serve(t, false)
	s.story()
	nobody, viewer, operator := browser(t), browser(t), browser(t)
	for _, path := range append([]string{"/api/view", "/api/explain"}, pages...) {
		if code, body := s.get(nobody, path); code != 401 || strings.Contains(body, "private") {
			t.Errorf("%s tells a stranger (%d)", path, code)
		}
	}
	if code, _ := s.post(nobody, "/login", url.Values{"token": {"wrong"}}); code != 401 {
		t.Errorf("a wrong token: %d", code)
	}
	for c, token := range map[*http.Client]string{viewer: viewerToken, operator: operatorToken} {
		if code, _ := s.post(c, "/login", url.Values{"token": {token}, "back": {"/plans"}}); code != 303 {
			t.Fatalf("sign in: %d", code)
		}
		if code, _ := s.get(c, "/plans"); code != 200 {
			t.Fatalf("signed in, and yet %d", code)
		}
	}
	_, body := s.get(operator, "/plans")
	csrf := regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(body)
	if csrf == nil {
		t.Fatal("no form for the operator")
	}
	_, vbody := s.get(viewer, "/plans")
	vcsrf := regexp.MustCompile(`data-csrf="([^"]+)"`).FindStringSubmatch(vbody)
	approve := url.Values{"act": {"approve"}, "plan": {"p-1"}, "command": {"c-1"}, "csrf": {csrf[1]}, "back": {"/plans"}}
	with := func(k, v string) url.Values {
		out := url.Values{}
		for a, b := range approve {
			out[a] = b
		}
		out.Set(k, v)
		return out
	}
	for name, x := range map[string]struct {
		c       *http.Client
		form    url.Values
		headers []string
		want    int
	}{
		"a stranger":             {nobody, approve, nil, 401},
		"a viewer":               {viewer, with("csrf", vcsrf[1]), []string{"Accept", "application/json"}, 403},
		"a forged form":          {operator, with("csrf", ""), []string{"Accept", "application/json"}, 403},
		"another's form":         {operator, with("csrf", vcsrf[1]), []string{"Accept", "application/json"}, 403},
		"another site":           {operator, approve, []string{"Origin", "https://elsewhere.example"}, 403},
		"another site, told":     {operator, approve, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"a name made to lead us": {operator, approve, []string{"Accept", "application/json", "X-Host", "elsewhere.example"}, 421},
		"no such act":            {operator, with("act", "heartbeat"), []string{"Accept", "application/json"}, 400},
		"a viewer's bearer":      {nobody, approve, []string{"Authorization", "Bearer " + viewerToken}, 403},
		"a wrong bearer":         {nobody, approve, []string{"Authorization", "Bearer nonsense"}, 401},
	} {
		r, _ := http.NewRequest("POST", s.url+"/api/acts", strings.NewReader(x.form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i+1 < len(x.headers); i += 2 {
			if x.headers[i] == "X-Host" {
				r.Host = x.headers[i+1]
				continue
			}
			r.Header.Set(x.headers[i], x.headers[i+1])
		}
		if code, body, _ := s.do(x.c, r); code != x.want {
			t.Errorf("%s: %d, want %d: %s", name, code, x.want, body)
		}
	}
	if got := s.acts(); len(got) != 0 {
		t.Fatalf("acts were recorded all the same: %+v", got)
	}
	if code, _ := s.post(operator, "/api/acts", approve); code != 303 {
		t.Fatalf("the operator's own form: %d", code)
	}
	if _, body := s.get(operator, "/plans"); !strings.Contains(body, "approve: recorded as act 1") {
		t.Error("the next page does not say that it was recorded")
	}
	code, out := s.post(nobody, "/api/acts", url.Values{"act": {"pause"}, "why": {"storm"}}, "Authorization", "Bearer "+operatorToken)
	if code != 200 || !strings.Contains(out, `"sequence":2`) {
		t.Fatalf("by bearer: %d %s", code, out)
	}
	got := s.acts()
	if len(got) != 2 || got[0].Act != schemas.ActApprove || got[0].By != "ann" || got[0].Plan != "p-1" || got[0].Command != "c-1" || got[1].Why != "storm" {
		t.Fatalf("recorded %+v", got)
	}
	if code, _ := s.post(operator, "/logout", url.Values{"csrf": {csrf[1]}}); code != 303 {
		t.Errorf("sign out: %d", code)
	}
	if code, _ := s.get(operator, "/plans"); code != 401 {
		t.Errorf("signed out, and yet %d", code)
	}
}

// acts are those that the placer would believe: genuinely signed ones, as it reads them.
func (s *testSite) acts() (out []schemas.Act) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	err := s.placer.Follow(ctx, "test", streams.Input{Stream: streams.Acts}, func(e streams.Event) {
		if a, ok := e.Msg.(*schemas.Act); ok {
			out = append(out, *a)
		}
	}, cancel)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	s := serve(t, true)
	for _, path := range []string{"/", "/api/status", "/assets/app.js", "/assets/chart.css", "/login", "/vms/none"} {
		r, _ := http.NewRequest("GET", s.url+path, nil)
		_, _, h := s.do(browser(t), r)
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" {
			t.Errorf("%s: headers are missing: %v", path, h)
		}
	}
}

func TestOpenPageFollows(t *testing.T) {
	s := serve(t, true)
	s.story()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "GET", s.url+"/pressure", nil)
	r.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := make(chan string)
	go func() {
		buf, rest := make([]byte, 1<<16), ""
		for {
			n, err := resp.Body.Read(buf)
			rest += string(buf[:n])
			for {
				one, more, ok := strings.Cut(rest, "\n\n")
				if !ok {
					break
				}
				rest = more
				in <- one
			}
			if err != nil {
				close(in)
				return
			}
		}
	}()
	read := func() map[string]string {
		var m struct{ Parts []struct{ ID, HTML string } }
		if err := json.Unmarshal([]byte(strings.TrimPrefix(<-in, "data: ")), &m); err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, p := range m.Parts {
			out[p.ID] = p.HTML
		}
		return out
	}
	if first := read(); !strings.Contains(first["pressure"], "83 %") || first["state"] == "" {
		t.Fatalf("at first it lacks what is there: %v", first)
	}
	begun := time.Now()
	s.tell(&schemas.PressureVM{VM: web1, Host: "a", Cause: schemas.CauseHostContention, Score: .41, Resource: "cpu"})
	next := read()
	if took := time.Since(begun); took > time.Second {
		t.Errorf("a change took %v to arrive", took)
	}
	if !strings.Contains(next["pressure"], "41 %") || next["pressure-form"] != "" {
		t.Errorf("what changed, and nothing else, is sent: got %d regions", len(next))
	}
}

func TestTokensFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, FileTokens)
	made, err := EnsureTokens(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := EnsureTokens(path)
	if err != nil || again.Token(Operator) != made.Token(Operator) || made.Token(Operator) == made.Token(Viewer) {
		t.Fatal("tokens do not last, or are the same", err)
	}
	if i, _ := os.Stat(path); i.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", i.Mode())
	}
	if p, ok := again.Person(made.Token(Viewer)); !ok || p.Role != Viewer {
		t.Errorf("viewer is %+v %v", p, ok)
	}
	for text, want := range map[string]string{"": "holds none", "operator ann short": "can be guessed", "king ann " + operatorToken: "want viewer or operator",
		"operator ann": "want a role, a name and a token", "viewer a/b " + viewerToken: "not allowed", "viewer a " + viewerToken + "\nviewer a " + operatorToken: "twice"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadTokens(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadTokens(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others may read: %v", err)
	}
}

func TestBackStaysHere(t *testing.T) {
	for in, want := range map[string]string{"/plans?x=1": "/plans?x=1", "//evil.example/x": "/", "https://evil.example": "/", "": "/", "/\\evil.example": "/", "javascript:alert(1)": "/"} {
		if got := back(in); got != want {
			t.Errorf("%q leads to %q, want %q", in, got, want)
		}
	}
}
