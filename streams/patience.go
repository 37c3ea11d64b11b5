package streams

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// patientPause keeps the questions of a service that begins apart.
const patientPause = 250 * time.Millisecond

// patiently asks until there is an answer, good or bad, or ctx ends: a service that
// begins while a stream has no leader waits for one instead of ending. Each question has
// a time of its own, for an answer may be lost. Only silence and the servers' own "not
// now" are no answer; a missing stream and a refusal are. What a person waits for is
// asked once.
func patiently[T any](ctx context.Context, b *Bus, what string, ask func(context.Context) (T, error)) (T, error) {
	for {
		limited, cancel := context.WithTimeout(ctx, publishTimeout)
		got, err := ask(limited)
		cancel()
		if err == nil || ctx.Err() != nil || !silent(err) {
			return got, err
		}
		b.Log.Warn("the bus does not answer yet: asking again", "role", b.Role, "for", what, "err", err)
		pause(ctx, patientPause)
	}
}

// silent tells an error by which nothing was said about what was asked for.
func silent(err error) bool {
	var api *jetstream.APIError
	var watch *nats.APIError // watches of a bucket speak the older interface
	code, why := 0, jetstream.ErrorCode(0)
	switch {
	case errors.As(err, &api):
		code, why = api.Code, api.ErrorCode
	case errors.As(err, &watch):
		code, why = watch.Code, jetstream.ErrorCode(watch.ErrorCode)
	default:
		return !errors.Is(err, ErrMissing) && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout))
	}
	return code == http.StatusServiceUnavailable && why != jetstream.JSErrCodeJetStreamNotEnabledForAccount && why != jetstream.JSErrCodeJetStreamNotEnabled
}
