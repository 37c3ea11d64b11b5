package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
)

// envCommand makes the test's binary the command itself: the console starts its
// backtests as a process of its own.
const envCommand = "FORESHIFT_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(envCommand) != "" {
		start()
		return
	}
	os.Exit(m.Run())
}

// tinyHistory is some days of some VMs of which each is busy two hours a day.
func tinyHistory(vms, days int) []byte {
	var b bytes.Buffer
	b.WriteString("vm,t,cpu_pct,cores,mem_cap_mb\n")
	for v := range vms {
		for s := range days * schemas.StepsPerDay {
			pct := 20
			if s%schemas.StepsPerDay/24 == v%12 {
				pct = 95
			}
			fmt.Fprintf(&b, "v%d,%d,%d,2,1024\n", v, s, pct)
		}
	}
	return b.Bytes()
}

// The backtest page through the real command: begun by a form, followed to its end,
// its table and its report shown; on a file, and on what the fleet's own stream holds.
func TestConsoleRunsBacktests(t *testing.T) {
	if testing.Short() {
		t.Skip("runs two backtests")
	}
	t.Setenv(envCommand, "yes")
	dir := t.TempDir()
	traces := filepath.Join(dir, "traces")
	if err := os.Mkdir(traces, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(traces, "small.csv"), tinyHistory(24, 9), 0o600); err != nil {
		t.Fatal(err)
	}
	srv, err := embedded.Start(embedded.Options{StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown()
	admin, err := streams.Connect(t.Context(), srv.Credentials(streams.RoleAdmin))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := streams.Apply(t.Context(), admin, srv.ApplyOptions()); err != nil {
		t.Fatal(err)
	}
	if err := (streams.State{URL: srv.URL(), PID: os.Getpid(), Started: schemas.At(time.Now()), Base: "5m"}).Save(dir); err != nil {
		t.Fatal(err)
	}
	// The stream counts whole days of the calendar: one more, for what the first lacks.
	longer := filepath.Join(dir, "longer.csv")
	if err := os.WriteFile(longer, tinyHistory(24, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	c := root()
	c.SetOut(io.Discard)
	c.SetArgs([]string{"--state", dir, "history", "import", longer})
	if err := c.Execute(); err != nil {
		t.Fatal("the tiny history does not get into the stream: ", err)
	}
	bus, err := streams.Connect(t.Context(), srv.Credentials(streams.RoleOperator))
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	mux := http.NewServeMux()
	ctx, stop := context.WithCancel(t.Context())
	tokens, keep, err := addConsole(mux, consoleOptions{}, dir, bus, schemas.DefaultBase, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	page := httptest.NewServer(mux)
	defer page.Close()
	kept := make(chan error, 1)
	go func() { kept <- keep(ctx) }()
	defer func() { stop(); <-kept }() // which also ends a backtest that is under way
	token := operatorToken(t, tokens.Path())
	ask := func(method, path string, form url.Values) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, page.URL+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for _, x := range []struct{ name, trace, days string }{{"a file", "small.csv", ""}, {"the stream", "", "10"}} {
		form := url.Values{"trace": {x.trace}, "days": {x.days}, "placements": {"1"}, "utilisation": {"90"}, "policy": {"none", "react"}}
		if status, body := ask("POST", "/api/backtest", form); status != http.StatusOK {
			t.Fatalf("%s: %d %s", x.name, status, body)
		}
		moved := false
		var body string
		for end := time.Now().Add(4 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
			if _, body = ask("GET", "/backtest", nil); !strings.Contains(body, "Under way") {
				break
			}
			moved = moved || strings.Contains(body, " steps</span>")
			if time.Now().After(end) {
				t.Fatalf("%s: not over:\n%s", x.name, body)
			}
		}
		if _, last, ok := strings.Cut(body, "The last"); !ok || !strings.Contains(last, "24 VMs on 2 hosts") || !strings.Contains(last, "/backtest/report") {
			t.Errorf("%s: the page does not show the table:\n%s", x.name, body)
		}
		t.Logf("%s: progress seen on the way: %v", x.name, moved) // it may be over between two looks
		if status, report := ask("GET", "/backtest/report", nil); status != http.StatusOK || !strings.Contains(report, "<svg") {
			t.Errorf("%s: report: %d %.200s", x.name, status, report)
		}
	}
}

func operatorToken(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "operator" {
			return f[2]
		}
	}
	t.Fatal("no operator among the tokens")
	return ""
}
