package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// ErrNoBrowser says that no Chromium is installed here.
var ErrNoBrowser = errors.New("no chromium is installed")

// paints is how often the fleet page is loaded.
const paints = 5

// reporter tells a page's first contentful paint, in milliseconds since its navigation
// began, and loads the page anew until that was done often enough.
const reporter = `new PerformanceObserver(list => {
  for (const e of list.getEntriesByName("first-contentful-paint"))
    fetch("/-/paint", {method: "POST", body: JSON.stringify(e.startTime)}).then(r => r.status == 204 && location.reload());
}).observe({type: "paint", buffered: true});`

// paint opens the fleet page in a headless Chromium, which gets it from a proxy that
// signs in and adds the reporter; nothing else of the page is changed.
func (b *bench) paint(ctx context.Context) error {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		return ErrNoBrowser
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	took := make(chan float64, paints)
	s := &http.Server{Handler: b.proxy(took), ReadHeaderTimeout: 10 * time.Second}
	go s.Serve(l)
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	args := []string{"--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--window-size=1280,900", "--remote-debugging-port=0", "--user-data-dir=" + filepath.Join(b.dir, "browser")}
	if os.Getuid() == 0 {
		args = append(args, "--no-sandbox")
	}
	cmd := exec.CommandContext(ctx, path, append(args, "http://"+l.Addr().String()+"/")...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { cancel(); <-ended }()
	var all []float64
	for len(all) < paints {
		select {
		case ms := <-took:
			all = append(all, ms)
		case err := <-ended:
			ended <- err
			return fmt.Errorf("%s ended after %d of %d pages: %w", path, len(all), paints, err)
		case <-ctx.Done():
			return fmt.Errorf("%s has painted %d of %d pages: %w", path, len(all), paints, ctx.Err())
		}
	}
	slices.Sort(all)
	b.res.PaintMS, b.res.PaintMaxMS = all[len(all)/2], all[len(all)-1]
	return nil
}

// proxy hands the console's pages on and takes what the reporter tells.
func (b *bench) proxy(took chan<- float64) http.Handler {
	to, _ := url.Parse(b.page) // as the console itself printed it
	p := &httputil.ReverseProxy{FlushInterval: -1, ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
		if r.Context().Err() == nil { // else the page was left
			slog.Warn("the console's page could not be handed on", "path", r.URL.Path, "err", err)
		}
		w.WriteHeader(http.StatusBadGateway)
	}, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Header.Set("Authorization", "Bearer "+b.token)
		r.Out.Header.Del("Accept-Encoding") // the reporter is added to plain text
	}}
	p.ModifyResponse = func(r *http.Response) error {
		if r.Request.URL.Path != "/" || r.Request.Header.Get("Accept") == "text/event-stream" {
			return nil
		}
		page, err := io.ReadAll(r.Body)
		if err := errors.Join(err, r.Body.Close()); err != nil {
			return err
		}
		page = bytes.Replace(page, []byte("</head>"), []byte(`<script src="/-/reporter.js" async></script></head>`), 1)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(page)), int64(len(page))
		r.Header.Set("Content-Length", strconv.Itoa(len(page)))
		return nil
	}
	m := http.NewServeMux()
	m.Handle("/", p)
	m.HandleFunc("GET /-/reporter.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		io.WriteString(w, reporter)
	})
	n := 0
	m.HandleFunc("POST /-/paint", func(w http.ResponseWriter, r *http.Request) { // one page at a time
		var ms float64
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64)).Decode(&ms); err != nil || n == paints {
			http.Error(w, "want milliseconds", http.StatusBadRequest)
			return
		}
		n++
		took <- ms
		if n < paints {
			w.WriteHeader(http.StatusNoContent)
		}
	})
	return m
}
