package rpc

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	progRemote    = 0x20008086
	progKeepAlive = 0x6b656570

	typeCall    = 0
	typeReply   = 1
	typeMessage = 2

	headLen      = 28       // length word and header
	maxPacket    = 32 << 20 // VIR_NET_MESSAGE_MAX
	readChunk    = 64 << 10 // memory given to a packet before its bytes arrived
	maxQueued    = 16 << 20 // bytes waiting for a client that does not read
	maxInFlight  = 32       // blocking calls of one connection
	writeTimeout = 10 * time.Second
)

// ErrNoReply makes a call end without any reply, as when the daemon died.
var ErrNoReply = errors.New("no reply")

// Handler serves the calls of many connections, concurrently.
type Handler interface {
	// Call serves one call: it reads its arguments from d and appends its result
	// to e. An [*Error] becomes an error reply; [ErrNoReply] none; any other error
	// an internal one. Neither d nor e may be kept.
	Call(c *Conn, p Proc, d *Decoder, e *Encoder) error
	// Blocks says that the call may take long and gets a goroutine of its own.
	Blocks(c *Conn, p Proc) bool
	// Closed tells that the connection is gone, whoever ended it. It is called
	// exactly once a connection, before Stop returns.
	Closed(c *Conn)
}

// Server is one listener and its connections: one libvirt daemon.
type Server struct {
	h  Handler
	ln net.Listener

	mu      sync.Mutex
	conns   map[*Conn]struct{}
	stopped bool
	wg      sync.WaitGroup
}

// Start serves ln in the background until [Server.Stop].
func Start(ln net.Listener, h Handler) *Server {
	s := &Server{h: h, ln: ln, conns: map[*Conn]struct{}{}}
	s.wg.Add(1)
	go s.accept()
	return s
}

// Stop closes the listener and every connection, and waits until all goroutines
// of the server have ended. Blocking calls must be ended by the handler's Closed.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	_ = s.ln.Close() // the accept loop ends on it; there is nothing else to do about a failed close
	s.CloseAll()
	s.wg.Wait()
}

// CloseAll closes every connection there is; new ones are still taken.
func (s *Server) CloseAll() {
	s.mu.Lock()
	conns := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors: wait for some to be freed
			continue
		}
		c := &Conn{nc: nc, srv: s, done: make(chan struct{})}
		s.mu.Lock()
		if s.stopped {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.conns[c] = struct{}{}
		s.wg.Add(1)
		s.mu.Unlock()
		go c.serve()
	}
}

// Conn is one client's connection.
type Conn struct {
	nc   net.Conn
	srv  *Server
	head [headLen]byte

	inFlight atomic.Int32
	done     chan struct{}

	mu       sync.Mutex
	out      []*[]byte
	pending  int // bytes queued or being written
	flushing bool
	dead     bool

	// Callbacks are the events the client asked for, kept by the handler under
	// its own lock.
	Callbacks []Callback
	// NextCallback numbers them.
	NextCallback int32
}

// Callback is one registration for events; All is set when it names no domain.
type Callback struct {
	ID, Event int32
	All       bool
	Domain    UUID
}

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Close ends the connection; its goroutine then tells the handler.
func (c *Conn) Close() {
	c.mu.Lock()
	if !c.dead {
		close(c.done)
	}
	c.dead = true
	c.out = nil
	c.mu.Unlock()
	_ = c.nc.Close() // closing twice is harmless, and a failed close has no remedy
}

var pool = sync.Pool{New: func() any { b := make([]byte, 0, 512); return &b }}

func putBuffer(b *[]byte) {
	if cap(*b) <= readChunk {
		*b = (*b)[:0]
		pool.Put(b)
	}
}

type header struct {
	Prog, Vers, Proc, Type, Serial, Status uint32
}

func (c *Conn) serve() {
	defer c.srv.wg.Done()
	var calls sync.WaitGroup
	c.read(&calls)
	c.Close()
	c.srv.mu.Lock()
	delete(c.srv.conns, c)
	c.srv.mu.Unlock()
	c.srv.h.Closed(c)
	calls.Wait()
}

// read serves packets until the connection ends or sends what is none.
func (c *Conn) read(calls *sync.WaitGroup) {
	for {
		if _, err := io.ReadFull(c.nc, c.head[:]); err != nil {
			return
		}
		be := binary.BigEndian
		n := int(be.Uint32(c.head[0:]))
		if n < headLen || n > maxPacket {
			return
		}
		h := header{be.Uint32(c.head[4:]), be.Uint32(c.head[8:]), be.Uint32(c.head[12:]),
			be.Uint32(c.head[16:]), be.Uint32(c.head[20:]), be.Uint32(c.head[24:])}
		body := pool.Get().(*[]byte)
		if err := readBody(c.nc, body, n-headLen); err != nil {
			return
		}
		if !c.packet(h, body, calls) {
			return
		}
	}
}

