package streams

import (
	"strings"
	"testing"
)

// FuzzSubject: whatever a subject looks like, it belongs to one stream of the table or
// is refused; what a role may write is a part of that; matching never panics and agrees
// with a slow one.
func FuzzSubject(f *testing.F) {
	for _, s := range []string{"metrics.h1", "steps.63", "migrations.3f1c8a52-0000-4000-8000-000000000072.command.a.b", "acts.pause", "dlq.METRICS", "dlq.", "$KV.policy.current", "audit.MIGRATIONS", ".", "a..b", "*", ">", "metrics.>", "\x00", strings.Repeat("a.", 300)} {
		f.Add(s, "metrics.*")
	}
	f.Add("a.b.c", "a.>")
	f.Fuzz(func(t *testing.T, subject, pattern string) {
		r, err := routeOf(subject)
		if err == nil {
			if r.stream == nil || r.kind == "" {
				t.Fatalf("%q: no stream", subject)
			}
			in := false
			for _, p := range r.stream.patterns() {
				in = in || slowMatch(p, subject)
			}
			if !in {
				t.Fatalf("%q is not in %s", subject, r.stream.Name)
			}
		}
		if got, want := matches(pattern, subject), slowMatch(pattern, subject); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, subject, got, want)
		}
	})
}

// slowMatch is the rule of NATS, token by token.
func slowMatch(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, w := range p {
		if w == ">" {
			return i < len(s) && strings.Join(s[i:], ".") != ""
		}
		if i >= len(s) || s[i] == "" || w != "*" && w != s[i] {
			return false
		}
	}
	return len(p) == len(s)
}

// FuzzSnapshot: a damaged snapshot is refused, and costs no more memory than it may.
func FuzzSnapshot(f *testing.F) {
	body, err := snapshotBody(Cut{Now: 1, Seq: map[string]uint64{"METRICS": 7}}, func(b []byte) []byte { return append(b, "state"...) })
	if err != nil {
		f.Fatal(err)
	}
	good, err := encodeSnapshot(body)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(snapshotMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<12 {
			return
		}
		if s, err := decodeSnapshot(b); err == nil && string(s.state) != "state" && len(s.state) > len(b)*mostDeflate {
			t.Fatalf("%d bytes of %d", len(s.state), len(b))
		}
	})
}
