package migration

import "time"

// Pausing is the operators' last word on new moves, a pause or a resume; the zero Pausing
// is that nobody has said any.
type Pausing struct {
	Seq    uint64 // in the stream of acts
	Stored int64  // ns, by the servers' clock
	Paused bool
}

// PausingEvery is how often an actuator asks for the last word anew. With the time of an
// answer it is well within [HeartbeatLimit] and what it may be exceeded by.
const PausingEvery = 30 * time.Second

// Hear takes in a word as the stream delivers it.
func (p Pausing) Hear(w Pausing) Pausing {
	if w.Seq > p.Seq {
		return w
	}
	return p
}

// Anew takes in what the stream's leader holds as the last word. A server that loses what
// it has acknowledged gives its sequence again, and what has then been stored there no
// reader of the stream is sent who had read that far. It has been stored later; an answer
// from a replica that is behind has not.
func (p Pausing) Anew(last Pausing) Pausing {
	if last.Seq > p.Seq || last.Stored > p.Stored {
		return last
	}
	return p
}
