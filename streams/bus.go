package streams

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// Conn is a connection to one account.
type Conn struct {
	NC *nats.Conn
	JS jetstream.JetStream

	denials denials
}

// Bus is what a service holds of the bus: the connections its role has, and its
// signing key. Its methods may be called by several goroutines.
type Bus struct {
	Role             string
	Tel, Ctrl, Audit *Conn         // nil where the role has none
	Signer           nkeys.KeyPair // nil: may not sign
	Authorities      *Authorities  // pinned keys; nil: none is trusted
	Log              *slog.Logger

	dir     string
	signer  string // public part of Signer
	metrics *metrics
	writes  writes
}

// Credentials say where the bus is and where a role's keys are kept.
type Credentials struct {
	URL  string
	Role string
	Dir  string // holds creds/<role>.<ACCOUNT>.nk, creds/<role>.sign.nk and authorities.json
	Log  *slog.Logger
	TLS  TLSFiles // beyond what lies beside the keys
}

// TLSFiles name what TLS to the bus needs; each may be empty.
type TLSFiles struct {
	CA   string // certificate of the authority that signed the servers'
	Cert string // of ours, where servers ask for one, with Key
	Key  string
}

// Limits of a connection. They are real time: they bound how long a service waits
// for the bus, whatever the base step.
const (
	connectTimeout = 5 * time.Second
	publishTimeout = 5 * time.Second
	asyncInFlight  = 1024
	asyncStall     = 10 * time.Second
	asyncTimeout   = 15 * time.Second
)

// Connect opens the connections of a role. It fails when the bus cannot be
// reached now; once connected it reconnects for ever.
func Connect(ctx context.Context, c Credentials) (*Bus, error) {
	if _, err := roleOf(c.Role); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	b := &Bus{Role: c.Role, Log: c.Log, dir: c.Dir, metrics: newMetrics()}
	if b.Log == nil {
		b.Log = slog.Default()
	}
	for _, a := range AccountsOf(c.Role) {
		conn, err := dial(ctx, c, a, b.Log)
		if err != nil {
			b.Close()
			return nil, fmt.Errorf("connect as %s to %s: %w", c.Role, a, err)
		}
		switch a {
		case Tel:
			b.Tel = conn
		case Ctrl:
			b.Ctrl = conn
		case AuditTrail:
			b.Audit = conn
		}
	}
	if err := b.loadKeys(c); err != nil {
		b.Close()
		return nil, fmt.Errorf("connect as %s: %w", c.Role, err)
	}
	return b, nil
}

func (b *Bus) loadKeys(c Credentials) error {
	if Signs(c.Role) {
		kp, err := ReadSeed(SigningFile(c.Dir, c.Role))
		if err != nil {
			return err
		}
		if b.signer, err = kp.PublicKey(); err != nil {
			return fmt.Errorf("signing key: %w", err)
		}
		b.Signer = kp
	}
	a, err := LoadAuthorities(filepath.Join(c.Dir, FileAuthorities))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	b.Authorities = a
	return nil
}

func dial(ctx context.Context, c Credentials, a Account, log *slog.Logger) (*Conn, error) {
	kp, err := ReadSeed(SeedFile(c.Dir, c.Role, a))
	if err != nil {
		return nil, err
	}
	pub, err := kp.PublicKey()
	if err != nil {
		return nil, err
	}
	conn := &Conn{}
	log = log.With("role", c.Role, "account", string(a))
	timeout := connectTimeout
	if d, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(d))
	}
	guard, err := secure(c)
	if err != nil {
		return nil, err
	}
	conn.NC, err = nats.Connect(c.URL, append(guard,
		nats.Nkey(pub, kp.Sign),
		nats.Name("foreshift "+c.Role),
		nats.CustomInboxPrefix(InboxPrefix(c.Role)),
		nats.Timeout(timeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectBufSize(16<<20),
		nats.PermissionErrOnSubscribe(true),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("bus disconnected", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("bus reconnected") }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if conn.denials.note(err) {
				return // a waiting caller was told
			}
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("bus error", "subject", subject, "err", err)
		}),
	)...)
	if err != nil {
		return nil, err
	}
	conn.JS, err = jetstream.New(conn.NC,
		jetstream.WithPublishAsyncMaxPending(asyncInFlight),
		jetstream.WithPublishAsyncTimeout(asyncTimeout),
		jetstream.WithDefaultTimeout(publishTimeout))
	if err != nil {
		conn.NC.Close()
		return nil, err
	}
	return conn, nil
}

// Close ends the connections; what was published is sent first.
func (b *Bus) Close() {
	for _, c := range []*Conn{b.Tel, b.Ctrl, b.Audit} {
		if c == nil {
			continue
		}
		if !c.NC.IsClosed() && c.NC.IsConnected() {
			if err := c.NC.FlushTimeout(time.Second); err != nil {
				b.Log.Warn("bus not flushed at close", "role", b.Role, "err", err)
			}
		}
		c.NC.Close()
	}
}

// conn gives the connection to an account.
func (b *Bus) conn(a Account) (*Conn, error) {
	var c *Conn
	switch a {
	case Tel:
		c = b.Tel
	case Ctrl:
		c = b.Ctrl
	case AuditTrail:
		c = b.Audit
	}
	if c == nil {
		return nil, fmt.Errorf("role %s, account %s: %w", b.Role, a, ErrNoRoute)
	}
	return c, nil
}

// Ready reports whether all connections of the role stand, and whether what was published
// last was stored.
func (b *Bus) Ready() error {
	for _, a := range AccountsOf(b.Role) {
		c, err := b.conn(a)
		if err != nil {
			return err
		}
		if !c.NC.IsConnected() {
			return fmt.Errorf("role %s, account %s: not connected to %s", b.Role, a, c.NC.ConnectedUrlRedacted())
		}
	}
	return b.writes.check(time.Now())
}
