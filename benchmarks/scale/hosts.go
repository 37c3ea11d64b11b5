package scale

import (
	"context"
	"fmt"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// capacityEvery is how often a host tells of itself: placers believe it for a minute.
const capacityEvery = 20 * time.Second

// tellCapacity publishes what every host has and whom it carries, until ctx ends. The
// hosts take turns within the interval.
func (r *rig) tellCapacity(ctx context.Context) error {
	const turns = 20
	tick := time.NewTicker(capacityEvery / turns)
	defer tick.Stop()
	for first := true; ; first = false {
		for turn := range turns {
			var outs []streams.Out
			for h := turn; h < r.Hosts; h += turns {
				m := r.inventory(h)
				outs = append(outs, streams.Out{Subject: streams.SubjectCapacityHost(m.Host), Msg: m})
			}
			if err := r.agent.PublishAsync(context.WithoutCancel(ctx), outs); err != nil {
				return fmt.Errorf("agents: %w", err)
			}
			if first {
				continue
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}
}

// inventory is what host h tells of itself: room for what its VMs demand at most of
// times, so that some hosts run short.
func (r *rig) inventory(h int) *schemas.CapacityHost {
	m := &schemas.CapacityHost{Host: r.host(h), Site: "a", Time: schemas.At(time.Now()), URI: "qemu+tcp://bench/system", Speed: 1, Simulated: true,
		Overcommit: schemas.Overcommit{CPU: 1, Mem: 1}, CPUModel: "bench", Libvirt: 9000000, QEMU: 8000000}
	for n := h; n < len(r.vms); n += r.Hosts {
		m.VMs = append(m.VMs, schemas.InventoryVM{VM: r.vms[n], Name: fmt.Sprintf("vm-%d", n), State: schemas.VMRunning, VCPUs: 2, AllocCPU: allocCPU, AllocMem: 16e9, Persistent: true, Movable: true, CPUModel: "bench", DirtyRate: 1e7, DirtyHigh: 3e7})
	}
	m.Capacity = schemas.Amounts{CPU: schemas.MilliCPU(2400 * max(1, len(m.VMs))), Mem: schemas.Bytes(8e9 * max(1, len(m.VMs)))}
	return m
}
