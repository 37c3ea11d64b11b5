package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func drawParam(t *rapid.T) Param {
	k := rapid.StringN(0, 12, -1).Draw(t, "field")
	switch rapid.IntRange(1, 7).Draw(t, "type") {
	case TypeInt:
		return Int(k, rapid.Int32().Draw(t, "v"))
	case TypeUint:
		return Uint(k, rapid.Uint32().Draw(t, "v"))
	case TypeLlong:
		return Llong(k, rapid.Int64().Draw(t, "v"))
	case TypeUllong:
		return Ullong(k, rapid.Uint64().Draw(t, "v"))
	case TypeDouble:
		return Double(k, rapid.Float64().Draw(t, "v"))
	case TypeBoolean:
		return Boolean(k, rapid.Bool().Draw(t, "v"))
	default:
		return String(k, rapid.String().Draw(t, "v"))
	}
}

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ps := rapid.SliceOfN(rapid.Custom(drawParam), 0, 9).Draw(t, "params")
		dom := Domain{Name: rapid.String().Draw(t, "name"), ID: rapid.Int32().Draw(t, "id")}
		raw := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "bytes")
		var opt *string
		if rapid.Bool().Draw(t, "present") {
			opt = &dom.Name
		}
		var e Encoder
		e.Params(ps)
		e.Domain(dom)
		e.Bytes(raw)
		e.Opt(opt)
		e.Pool(Pool{Name: dom.Name})
		if len(e.B)%4 != 0 {
			t.Fatalf("%d bytes: XDR comes in fours", len(e.B))
		}
		d := NewDecoder(e.B)
		got := d.Params()
		if len(got) != len(ps) {
			t.Fatalf("%d parameters, want %d: %v", len(got), len(ps), d.Err())
		}
		for i := range ps {
			if got[i] != ps[i] {
				t.Fatalf("parameter %+v, want %+v", got[i], ps[i])
			}
		}
		if g := d.Domain(); g != dom {
			t.Fatalf("domain %+v, want %+v", g, dom)
		}
		if g := d.Bytes(); !bytes.Equal(g, raw) {
			t.Fatalf("bytes %x, want %x", g, raw)
		}
		if s, ok := d.Opt(); ok != (opt != nil) || ok && s != *opt {
			t.Fatalf("optional string %q, %v", s, ok)
		}
		if p := d.Pool(); p.Name != dom.Name || d.Err() != nil || d.Rest() != 0 {
			t.Fatalf("pool %q, %v, %d bytes left", p.Name, d.Err(), d.Rest())
		}
		// Any truncation is an error, never a panic.
		for cut := 0; cut < len(e.B); cut += 3 {
			d := NewDecoder(e.B[:cut])
			d.Params()
			d.Domain()
			d.Bytes()
			d.Opt()
			d.Pool()
			if !errors.Is(d.Err(), ErrMalformed) {
				t.Fatalf("cut at %d of %d: %v", cut, len(e.B), d.Err())
			}
		}
	})
}

func TestOptionalStringOfGoLibvirt(t *testing.T) {
	d := NewDecoder([]byte{1, 0, 0, 0, 0, 0, 0, 2, 'h', 'i', 0, 0})
	if s, ok := d.Opt(); !ok || s != "hi" || d.Err() != nil {
		t.Fatalf("%q %v %v", s, ok, d.Err())
	}
}

func FuzzDecoder(f *testing.F) {
	var e Encoder
	e.Params([]Param{Int("a", 1), String("b", "c"), Ullong("d", 9), Double("e", .5)})
	e.Domain(Domain{Name: "vm", ID: 3})
	e.Bytes([]byte("cookie"))
	f.Add(e.B)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 64, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		allocated := testing.AllocsPerRun(1, func() {
			for _, read := range []func(*Decoder) int{
				func(d *Decoder) int { return len(d.Params()) * 12 },
				func(d *Decoder) int { return len(d.Domains()) * 24 },
				func(d *Decoder) int { return len(d.Str()) },
				func(d *Decoder) int { return len(d.Bytes()) },
				func(d *Decoder) int { s, _ := d.Opt(); return len(s) },
				func(d *Decoder) int { return len(d.Domain().Name) },
			} {
				d := NewDecoder(b)
				if n := read(d); n > len(b) {
					t.Fatalf("%d bytes of values from %d bytes", n, len(b))
				}
				if d.Rest() > len(b) {
					t.Fatal("more is left than there was")
				}
			}
		})
		if allocated > float64(64+len(b)) {
			t.Fatalf("%.0f allocations for %d bytes", allocated, len(b))
		}
	})
}

