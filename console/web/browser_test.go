package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/foreshift/foreshift/schemas"
)

// The browser tests drive a headless Chromium; `./task test:browser` gives them one,
// a built foreshift and axe-core. Elsewhere they are skipped.
const (
	envBrowser = "FORESHIFT_BROWSER" // directory of the built binaries
	envAxe     = "FORESHIFT_AXE"     // axe.min.js
	envShots   = "FORESHIFT_SHOTS"   // directory to leave pictures in; empty: none
)

// chrome is a browser, one tab.
type chrome struct {
	t   *testing.T
	ctx context.Context
}

func openChrome(t *testing.T, most time.Duration) *chrome {
	t.Helper()
	if os.Getenv(envBrowser) == "" {
		t.Skip("browser tests run under ./task test:browser")
	}
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no chromium is installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), most)
	t.Cleanup(cancel)
	o := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.WindowSize(1280, 900), chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancel = chromedp.NewExecAllocator(ctx, o...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	c := &chrome{t, ctx}
	c.run(chromedp.Navigate("about:blank"))
	return c
}

func (c *chrome) run(actions ...chromedp.Action[chromedp.Void]) {
	c.t.Helper()
	if err := chromedp.Do(c.ctx, actions...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chrome) open(url string) {
	c.t.Helper()
	c.run(chromedp.Navigate(url), chromedp.WaitVisible("main"))
}

// ask evaluates a JavaScript expression.
func ask[T any](c *chrome, js string, more ...chromedp.EvaluateOption) T {
	c.t.Helper()
	v, err := chromedp.Run(c.ctx, chromedp.Evaluate[T](js, more...))
	if err != nil {
		c.t.Fatalf("%.300s: %v", js, err)
	}
	return v
}

// tell is ask for its effect.
func (c *chrome) tell(js string) {
	c.t.Helper()
	ask[bool](c, "(() => {"+js+"; return true})()")
}

// text is what a person reads there; the spaces that hold number and unit together
// are spaces.
func (c *chrome) text(sel string) string {
	c.t.Helper()
	return strings.ReplaceAll(ask[string](c, fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.innerText).join("\n")`, sel)), "\u00a0", " ")
}

// until waits for a condition on the page, which is not loaded anew.
func (c *chrome) until(what string, most time.Duration, ok func() bool) {
	c.t.Helper()
	for end := time.Now().Add(most); !ok(); time.Sleep(150 * time.Millisecond) {
		if time.Now().After(end) {
			c.shot("failed")
			c.t.Fatalf("not within %v: %s. The page says:\n%s", most, what, c.text("main"))
		}
	}
}

// shot leaves a picture of the whole page where one is asked for.
func (c *chrome) shot(name string) {
	dir := os.Getenv(envShots)
	if dir == "" {
		return
	}
	b, err := chromedp.Run(c.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		c.t.Errorf("picture %s: %v", name, err)
		return
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), b, 0o644); err != nil {
		c.t.Error(err)
	}
}

// accessible holds the page to axe-core: nothing serious, nothing critical.
func (c *chrome) accessible(name string) {
	c.t.Helper()
	file := os.Getenv(envAxe)
	if file == "" {
		return
	}
	axe, err := os.ReadFile(file)
	if err != nil {
		c.t.Fatal(err)
	}
	c.tell(string(axe))
	out := ask[string](c, `axe.run(document, {resultTypes: ["violations"]}).then(r => JSON.stringify(r.violations.filter(v => v.impact === "serious" || v.impact === "critical").map(v => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.slice(0, 4).map(n => n.html.slice(0, 200) + " | " + n.failureSummary)}))))`, chromedp.EvalAwaitPromise)
	var found []struct {
		ID, Impact, Help string
		Nodes            []string
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		c.t.Fatal(err)
	}
	for _, v := range found {
		c.t.Errorf("axe: %s: %s (%s): %s\n  %s", name, v.ID, v.Impact, v.Help, strings.Join(v.Nodes, "\n  "))
	}
}

func (c *chrome) dark(on bool) {
	scheme := "light"
	if on {
		scheme = "dark"
	}
	c.run(func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return chromedp.Void{}, err
	})
}

func (c *chrome) size(width, height int64) {
	c.run(chromedp.EmulateViewport(width, height))
}

// noOverflow says whether the page is no wider than the window.
func (c *chrome) noOverflow(name string) {
	c.t.Helper()
	if over := ask[int](c, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		c.t.Errorf("%s is %d pixels wider than the window", name, over)
	}
}

// up runs the built "foreshift up" and gives its address and operator's token.
func up(t *testing.T, flags ...string) (url, token string) {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(os.Getenv(envBrowser), "foreshift")
	cmd := exec.Command(bin, append([]string{"--state", dir, "up", "--page", "127.0.0.1:0"}, flags...)...)
	var mu sync.Mutex
	var out bytes.Buffer
	w := writer(func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		out.Write(b)
	})
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Log(err)
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Error("foreshift up does not stop")
			cmd.Process.Kill()
		}
	})
	link := regexp.MustCompile(`(http://127\.0\.0\.1:\d+)/login#(\S+)`)
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		mu.Lock()
		said := out.String()
		mu.Unlock()
		if m := link.FindStringSubmatch(said); m != nil && strings.Contains(said, "ready after") {
			return m[1], m[2]
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("foreshift up ended: %v\n%s", err, said)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("foreshift up is not ready:\n%s", said)
		}
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

var withinHour = regexp.MustCompile(`\((<?\d+) % within 1 h`)

// A day of an operator: pressure rises on a VM, the page says why, the plan is
// approved, the bar goes to its end, and what it achieved is told.
func TestBrowserOperatorsDay(t *testing.T) {
	c := openChrome(t, 170*time.Second)
	url, token := up(t, "--mode", "approve", "--peak-in", "75", "--days", "2")
	c.open(url + "/login#" + token)
	c.until("signed in by the link", 10*time.Second, func() bool { return strings.Contains(c.text("header"), "operator") })

	// Pressure: the page fills by itself; the first VM that its host will leave short.
	c.open(url + "/pressure")
	var vm string
	c.until("a VM under pressure of its host", 60*time.Second, func() bool {
		vm = ask[string](c, `(() => { for (const r of document.querySelectorAll("table.vms tbody tr")) if (r.innerText.includes("of its host")) return r.querySelector("th a").getAttribute("href"); return "" })()`)
		return vm != ""
	})
	c.shot("pressure")
	c.accessible("pressure")

	// Its page: the chance within the hour rises while one looks, and says why.
	c.open(url + vm)
	least, most := 1000, -1
	c.until("the chance within an hour rises", 60*time.Second, func() bool {
		if m := withinHour.FindStringSubmatch(c.text(".story")); m != nil {
			n, _ := strconv.Atoi(strings.TrimPrefix(m[1], "<"))
			least, most = min(least, n), max(most, n)
		}
		return most > least && most >= 50
	})
	t.Logf("chance within an hour of steps rose from %d %% to %d %% on the open page", least, most)
	story := c.text(".story")
	for _, want := range []string{"runs short of", "asks for", "at the peak"} {
		if !strings.Contains(story, want) {
			t.Errorf("the story lacks %q:\n%s", want, story)
		}
	}
	c.shot("vm")
	c.accessible("vm")

	// The plan, once it is there: approved.
	c.open(url + "/plans")
	var name string
	c.until("a move waits for approval", 60*time.Second, func() bool {
		name = ask[string](c, `document.querySelector("table.plan tbody tr button.act")?.closest("tr").querySelector("th").innerText || ""`)
		return name != ""
	})
	c.shot("plans")
	c.accessible("plans")
	c.tell(fmt.Sprintf(`[...document.querySelectorAll("table.plan tbody tr")].find(r => r.querySelector("th")?.innerText === %q).querySelector("button.act").click()`, name))
	c.until("the act is recorded", 5*time.Second, func() bool { return strings.Contains(c.text("#notes"), "approve: recorded as act") })

	// Moves: the bar, to its end.
	c.open(url + "/moves")
	var bars []float64
	over := func() string {
		return ask[string](c, fmt.Sprintf(`[...document.querySelectorAll("table.moves > tbody > tr")].find(r => r.querySelector("th")?.innerText === %q)?.innerText || ""`, name))
	}
	c.until("the move has ended", 60*time.Second, func() bool {
		v := ask[float64](c, fmt.Sprintf(`(() => { const r = [...document.querySelectorAll(".run")].find(r => r.innerText.includes(%q)); return r ? r.querySelector("progress").value : -1 })()`, name))
		if n := len(bars); v >= 0 && (n == 0 || bars[n-1] != v) {
			bars = append(bars, v)
			if n == 1 {
				c.shot("moves-running")
				c.accessible("moves, one under way")
			}
		}
		return strings.Contains(over(), "succeeded")
	})
	if len(bars) < 2 || bars[len(bars)-1] <= bars[0] {
		t.Errorf("the bar was seen at %v; it should have been seen to grow", bars)
	}
	t.Logf("bar: %v", bars)
	c.until("what it achieved is told", 60*time.Second, func() bool {
		return ask[int](c, fmt.Sprintf(`[...document.querySelectorAll("table.moves > tbody > tr")].find(r => r.querySelector("th")?.innerText === %q)?.nextElementSibling?.querySelectorAll("table.inner tbody tr").length || 0`, name)) > 0
	})
	c.tell(`document.querySelector("table.moves details").open = true`)
	c.shot("moves")
	c.accessible("moves")
	c.rounds(url, vm)
}

// rounds looks at every page in light and dark and at a phone's width.
func (c *chrome) rounds(url, vm string) {
	c.open(url + vm)
	host := ask[string](c, `document.querySelector(".facts-grid a").getAttribute("href")`)
	for name, path := range map[string]string{"fleet": "/", "pressure": "/pressure?all=1", "vm": vm, "host": host, "plans": "/plans", "moves": "/moves", "learning": "/learning", "backtest": "/backtest", "calendar": "/calendar", "about": "/about"} {
		c.dark(false)
		c.size(1280, 900)
		c.open(url + path)
		c.noOverflow(name)
		c.accessible(name)
		c.shot(name + "-light")
		c.dark(true)
		c.accessible(name + " in the dark")
		c.shot(name + "-dark")
		c.dark(false)
		c.size(390, 844)
		c.noOverflow(name + " at a phone's width")
		c.accessible(name + " at a phone's width")
		c.shot(name + "-phone")
	}
	c.size(1280, 900)
	c.dark(true)
	c.open(url + "/")
	c.tell(`const s = document.querySelector("#slot"); s.value = 20; s.dispatchEvent(new Event("input", {bubbles: true}))`)
	if says := c.text("#slot-says"); !strings.HasPrefix(says, "in ") {
		c.t.Errorf("the slider says %q", says)
	}
	c.shot("fleet-later-dark")
	c.dark(false)
}

// An empty fleet, and a bus that goes away and comes back while a page is open.
func TestBrowserFaces(t *testing.T) {
	c := openChrome(t, 60*time.Second)
	s := serve(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go s.model.Run(ctx, s.bus, slog.New(slog.DiscardHandler))
	c.open(s.url + "/")
	c.until("the empty fleet says so", 10*time.Second, func() bool { return strings.Contains(c.text("main"), "No host has reported yet") })
	c.accessible("an empty fleet")
	c.shot("empty")
	c.size(390, 844)
	c.noOverflow("an empty fleet at a phone's width")
	c.shot("empty-phone")
	c.size(1280, 900)

	s.tell(&schemas.CapacityHost{Host: "a", Site: "private", Time: schemas.At(time.Now())})
	begun := time.Now()
	c.until("a host appears by itself", 3*time.Second, func() bool { return strings.Contains(c.text(".tiles"), "a") })
	t.Logf("a host was on the open page after %v", time.Since(begun).Round(10*time.Millisecond))

	s.server.Shutdown()
	c.until("the page says that the bus is away", 15*time.Second, func() bool { return strings.Contains(c.text("main"), "The bus cannot be reached") })
	if !strings.Contains(c.text("main"), "private") {
		t.Error("what was known is gone with the bus")
	}
	c.accessible("without a bus")
	c.shot("no-bus")

	s.http.CloseClientConnections()
	s.http.Config.Handler = http.NotFoundHandler()
	c.until("the page says that the console is away", 15*time.Second, func() bool {
		return ask[bool](c, `!document.querySelector("#offline").hidden`)
	})
	c.shot("no-console")

	// stale: a host that was heard of long ago
	c2 := serve(t, true)
	c2.story()
	c.open(c2.url + "/")
	if !strings.Contains(c.text("main"), "silent since") {
		t.Error("a silent host is not told")
	}
	c.accessible("alerts")
	c.shot("alerts")
	c.dark(true)
	c.accessible("alerts in the dark")
	c.shot("alerts-dark")
	c.open(c2.url + "/login")
	c.accessible("sign in")
	c.shot("login-dark")
}
