package libvirt

import (
	"context"
	"net"
	"sync"
	"time"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/schemas"
)

const connectLimit = 5 * time.Second

// Limits are the deadlines of calls. They are real time. Those of a phase leave
// room for a daemon that starts or ends a QEMU process on a busy machine.
type Limits struct {
	Quick time.Duration // looks and settings
	Phase time.Duration // Begin3, Prepare3, Finish3, Confirm3, Resume, Destroy
}

// DefaultLimits are those that [Open] uses.
var DefaultLimits = Limits{Quick: 10 * time.Second, Phase: 20 * time.Second}

// conn is one connection to a daemon.
type conn struct {
	l    *lv.Libvirt
	nc   *framed
	lim  Limits
	here bool // its daemon runs on this machine: its paths are this process's too
	once sync.Once
}

type dialed struct{ c net.Conn }

func (d dialed) Dial() (net.Conn, error) { return d.c, nil }

// connect dials and opens the driver.
func connect(ctx context.Context, t target, lim Limits) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	nc, err := t.dial(ctx)
	if err != nil {
		return nil, &Error{Op: "connect to " + t.address, Class: Lost, Err: err}
	}
	c := &conn{l: lv.NewWithDialer(dialed{nc}), nc: nc, lim: lim, here: t.network == "unix"}
	_, err = call(ctx, c, "open "+t.driver, connectLimit, func() (struct{}, error) {
		return struct{}{}, c.l.ConnectToURI(lv.ConnectURI(t.driver))
	})
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// close ends the connection at once: the daemon cleans up what was bound to it.
func (c *conn) close() {
	c.once.Do(func() {
		// An error here means that it was closed already.
		_ = c.nc.Close()
	})
}

// alive reports whether the connection still stood a moment ago.
func (c *conn) alive() bool {
	select {
	case <-c.nc.gone:
		return false
	default:
		return true
	}
}

// call runs one call of go-libvirt under a deadline. When it passes, or ctx ends,
// the connection is closed and the result is unknown.
func call[T any](ctx context.Context, c *conn, op string, limit time.Duration, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	var zero T
	select {
	case r := <-done:
		return r.v, classify(op, r.err)
	case <-t.C:
		c.close()
		return zero, &Error{Op: op, Class: TimedOut, Err: context.DeadlineExceeded}
	case <-ctx.Done():
		c.close()
		return zero, &Error{Op: op, Class: TimedOut, Err: context.Cause(ctx)}
	}
}

// do is call for what returns nothing else.
func do(ctx context.Context, c *conn, op string, limit time.Duration, f func() error) error {
	_, err := call(ctx, c, op, limit, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

func (c *conn) lookup(ctx context.Context, vm schemas.VMID) (lv.Domain, error) {
	return call(ctx, c, "look up "+vm.String(), c.lim.Quick, func() (lv.Domain, error) {
		return c.l.DomainLookupByUUID(lv.UUID(vm))
	})
}
