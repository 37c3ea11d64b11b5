package live

import (
	"runtime"
	"testing"
	"time"

	crowd "github.com/foreshift/foreshift/benchmarks/console"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// What a fleet of 20,000 VMs takes once it is folded: the console's process has 150 MB
// for it, for what it is reading, and for itself.
func TestMemoryOfALargeFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds of CPU")
	}
	c := crowd.Crowd{Hosts: 1000, VMs: 20000, Base: schemas.DefaultBase}
	now := schemas.At(time.Unix(2e9, 0))
	m := New(c.Base)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := time.Now()
	tell := func(msg any) { m.Apply(streams.Event{Time: int64(now), Msg: msg}) }
	for h := range c.Hosts {
		tell(c.Capacity(h, now))
	}
	for p := range c.Pressures(now) {
		tell(p)
	}
	issued := schemas.StepAt(now, c.Base)
	for s := range c.Steps(issued) {
		tell(s)
	}
	for f := range c.Forecasts(issued) {
		tell(f)
	}
	took := time.Since(begun)
	runtime.GC()
	runtime.ReadMemStats(&after)
	held := float64(after.HeapAlloc-before.HeapAlloc) / (1 << 20)
	begun = time.Now()
	hosts, _ := m.Fleet(now)
	_, pressed := m.VMs(Query{N: 50, Pressed: .01})
	t.Logf("%.0f MB are held of %d hosts and 20,000 VMs, %d of them pressed; folded in %v, looked at in %v", held, len(hosts), pressed, took, time.Since(begun))
	if held > 100 {
		t.Errorf("%.0f MB are held; want at most 100", held)
	}
	for i := range hosts {
		if hosts[i].Headroom() == nil || hosts[i].Sum.VMs != 20 {
			t.Fatalf("host %s sums %d VMs", hosts[i].ID, hosts[i].Sum.VMs)
		}
	}
	runtime.KeepAlive(m)
}
