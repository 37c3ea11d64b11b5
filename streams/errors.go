package streams

import "errors"

// What callers branch on.
var (
	// ErrLostRace: another writer was first under the filter of an [Expect].
	ErrLostRace = errors.New("lost race: another writer was first")
	// ErrMissing: a stream, bucket or consumer does not exist.
	ErrMissing = errors.New("missing on the bus, or without a leader: look with `foreshift streams diff`, and run `foreshift streams apply` if it is missing")
	// ErrNoRoute: the role has no connection to the account of the subject.
	ErrNoRoute = errors.New("the role has no connection to that account")
	// ErrDenied: the server refused it to the role.
	ErrDenied = errors.New("not permitted to the role")
	// ErrUnreachable: nobody answered a request in time.
	ErrUnreachable = errors.New("unreachable: no answer")
	// ErrTooLarge: the message is above the stream's bound.
	ErrTooLarge = errors.New("message too large")
	// ErrNoSigner: a message that must be signed, and a role that holds no key.
	ErrNoSigner = errors.New("the role holds no signing key")
	// ErrNotFound: there is no such message.
	ErrNotFound = errors.New("no message found")
)
