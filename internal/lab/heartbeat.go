package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Gap is a stretch without a heartbeat.
type Gap struct{ From, To time.Time }

// Length of the gap.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// noteGap and maxGaps bound what is kept: gaps shorter than noteGap only count
// towards the longest.
const (
	noteGap   = 100 * time.Millisecond
	maxGaps   = 4096
	answerGap = 250 * time.Millisecond // how often a guest is told the time
)

// GuestReport is what the heartbeats of one guest told.
type GuestReport struct {
	Beats   int64 // received
	Counter int64 // the guest's own, of the last one
	Pages   int64 // checked so far
	Bad     int64 // found damaged
	Level   int   // load in percent of a vCPU, as the guest believes
	Synced  bool  // the guest follows this machine's clock
	Writes  int64 // records on its disk
	Alien   int64 // records it found there that another copy had written
	Resets  int   // times the counter went back: the guest booted again
	First   time.Time
	Last    time.Time
	Longest Gap
	Gaps    []Gap // those of noteGap and more, oldest first
	Dropped int   // gaps not kept
}

// Silence is the longest stretch without a heartbeat that touches [from, to],
// counted whole even where it reaches beyond; a stretch that still goes on at to
// counts up to there.
func (r GuestReport) Silence(from, to time.Time) time.Duration {
	var longest time.Duration
	for _, g := range r.Gaps {
		if g.To.After(from) && g.From.Before(to) {
			longest = max(longest, g.Length())
		}
	}
	if r.Last.Before(to) {
		longest = max(longest, to.Sub(r.Last))
	}
	return longest
}

// Heartbeats listens to the guests. Between two beats lies 10 ms when all is well,
// so a gap is the guest's downtime as a client on the network would see it, to
// about that precision.
type Heartbeats struct {
	conn *net.UDPConn
	done chan struct{}

	mu     sync.Mutex
	guests map[string]*beatState
	strays int // packets that are no heartbeat
}

type beatState struct {
	GuestReport
	answered time.Time
}

// ListenHeartbeats listens on a UDP address until Close.
func ListenHeartbeats(addr string) (*Heartbeats, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("heartbeats: %w", err)
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(ap))
	if err != nil {
		return nil, fmt.Errorf("heartbeats: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		var set error
		err = errors.Join(raw.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		}), set)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("heartbeats: kernel timestamps: %w", err)
	}
	h := &Heartbeats{conn: conn, done: make(chan struct{}), guests: map[string]*beatState{}}
	go h.run()
	return h, nil
}

// Addr is where it listens.
func (h *Heartbeats) Addr() string { return h.conn.LocalAddr().String() }

// Close stops listening. The record stays readable.
func (h *Heartbeats) Close() error {
	err := h.conn.Close()
	<-h.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (h *Heartbeats) run() {
	defer close(h.done)
	buf, oob := make([]byte, 256), make([]byte, 128)
	out := make([]byte, 0, 32)
	for {
		n, extra, _, from, err := h.conn.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an ICMP error of an earlier answer: the guest is down
			continue
		}
		if h.beat(string(buf[:n]), arrival(oob[:extra])) {
			out = strconv.AppendInt(append(out[:0], "T "...), time.Now().UnixNano(), 10)
			_, _ = h.conn.WriteToUDPAddrPort(out, from) // a lost answer is followed by the next
		}
	}
}

// arrival is when the kernel received the packet: a listener that is kept waiting
// for a core must not show as a gap of the guest.
func arrival(oob []byte) time.Time {
	if msgs, err := unix.ParseSocketControlMessage(oob); err == nil {
		for _, m := range msgs {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
				sec, nsec := binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:])
				return time.Unix(int64(sec), int64(nsec))
			}
		}
	}
	return time.Now()
}

// beat records one packet, "name counter pages bad level synced writes alien", and
// says whether the guest is due to be told the time.
func (h *Heartbeats) beat(text string, now time.Time) (answer bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := strings.Fields(text)
	var v [7]int64
	bad := len(f) != 8
	for i := 0; !bad && i < len(v); i++ {
		var err error
		v[i], err = strconv.ParseInt(f[i+1], 10, 64)
		bad = err != nil
	}
	if bad || !guestNames.MatchString(f[0]) {
		h.strays++
		return false
	}
	g := h.guests[f[0]]
	if g == nil {
		if len(h.guests) >= maxGuests {
			h.strays++
			return false
		}
		g = &beatState{GuestReport: GuestReport{First: now, Counter: -1}}
		h.guests[f[0]] = g
	} else if gap := (Gap{g.Last, now}); gap.Length() > 0 {
		if gap.Length() > g.Longest.Length() {
			g.Longest = gap
		}
		if gap.Length() >= noteGap {
			if len(g.Gaps) < maxGaps {
				g.Gaps = append(g.Gaps, gap)
			} else {
				g.Dropped++
			}
		}
	}
	if v[0] < g.Counter {
		g.Resets++
	}
	g.Beats++
	g.Last = now
	g.Counter, g.Pages, g.Bad, g.Level, g.Synced = v[0], v[1], v[2], int(v[3]), v[4] != 0
	g.Writes, g.Alien = v[5], max(g.Alien, v[6]) // of two copies the one that noticed counts
	if now.Sub(g.answered) < answerGap {
		return false
	}
	g.answered = now
	return true
}

// Report is the record of one guest so far; zero when it was never heard.
func (h *Heartbeats) Report(name string) GuestReport {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.guests[name]
	if g == nil {
		return GuestReport{}
	}
	r := g.GuestReport
	r.Gaps = append([]Gap(nil), g.Gaps...)
	return r
}

// Forget drops the record of a guest that is gone.
func (h *Heartbeats) Forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.guests, name)
}
