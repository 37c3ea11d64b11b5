package streams

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/foreshift/foreshift/schemas"
)

// traceOf is the W3C trace context of a message. It is made of ids alone, so that whoever
// sees a command can name its trace, and nothing has to be carried along: all that is
// said of one move - the command, progress, outcome and effect - is one trace, that of
// the command's id. Any other message is the trace of
// its own content id. It is for people and their tools; nobody decides by it.
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
