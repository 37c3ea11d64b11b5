package twosites

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
)

// Flow is one TCP connection from a host to another that sends as fast as it may, and
// what of it arrived, by time.
type Flow struct {
	got  atomic.Int64
	stop func()
	wg   sync.WaitGroup

	mu    sync.Mutex
	begun time.Time
	at    []float64 // s since the flow began
	rate  []float64 // bytes/s that arrived
}

// sampleEvery is the width of a flow's samples.
const sampleEvery = 250 * time.Millisecond

func newFlow(from, to *lab.Host, port int) (*Flow, error) {
	l, err := to.Listen(port)
	if err != nil {
		return nil, err
	}
	c, err := from.Dial(l.Addr().String())
	if err != nil {
		l.Close()
		return nil, err
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(256 << 10) // what waits at the sender is not on the link
	}
	in, err := l.Accept()
	l.Close()
	if err != nil {
		c.Close()
		return nil, err
	}
	done := make(chan struct{})
	f := &Flow{begun: time.Now()}
	f.stop = sync.OnceFunc(func() { close(done); c.Close(); in.Close() })
	f.wg.Go(func() {
		buf := make([]byte, 32<<10)
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})
	f.wg.Go(func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := in.Read(buf)
			f.got.Add(int64(n))
			if err == io.EOF || err != nil {
				return
			}
		}
	})
	f.wg.Go(func() {
		t := time.NewTicker(sampleEvery)
		defer t.Stop()
		last, was := time.Now(), int64(0)
		for {
			select {
			case <-done:
				return
			case now := <-t.C:
				n := f.got.Load()
				f.mu.Lock()
				f.at, f.rate = append(f.at, now.Sub(f.begun).Seconds()), append(f.rate, float64(n-was)/now.Sub(last).Seconds())
				f.mu.Unlock()
				last, was = now, n
			}
		}
	})
	return f, nil
}

// Series is what arrived so far, in MB/s, and when the flow began.
func (f *Flow) Series() (at, mbps []float64, begun time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.at {
		at, mbps = append(at, f.at[i]), append(mbps, f.rate[i]/1e6)
	}
	return at, mbps, f.begun
}

// Rate is what arrives over the next while, in bytes/s.
func (f *Flow) Rate(over time.Duration) float64 {
	was, begun := f.got.Load(), time.Now()
	time.Sleep(over)
	return float64(f.got.Load()-was) / time.Since(begun).Seconds()
}

// Close ends the flow.
func (f *Flow) Close() {
	f.stop()
	f.wg.Wait()
}
