package streams

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"

	"github.com/foreshift/foreshift/schemas"
)

// traceOf is the W3C trace context of a message. It is made of ids alone, so that whoever
// sees a command can name its trace, and nothing has to be carried along: all that is
// said of one move - the command, progress, outcome and effect - is one trace, that of
// the command's id; and all that is made of one base step - the closed steps, forecasts
// and pressures - is one, that of the step. Any other message is the trace of
// its own content id. It is for people and their tools; nobody decides by it.
//
// A decision has thousands of causes, so that no trace holds both the samples and the
// move. What joins them is [schemas.HeaderSeen]: with it one goes from an effect to its
// command (same trace), the command's plan, the forecasts that the plan had seen, and the
// samples that those had seen.
func traceOf(o Out) string {
	trace := o.ID
	switch m := o.Msg.(type) {
	case *schemas.Command:
		trace = string(m.ID)
	case *schemas.Outcome:
		trace = string(m.Command)
	case *schemas.Effect:
		trace = string(m.Command)
	case *schemas.Progress:
		trace = string(m.Command)
	case *schemas.Steps:
		trace = stepTrace(m.Step)
	case *schemas.Forecasts:
		trace = stepTrace(m.Issued)
	case *schemas.PressureVM:
		trace = stepTrace(m.Issued)
	case *schemas.PressureHost:
		trace = stepTrace(m.Issued)
	}
	if trace == "" {
		trace = o.Subject
	}
	span := sha256.Sum256([]byte(o.Subject + "\x00" + o.ID))
	return "00-" + TraceID(trace) + "-" + hex.EncodeToString(span[:8]) + "-01"
}

// TraceID is the trace of a command, as logs and headers have it: 32 hexadecimal digits.
func TraceID(id string) string {
	sum := sha256.Sum256([]byte("foreshift\x00" + id))
	return hex.EncodeToString(sum[:16])
}

func stepTrace(s schemas.Step) string { return "step." + strconv.FormatInt(int64(s), 10) }

// seenOf writes a cut as a header has it.
func seenOf(c Cut) string {
	b := make([]byte, 0, 128)
	for _, stream := range slices.Sorted(maps.Keys(c.Seq)) {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(append(append(b, stream...), '='), c.Seq[stream], 10)
	}
	return string(b)
}
