package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Calls of libvirt's remote protocol (src/remote/remote_protocol.x) that a gate is
// asked to watch for.
const (
	CallFinish3  = 306 // REMOTE_PROC_DOMAIN_MIGRATE_FINISH3_PARAMS
	CallConfirm3 = 307 // REMOTE_PROC_DOMAIN_MIGRATE_CONFIRM3_PARAMS
)

// Gate is a socket in front of a host's libvirtd. What goes through is passed on
// unchanged, until a fault is asked for: all connections end, or a call of one kind
// goes in and from then on nothing comes back.
type Gate struct {
	Socket string
	Meter  *CallMeter // set before anything goes through; may be nil

	to string
	l  net.Listener

	mute   atomic.Uint32 // the call whose reply is to be lost, 0 none
	onCall atomic.Pointer[func()]

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
	wg     sync.WaitGroup
}

// maxFrame is libvirt's own bound of a message (VIR_NET_MESSAGE_MAX).
const maxFrame = 32 << 20

// NewGate listens on a socket beside the host's own until Close.
func (h *Host) NewGate(name string) (*Gate, error) {
	g := &Gate{Socket: h.Socket + "." + name, to: h.Socket, conns: map[net.Conn]bool{}}
	if err := os.RemoveAll(g.Socket); err != nil {
		return nil, fmt.Errorf("host %s: gate: %w", h.Name, err)
	}
	var err error
	if g.l, err = net.Listen("unix", g.Socket); err != nil {
		return nil, fmt.Errorf("host %s: gate: %w", h.Name, err)
	}
	g.wg.Go(g.run)
	return g, nil
}

// URI is libvirt's way through the gate.
func (g *Gate) URI() string { return "qemu+unix:///system?socket=" + g.Socket }

// LoseReplies lets the next call of the kind go in and nothing come back over the
// connection that made it, which stays open. then, if not nil, is called once, when
// the call has been passed on.
func (g *Gate) LoseReplies(call uint32, then func()) {
	if then != nil {
		var once sync.Once
		f := func() { once.Do(then) }
		g.onCall.Store(&f)
	} else {
		g.onCall.Store(nil)
	}
	g.mute.Store(call)
}

// Heal ends LoseReplies: new connections are whole again.
func (g *Gate) Heal() { g.mute.Store(0) }

// Cut ends every connection that goes through now.
func (g *Gate) Cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		_ = c.Close() // its copying ends with an error, as meant
	}
}

// Close ends the gate and what goes through it.
func (g *Gate) Close() error {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	err := g.l.Close()
	g.Cut()
	g.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (g *Gate) run() {
	for {
		c, err := g.l.Accept()
		if err != nil {
			return // closed
		}
		g.wg.Go(func() { g.pass(c) })
	}
}

// keep remembers a connection so that Cut finds it; false when the gate has closed.
func (g *Gate) keep(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.conns[c] = true
	}
	return !g.closed
}

func (g *Gate) pass(c net.Conn) {
	d, err := net.Dial("unix", g.to)
	if err != nil { // the daemon is dead: so is the gate
		_ = c.Close()
		return
	}
	var muted atomic.Bool
	var open atomic.Int64 // calls without a reply
	var both sync.WaitGroup
	if g.keep(c) && g.keep(d) {
		both.Go(func() {
			g.requests(c, d, &muted, &open)
			_ = c.Close()
			_ = d.Close()
		})
		both.Go(func() {
			g.replies(d, c, &muted, &open)
			if !muted.Load() {
				_ = c.Close()
			}
			_ = d.Close()
		})
	}
	both.Wait()
	g.Meter.add(-open.Load())
	_ = c.Close()
	_ = d.Close()
	g.mu.Lock()
	delete(g.conns, c)
	delete(g.conns, d)
	g.mu.Unlock()
}

// header are the first bytes of a message that a gate looks at: its length, then
// program, version, procedure, type, each of 4 bytes, big-endian.
const header = 20

// Types of messages (virnetprotocol.x).
const (
	typeCall  = 0
	typeReply = 1
)

// frame reads one whole message into buf, which it lets grow.
func frame(from io.Reader, buf []byte) ([]byte, int, error) {
	if _, err := io.ReadFull(from, buf[:4]); err != nil {
		return buf, 0, err
	}
	n := int(binary.BigEndian.Uint32(buf))
	if n < header || n > maxFrame {
		return buf, 0, fmt.Errorf("gate: a message of %d bytes", n)
	}
	if n > len(buf) {
		buf = append(buf, make([]byte, n-len(buf))...)
	}
	_, err := io.ReadFull(from, buf[4:n])
	return buf, n, err
}

func (g *Gate) requests(from io.Reader, to io.Writer, muted *atomic.Bool, open *atomic.Int64) {
	buf := make([]byte, 64<<10)
	for {
		var n int
		var err error
		if buf, n, err = frame(from, buf); err != nil {
			return
		}
		hit := false
		if call := binary.BigEndian.Uint32(buf[12:]); call != 0 && g.mute.CompareAndSwap(call, 0) {
			muted.Store(true)
			hit = true
		}
		if binary.BigEndian.Uint32(buf[16:]) == typeCall {
			open.Add(1)
			g.Meter.add(1)
		}
		if _, err := to.Write(buf[:n]); err != nil && !hit {
			return
		}
		if f := g.onCall.Load(); hit && f != nil {
			(*f)()
		}
	}
}

func (g *Gate) replies(from io.Reader, to io.Writer, muted *atomic.Bool, open *atomic.Int64) {
	buf := make([]byte, 64<<10)
	for {
		var n int
		var err error
		if buf, n, err = frame(from, buf); err != nil {
			return
		}
		if muted.Load() {
			continue
		}
		if binary.BigEndian.Uint32(buf[16:]) == typeReply { // before it goes on: who has the reply finds it counted
			open.Add(-1)
			g.Meter.add(-1)
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// CallMeter adds up the time in which at least one call of libvirt was under way
// through the gates that share it.
type CallMeter struct {
	mu    sync.Mutex
	n     int64
	since time.Time
	total time.Duration
}

func (m *CallMeter) add(n int64) {
	if m == nil || n == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.n > 0 {
		m.total += now.Sub(m.since)
	}
	m.n, m.since = m.n+n, now
}

// Total so far.
func (m *CallMeter) Total() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n > 0 {
		return m.total + time.Since(m.since)
	}
	return m.total
}
