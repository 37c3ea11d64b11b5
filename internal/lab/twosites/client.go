package twosites

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// Client holds one TCP connection to a VM, sends on it every 10 ms and waits for the
// echo: what a client of the VM sees of its moves.
type Client struct {
	conn net.Conn
	wg   sync.WaitGroup

	mu   sync.Mutex
	last time.Time
	gap  time.Duration
	n    int
	err  error
}

func newClient(c net.Conn) *Client {
	k := &Client{conn: c, last: time.Now()}
	k.wg.Go(func() {
		var b [8]byte
		for i := uint64(0); ; i++ {
			binary.BigEndian.PutUint64(b[:], i)
			if _, err := c.Write(b[:]); err != nil {
				k.fail(err)
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	k.wg.Go(func() {
		var b [8]byte
		for i := uint64(0); ; i++ {
			if _, err := io.ReadFull(c, b[:]); err != nil {
				k.fail(err)
				return
			}
			k.mu.Lock()
			now := time.Now()
			k.gap, k.last, k.n = max(k.gap, now.Sub(k.last)), now, k.n+1
			if got := binary.BigEndian.Uint64(b[:]); got != i {
				k.mu.Unlock()
				k.fail(io.ErrUnexpectedEOF)
				return
			}
			k.mu.Unlock()
		}
	})
	return k
}

func (k *Client) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.err = err
	}
}

// Gap is the longest silence since the last call, and whether the connection lives:
// echoes have come within the last second.
func (k *Client) Gap() (gap time.Duration, alive bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	gap = max(k.gap, time.Since(k.last))
	k.gap = 0
	return gap, time.Since(k.last) < time.Second && k.err == nil, k.err
}

// Close ends the connection.
func (k *Client) Close() error {
	err := k.conn.Close()
	k.wg.Wait()
	return err
}