// echo answers Lookup by name with the name, hangs in Perform and never answers
// Destroy.
type echo struct{ closed chan *Conn }

func (h echo) Blocks(_ *Conn, p Proc) bool { return p == DomainMigratePerform3Params }
func (h echo) Closed(c *Conn)              { h.closed <- c }
func (h echo) Call(c *Conn, p Proc, d *Decoder, e *Encoder) error {
	switch p {
	case DomainLookupByName:
		e.Str(d.Str())
		return d.Err()
	case DomainMigratePerform3Params:
		<-c.Done()
		return ErrNoReply
	case DomainDestroy:
		return ErrNoReply
	case DomainGetState:
		return errors.New("plain")
	case DomainSuspend:
		for i := 0; i < 2*maxQueued/(64<<10); i++ {
			c.Send(EventLifecycle, func(e *Encoder) { e.Fixed(make([]byte, 64<<10)) })
		}
		return nil
	}
	return UnknownProcedure(p)
}

func start(t *testing.T) (*Server, echo, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := echo{make(chan *Conn, 16)}
	s := Start(ln, h)
	t.Cleanup(s.Stop)
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // some tests have closed it
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return s, h, c
}

func write(t *testing.T, c net.Conn, prog, proc, typ, serial uint32, body []byte) {
	t.Helper()
	var e Encoder
	for _, v := range []uint32{uint32(headLen + len(body)), prog, 1, proc, typ, serial, 0} {
		e.U32(v)
	}
	if _, err := c.Write(append(e.B, body...)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, c net.Conn) (head [7]uint32, body []byte) {
	t.Helper()
	b := make([]byte, headLen)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	for i := range head {
		head[i] = binary.BigEndian.Uint32(b[4*i:])
	}
	body = make([]byte, head[0]-headLen)
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatal(err)
	}
	return head, body
}

func TestServer(t *testing.T) {
	_, h, c := start(t)
	var e Encoder
	e.Str("web-01")
	write(t, c, progRemote, uint32(DomainLookupByName), typeCall, 7, e.B)
	if head, body := read(t, c); head[5] != 7 || head[6] != 0 || !bytes.Equal(body, e.B) {
		t.Fatalf("%v %q", head, body)
	}
	write(t, c, progKeepAlive, 1, typeMessage, 0, nil)
	if head, _ := read(t, c); head[1] != progKeepAlive || head[3] != 2 {
		t.Fatalf("no pong: %v", head)
	}
	// A blocking call and one that never answers do not hold up the next.
	write(t, c, progRemote, uint32(DomainMigratePerform3Params), typeCall, 8, nil)
	write(t, c, progRemote, uint32(DomainDestroy), typeCall, 9, nil)
	for serial, want := range map[uint32]Code{10: CodeRPC, 11: CodeRPC, 12: CodeRPC} {
		proc, prog := uint32(9999), uint32(progRemote)
		if serial == 11 {
			proc = uint32(DomainGetState)
		}
		if serial == 12 {
			prog = 0x20008087
		}
		write(t, c, prog, proc, typeCall, serial, nil)
		head, body := read(t, c)
		if head[5] != serial || head[6] != 1 || Code(binary.BigEndian.Uint32(body)) != want {
			t.Fatalf("call %d: %v code %d", serial, head, binary.BigEndian.Uint32(body))
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-h.closed // the hanging call has ended with its connection
}

func TestTooManyCallsInFlight(t *testing.T) {
	_, _, c := start(t)
	for i := uint32(0); i <= maxInFlight; i++ {
		write(t, c, progRemote, uint32(DomainMigratePerform3Params), typeCall, i, nil)
	}
	if head, _ := read(t, c); head[6] != 1 || head[5] != maxInFlight {
		t.Fatalf("the call above the bound got %v", head)
	}
}

func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	_, h, c := start(t)
	write(t, c, progRemote, uint32(DomainSuspend), typeCall, 1, nil)
	select {
	case <-h.closed:
	case <-time.After(8 * time.Second):
		t.Fatal("32 MB of events are queued for a client that does not read")
	}
}

func TestStopEndsHalfPackets(t *testing.T) {
	s, _, c := start(t)
	if _, err := c.Write([]byte{1, 0, 0, 0, 0x20}); err != nil {
		t.Fatal(err)
	}
	s.Stop() // returns although the client owes the rest of its packet
}
