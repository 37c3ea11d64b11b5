package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/console/live"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// FuzzRequest sends whatever parses as a request to the API, to acts, forms and sign-in,
// as nobody, as a viewer and as an operator: each is answered, never by a fault of ours,
// and the API in JSON. There is no bus: an act is judged, not recorded. Pages are drawn
// in other tests: a page takes a thousand times longer than what is asked for is read.
func FuzzRequest(f *testing.F) {
	path := filepath.Join(f.TempDir(), FileTokens)
	if err := os.WriteFile(path, []byte("operator ann "+operatorToken+"\nviewer vic "+viewerToken+"\n"), 0o600); err != nil {
		f.Fatal(err)
	}
	tokens, err := LoadTokens(path)
	if err != nil {
		f.Fatal(err)
	}
	s := &testSite{model: live.New(time.Minute)}
	s.story()
	server := streamstest.Start(f)
	bus := streamstest.Connect(f, server, streams.RoleOperator)
	bus.Close() // what may be said is refused at once
	server.Shutdown()
	w, err := New(Config{TraceDir: f.TempDir(), Backtest: func(ctx context.Context, _ BacktestAsk, _ func(int, int)) ([]byte, string, error) {
		return nil, "", ctx.Err()
	},
		Compare: func(context.Context, *schemas.Plan) (*schemas.Plan, error) { return &schemas.Plan{ID: "alone"}, nil },
		Model:   s.model, Bus: bus, Tokens: tokens, Open: true, Log: slog.New(slog.DiscardHandler), Stop: make(chan struct{}), Version: "test"})
	if err != nil {
		f.Fatal(err)
	}
	mux := http.NewServeMux()
	w.Routes(mux)
	gone, hangUp := context.WithCancel(context.Background())
	hangUp()
	who := []string{"", "Authorization: Bearer " + viewerToken + "\r\n", "Authorization: Bearer " + operatorToken + "\r\n"}
	const form, asJSON, asICS = "application/x-www-form-urlencoded", "application/json", "text/calendar"
	for _, p := range []string{"/api/fleet", "/api/vms/" + web1.String(), "/api/explain/web", "/api/hosts/a", "/api/plans", "/find?q=web", "/assets/page.css", "/backtest/report"} {
		f.Add(uint8(2), "GET", p, "", "")
	}
	for _, x := range [][3]string{
		{"/api/acts", form, "act=pause&why=x"}, {"/api/acts", asJSON, `{"act":"cordon","host":"a"}`}, {"/api/acts", asJSON, `{"act":"abort","command":"c-0"}`}, {"/api/acts", form, "act=rollback&version=2"},
		{"/api/backtest", asJSON, `{"traces":["month.csv"],"placements":2}`}, {"/api/backtest", form, "traces=month.csv&u=.9"}, {"/api/backtest/stop", form, ""},
		{"/api/calendar", form, "title=x&start=2026-01-01T00:00&hours=2&factor=1.5"}, {"/api/calendar/import", asICS, "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20260101T000000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"}, {"/api/calendar/x/remove", form, ""},
		{"/login", form, "token=no&back=//elsewhere"}, {"/logout", form, ""},
	} {
		f.Add(uint8(2), "POST", x[0], x[1], x[2])
	}
	f.Fuzz(func(t *testing.T, role uint8, method, path, kind, body string) {
		raw := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n%s", method, path, kind, who[int(role)%len(who)], len(body), body)
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
		if err != nil {
			return
		}
		if _, pattern := mux.Handler(r); r.Method != http.MethodPost && !strings.Contains(pattern, "/api/") && !strings.Contains(pattern, "/find") && pattern != "" {
			return
		}
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, r.WithContext(gone))
		switch {
		case rec.Code == http.StatusInternalServerError:
			t.Fatalf("a fault of ours: %s", rec.Body)
		case strings.HasPrefix(rec.Header().Get("Content-Type"), asJSON) && !json.Valid(rec.Body.Bytes()):
			t.Fatalf("not JSON: %s", rec.Body)
		}
	})
}
