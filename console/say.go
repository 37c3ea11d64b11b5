package console

import (
	"context"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/nats-io/nuid"
)

// sayTimeout bounds how long a person waits for a word to be recorded.
const sayTimeout = 10 * time.Second

// Say publishes an act in the name of by, signed with the key of the bus's role, and
// gives its sequence. It is what the command line and the page do alike; the act's
// id, author and time are set here.
func Say(ctx context.Context, bus *streams.Bus, by string, a *schemas.Act) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, sayTimeout)
	defer cancel()
	a.ID, a.By, a.Time = nuid.Next(), by, schemas.At(time.Now())
	return bus.Publish(ctx, streams.Out{Subject: streams.SubjectAct(a.Act), ID: a.ID, Msg: a})
}
