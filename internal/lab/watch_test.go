package lab

import (
	"testing"
	"time"
)

func TestParseState(t *testing.T) {
	for text, want := range map[string]State{
		"running": StateRunning, "idle": StateRunning, "paused": StatePaused, "shut off": StateOff, "crashed": StateOff,
		"error: failed to get domain '11111111-0000-4000-8000-000000000001'": StateAbsent,
		"error: failed to connect to the hypervisor":                         StateUnknown,
		"": StateUnknown, "in shutdown": StateUnknown,
	} {
		if got := parseState([]string{text}); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// Two hosts are never asked at the same instant: what two answers "running" mean
// depends on what a second question shows.
func TestWatchTellsTwoCopiesFromAMove(t *testing.T) {
	const r, p, a, u = StateRunning, StatePaused, StateAbsent, StateUnknown
	for _, c := range []struct {
		name    string
		answers [][]State
		want    WatchReport
	}{
		{"at rest", [][]State{{r, a, a}, {r, a, a}}, WatchReport{Looks: 2, MaxRunning: 1}},
		{"a clean move", [][]State{{r, a, a}, {p, p, a}, {p, r, a}, {a, r, a}}, WatchReport{Looks: 4, MaxRunning: 1, None: 1}},
		{"moved between two answers", [][]State{{r, r, a}, {p, r, a}}, WatchReport{Looks: 1, MaxRunning: 1, Skewed: 1}},
		{"two copies", [][]State{{r, r, a}, {r, r, a}}, WatchReport{Looks: 1, MaxRunning: 2}},
		{"three copies", [][]State{{r, r, r}, {r, r, r}}, WatchReport{Looks: 1, MaxRunning: 3}},
		{"two of three stay", [][]State{{r, r, r}, {a, r, r}}, WatchReport{Looks: 1, MaxRunning: 2}},
		{"lost", [][]State{{a, a, a}}, WatchReport{Looks: 1, None: 1}},
		{"not lost: one host does not answer", [][]State{{a, u, a}}, WatchReport{Looks: 1, Unknown: 1}},
	} {
		w := &Watcher{}
		i := 0
		for i < len(c.answers) {
			w.look(time.Unix(int64(i), 0), func() []State { i++; return c.answers[i-1] })
		}
		got := w.Report()
		if got.Looks != c.want.Looks || got.MaxRunning != c.want.MaxRunning || got.None != c.want.None || got.Unknown != c.want.Unknown || got.Skewed != c.want.Skewed {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}
