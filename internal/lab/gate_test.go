package lab

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// message is a call's, of the kind that libvirt sends.
func message(call uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, header)
	for _, v := range []uint32{0x20008086, 1, call, typeCall} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// A gate passes messages on whole; asked to, it loses the replies from one call on,
// for that connection only; and a cut ends what goes through.
func TestGate(t *testing.T) {
	defer goleak.VerifyNone(t)
	h := &Host{Name: "h1", Socket: filepath.Join(t.TempDir(), "s")}
	l, err := net.Listen("unix", h.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan uint32, 16)
	go func() { // answers every message with itself
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 20)
				for {
					if _, err := io.ReadFull(c, b); err != nil {
						return
					}
					heard <- binary.BigEndian.Uint32(b[12:])
					time.Sleep(5 * time.Millisecond) // what the meter is to see
					binary.BigEndian.PutUint32(b[16:], typeReply)
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	g, err := h.NewGate("gate")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}()
	g.Meter = &CallMeter{}
	dial := func() net.Conn {
		c, err := net.Dial("unix", g.Socket)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// ask sends one call and reports whether an answer came.
	ask := func(c net.Conn, call uint32, wait time.Duration) bool {
		t.Helper()
		if _, err := c.Write(message(call)); err != nil {
			return false
		}
		if wait > time.Second { // an answer is expected: then the call went in
			if got := <-heard; got != call {
				t.Fatalf("the daemon heard call %d, not %d", got, call)
			}
		}
		if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadFull(c, make([]byte, 20))
		return err == nil
	}
	a, b := dial(), dial()
	defer a.Close()
	defer b.Close()
	if !ask(a, 5, 5*time.Second) || !ask(b, 6, 5*time.Second) {
		t.Fatal("no answer through an open gate")
	}
	if m := g.Meter.Total(); m < 10*time.Millisecond || g.Meter.n != 0 {
		t.Fatalf("two calls of 5 ms are metered as %v, %d of them open", m, g.Meter.n)
	}
	called := make(chan struct{})
	g.LoseReplies(CallFinish3, func() { close(called) })
	if !ask(a, 5, 5*time.Second) {
		t.Fatal("another call's answer was lost")
	}
	if ask(a, CallFinish3, 50*time.Millisecond) {
		t.Fatal("the reply came back")
	}
	<-called
	if got := <-heard; got != CallFinish3 {
		t.Fatalf("the call did not go in: %d", got)
	}
	if !ask(b, 6, 5*time.Second) {
		t.Fatal("another connection is mute too")
	}
	g.Cut()
	if err := b.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(make([]byte, 1)); err == nil {
		t.Fatal("a cut connection still reads")
	}
	c := dial()
	defer c.Close()
	if !ask(c, 8, 5*time.Second) {
		t.Fatal("no new connection after a cut")
	}
}
