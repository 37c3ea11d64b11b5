package service

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestHealthOverHTTP(t *testing.T) {
	var h Health
	broken := errors.New("no forecast for 40 s")
	var err error
	h.Ready("forecaster", func() error { return err })
	h.Ready("bus", func() error { return nil })
	mux := http.NewServeMux()
	h.Routes(mux, prometheus.NewRegistry())
	l, lerr := Listen("127.0.0.1:0")
	if lerr != nil {
		t.Fatal(lerr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, mux) }()
	get := func(path string) (int, string) {
		r, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(b)
	}
	if code, body := get("/readyz"); code != 200 || body != "bus: ok\nforecaster: ok\n" {
		t.Fatal(code, body)
	}
	err = broken
	if code, body := get("/readyz"); code != 503 || !strings.Contains(body, "forecaster: no forecast for 40 s") {
		t.Fatal(code, body)
	}
	for _, path := range []string{"/livez", "/metrics"} {
		if code, _ := get(path); code != 200 {
			t.Fatal(path, code)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestListenRefusesWhatOthersReach(t *testing.T) {
	for _, a := range []string{"0.0.0.0:0", ":0", "[::]:0", "example.invalid:80"} {
		if _, err := Listen(a); !errors.Is(err, ErrNotLoopback) {
			t.Errorf("%s: %v", a, err)
		}
	}
}

func TestLoggerLevel(t *testing.T) {
	if _, err := Logger(io.Discard, "loud", false); err == nil {
		t.Fatal("an unknown level passed")
	}
	var b strings.Builder
	l, err := Logger(&b, "warn", true)
	if err != nil {
		t.Fatal(err)
	}
	l.Info("quiet")
	l.Warn("heard")
	if strings.Contains(b.String(), "quiet") || !strings.Contains(b.String(), `"msg":"heard"`) {
		t.Fatal(b.String())
	}
}