// readBody reads n bytes into b, giving memory only as bytes arrive.
func readBody(r io.Reader, b *[]byte, n int) error {
	for len(*b) < n {
		at := len(*b)
		step := min(n-at, max(readChunk, at))
		if cap(*b) < at+step {
			grown := make([]byte, at, at+step)
			copy(grown, *b)
			*b = grown
		}
		*b = (*b)[:at+step]
		if _, err := io.ReadFull(r, (*b)[at:]); err != nil {
			return err
		}
	}
	return nil
}

// packet serves one packet and says whether the connection goes on.
func (c *Conn) packet(h header, body *[]byte, calls *sync.WaitGroup) bool {
	switch {
	case h.Prog == progKeepAlive && h.Type == typeMessage:
		putBuffer(body)
		if h.Proc == 1 { // PING asks for PONG
			c.send(header{progKeepAlive, 1, 2, typeMessage, 0, 0}, nil)
		}
		return true
	case h.Type != typeCall:
		return false
	case h.Prog != progRemote || h.Vers != 1:
		c.reply(h, nil, &Error{Code: CodeRPC, From: fromRPC, Message: "Cannot find the requested program"})
		putBuffer(body)
		return true
	case !c.srv.h.Blocks(c, Proc(h.Proc)):
		c.call(h, body)
		return true
	case c.inFlight.Load() >= maxInFlight:
		c.reply(h, nil, &Error{Code: CodeRPC, From: fromRPC, Message: "too many calls in flight"})
		putBuffer(body)
		return true
	}
	c.inFlight.Add(1)
	calls.Add(1)
	go func() {
		defer calls.Done()
		defer c.inFlight.Add(-1)
		c.call(h, body)
	}()
	return true
}

func (c *Conn) call(h header, body *[]byte) {
	d := Decoder{b: *body}
	out := pool.Get().(*[]byte)
	e := Encoder{B: append((*out)[:0], make([]byte, headLen)...)}
	err := c.srv.h.Call(c, Proc(h.Proc), &d, &e)
	putBuffer(body)
	*out = e.B
	if errors.Is(err, ErrNoReply) {
		putBuffer(out)
		return
	}
	c.reply(h, out, err)
}

// UnknownProcedure is the answer to a call that the server does not serve. Its
// text and domain make real libvirt clients and go-libvirt report "not supported".
func UnknownProcedure(p Proc) *Error {
	return &Error{Code: CodeRPC, From: fromRemote, Message: "unknown procedure: " + itoa(uint32(p))}
}

func itoa(v uint32) string {
	var b [10]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + v%10)
		if v /= 10; v == 0 {
			return string(b[i:])
		}
	}
}

// reply queues the answer to h: out, which starts with room for the header, or an
// error.
func (c *Conn) reply(h header, out *[]byte, err error) {
	h.Type, h.Status = typeReply, 0
	if err != nil {
		var le *Error
		if !errors.As(err, &le) {
			le = &Error{Code: CodeRPC, From: fromRPC, Message: err.Error()}
		}
		if out == nil {
			out = pool.Get().(*[]byte)
		}
		e := Encoder{B: append((*out)[:0], make([]byte, headLen)...)}
		encodeError(&e, le)
		*out, h.Status = e.B, 1
	}
	c.queue(h, out)
}

// Send queues an event: a message of the remote program. fill may be nil.
func (c *Conn) Send(p Proc, fill func(*Encoder)) {
	c.send(header{progRemote, 1, uint32(p), typeMessage, 0, 0}, fill)
}

func (c *Conn) send(h header, fill func(*Encoder)) {
	out := pool.Get().(*[]byte)
	e := Encoder{B: append((*out)[:0], make([]byte, headLen)...)}
	if fill != nil {
		fill(&e)
	}
	*out = e.B
	c.queue(h, out)
}

// queue completes the packet and hands it to the connection's writer, which runs
// only while there is something to write.
func (c *Conn) queue(h header, out *[]byte) {
	be, b := binary.BigEndian, *out
	for i, v := range [...]uint32{uint32(len(b)), h.Prog, h.Vers, h.Proc, h.Type, h.Serial, h.Status} {
		be.PutUint32(b[4*i:], v)
	}
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		putBuffer(out)
		return
	}
	if c.pending > 0 && c.pending+len(b) > maxQueued {
		c.mu.Unlock()
		putBuffer(out)
		c.Close()
		return
	}
	c.pending += len(b)
	c.out = append(c.out, out)
	start := !c.flushing
	c.flushing = true
	c.mu.Unlock()
	if start {
		// Only called from goroutines that the server waits for, or by the handler's
		// event delivery, which a closed connection ignores.
		go c.flush()
	}
}

func (c *Conn) flush() {
	for {
		c.mu.Lock()
		batch := c.out
		c.out = nil
		if len(batch) == 0 || c.dead {
			c.flushing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		err := c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
		written := 0
		for _, b := range batch {
			if err == nil {
				_, err = c.nc.Write(*b)
			}
			written += len(*b)
			putBuffer(b)
		}
		c.mu.Lock()
		c.pending -= written
		c.mu.Unlock()
		if err != nil {
			c.Close()
		}
	}
}
