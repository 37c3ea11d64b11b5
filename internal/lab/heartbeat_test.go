package lab

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestHeartbeatsRecordGapsAndDamage(t *testing.T) {
	h := &Heartbeats{guests: map[string]*beatState{}}
	t0 := time.Unix(1000, 0)
	at := func(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }
	answers := 0
	for i, ms := range []int{0, 10, 20, 440, 450, 600, 610} {
		if h.beat(fmt.Sprintf("vm1 %d %d %d 35 1 7 0", i, i*100, i/6), at(ms)) {
			answers++
		}
	}
	r := h.Report("vm1")
	if r.Beats != 7 || r.Counter != 6 || r.Pages != 600 || r.Bad != 1 || r.Level != 35 || !r.Synced || r.Resets != 0 {
		t.Errorf("report %+v", r)
	}
	if len(r.Gaps) != 2 || r.Longest.Length() != 420*time.Millisecond {
		t.Errorf("gaps %v, longest %v; want 420 ms and 150 ms", r.Gaps, r.Longest.Length())
	}
	if answers != 2 {
		t.Errorf("told the time %d times in 610 ms, want 2", answers)
	}
	for _, c := range []struct{ from, to, want int }{
		{0, 610, 420}, {0, 20, 0}, {430, 435, 420}, {445, 620, 150}, {441, 449, 0},
		{605, 1610, 1000}, // silent to the end
	} {
		if got := r.Silence(at(c.from), at(c.to)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("silence in %d..%d ms = %v, want %d ms", c.from, c.to, got, c.want)
		}
	}
	h.beat("vm1 0 0 0 0 0 0 0", at(700))
	if r := h.Report("vm1"); r.Resets != 1 || r.Synced {
		t.Errorf("a guest that booted again is not noticed: %+v", r)
	}
}

func TestHeartbeatsRefuseStrays(t *testing.T) {
	h := &Heartbeats{guests: map[string]*beatState{}}
	for _, s := range []string{"", "vm1", "vm1 1 2 3 4 1", "vm1 1 2 3 4 5 6 7 8", "vm1 a 2 3 4 1 0 0", "VM/../1 1 2 3 4 1 0 0", strings.Repeat("x ", 50)} {
		if h.beat(s, time.Unix(1, 0)) {
			t.Errorf("%q was answered", s)
		}
	}
	if h.strays != 7 || len(h.guests) != 0 {
		t.Errorf("strays %d guests %d", h.strays, len(h.guests))
	}
	for i := range 2 * maxGuests {
		h.beat(fmt.Sprintf("vm%d 1 2 3 4 1 0 0", i), time.Unix(1, 0))
	}
	if len(h.guests) != maxGuests {
		t.Errorf("%d guests kept, bound is %d", len(h.guests), maxGuests)
	}
}

func TestHeartbeatsAnswerWithTheTime(t *testing.T) {
	defer goleak.VerifyNone(t)
	h, err := ListenHeartbeats("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	c, err := net.Dial("udp", h.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("vm1 0 0 0 0 0 0 0")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	var ns int64
	if _, err := fmt.Sscanf(string(buf[:n]), "T %d", &ns); err != nil {
		t.Fatalf("answer %q: %v", buf[:n], err)
	}
	if d := time.Since(time.Unix(0, ns)); d < 0 || d > 10*time.Second {
		t.Errorf("told a time %v ago", d)
	}
}
