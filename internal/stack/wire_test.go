package stack_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// wire carries TCP connections from a loopback address to another, until it is cut.
type wire struct {
	l     net.Listener
	to    string
	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{l: l, to: to, conns: map[net.Conn]bool{}}
	w.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.wg.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.cut(true)
		w.wg.Wait()
	})
	return w
}

// hold keeps a connection to be cut; false when the wire is cut already.
func (w *wire) hold(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		c.Close()
		return false
	}
	w.conns[c] = true
	return true
}

func (w *wire) carry(a net.Conn) {
	defer a.Close()
	if !w.hold(a) {
		return
	}
	b, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer b.Close()
	if !w.hold(b) {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(b, a)
		b.Close()
	}()
	io.Copy(a, b)
	a.Close()
	<-done
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, a)
	delete(w.conns, b)
}

// cut drops what is carried and lets nothing more through, or lets it through again.
func (w *wire) cut(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down = down; down {
		for c := range w.conns {
			c.Close()
		}
		clear(w.conns)
	}
}
