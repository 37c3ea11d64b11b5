package streams

import "github.com/foreshift/foreshift/schemas"

// Event is one message of a stream as a decider sees it.
type Event struct {
	Stream  string // METRICS, STEPS, ... or KV_<bucket>
	Seq     uint64 // its sequence in the stream
	Time    int64  // ns, stream time: when it was stored
	Subject string
	Lease   uint64 // revision of the writer's lease, 0 when it had none
	Msg     any    // a pointer to a valid message of schemas; nil for a removed key
}

// Cut is what a decision had seen. It is recorded with every output, and replay
// folds exactly to it.
type Cut = schemas.Cut

// Expect is the optimistic lock of an [Out]: publishing succeeds only if the last
// message under Filter still has sequence Seq (0: there is none).
type Expect struct {
	Filter string
	Seq    uint64
}

// Out is a message that a decision wants published. ID is a content id: the same
// decision gives the same id, so that doubles fall out on the bus and downstream.
type Out struct {
	Subject string
	ID      string
	Msg     schemas.Message
	Lease   uint64
	Expect  *Expect

	seen string // set by the shell, see schemas.HeaderSeen
}

// Decider is a service's pure heart: it is told everything, time included, and
// touches nothing. State is kept per stream; streams meet only in Tick. The same
// decider runs live, in replay, in simulation and in backtests.
type Decider interface {
	// Apply folds one event. An error condemns the message, not the decider: the
	// shell counts it and writes a dead letter.
	Apply(Event) error
	// Tick decides on all that was applied up to the cut.
	Tick(Cut) []Out
	// AppendSnapshot appends the whole state to b; Restore takes it back.
	AppendSnapshot(b []byte) []byte
	Restore(b []byte) error
}
