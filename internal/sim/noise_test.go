package sim

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"sort"
	"testing"
	"time"

	"github.com/foreshift/foreshift/internal/sim/rpc"
)

// TestEveryProcedureSurvivesNoise calls every procedure with arguments that are
// noise, some after a valid domain: each call is answered, and the daemon lives.
func TestEveryProcedureSurvivesNoise(t *testing.T) {
	f := serve(t, quick())
	h := f.Hosts()[0]
	c, err := net.Dial("tcp", address(h.URI))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var procs []int
	for p := range handlers {
		procs = append(procs, int(p))
	}
	sort.Ints(procs)
	vms := f.on(h.ID)
	r := rand.New(rand.NewPCG(7, 11))
	for round := 0; round < 40; round++ {
		for _, p := range procs {
			var e rpc.Encoder
			if r.IntN(2) == 0 {
				v := vms[r.IntN(len(vms))]
				e.Domain(rpc.Domain{Name: v.Name, UUID: v.ID, ID: 1})
			}
			for n := r.IntN(12); n > 0; n-- {
				e.U32([]uint32{0, 1, 2, 3, 7, 64, r.Uint32(), 1 << 24, 1<<32 - 1}[r.IntN(9)])
			}
			cut := e.B[:len(e.B)-r.IntN(min(4, len(e.B)+1))]
			if _, err := c.Write(packet(0x20008086, 1, uint32(p), 0, cut)); err != nil {
				t.Fatalf("procedure %d: %v", p, err)
			}
			for { // events may come first
				head := make([]byte, 28)
				if _, err := io.ReadFull(c, head); err != nil {
					t.Fatalf("procedure %d is not answered: %v", p, err)
				}
				if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head))-28); err != nil {
					t.Fatal(err)
				}
				if binary.BigEndian.Uint32(head[16:]) == 1 {
					break
				}
			}
		}
	}
	if _, err := dial(t, h).ConnectNumOfDomains(); err != nil {
		t.Fatal(err)
	}
}
