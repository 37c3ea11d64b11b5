package streams

import (
	"regexp"
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// TestOneMoveIsOneTrace: what is said of a move has one trace id and spans of its own,
// in the form of W3C trace contexts.
func TestOneMoveIsOneTrace(t *testing.T) {
	form := regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-01$`)
	spans, of := map[string]bool{}, ""
	for _, o := range []Out{
		{Subject: "migrations.v.command.a.b", ID: "c-1", Msg: &schemas.Command{ID: "c-1"}},
		{Subject: "migrations.v.outcome.a", ID: "outcome.c-1", Msg: &schemas.Outcome{Command: "c-1"}},
		{Subject: "migrations.v.effect", ID: "effect.c-1", Msg: &schemas.Effect{Command: "c-1"}},
		{Subject: "progress.v", Msg: &schemas.Progress{Command: "c-1"}},
	} {
		m := form.FindStringSubmatch(traceOf(o))
		if m == nil {
			t.Fatalf("%s: %s", o.Subject, traceOf(o))
		}
		if of == "" {
			of = m[1]
		}
		if m[1] != of || m[1] != TraceID("c-1") || spans[m[2]] {
			t.Errorf("%s: trace %s span %s", o.Subject, m[1], m[2])
		}
		spans[m[2]] = true
	}
	if other := form.FindStringSubmatch(traceOf(Out{Subject: "metrics.h", ID: "h.1", Msg: &schemas.Metrics{}})); other[1] == of {
		t.Error("a sample is in the trace of a move")
	}
}
