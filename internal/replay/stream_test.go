package replay

import (
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// A fleet's own steps make the history: whole days from midnight on, allocations as
// sizes, gaps filled and counted.
func TestFromSteps(t *testing.T) {
	const base, days = 5 * time.Minute, 10
	first := schemas.Step(1000*day + 17)
	var steps []*schemas.Steps
	for s := range schemas.Step(days*day + 20) {
		m := &schemas.Steps{Step: first + s, Base: base}
		for v := range byte(5) {
			m.VM, m.Host = append(m.VM, schemas.VMID{v + 1}), append(m.Host, "h")
			m.AllocCPU, m.AllocMem = append(m.AllocCPU, 4000), append(m.AllocMem, 8<<30)
			y := float32(1000 + 100*float32(v))
			if v == 2 && s == 1000 {
				y = schemas.NaN()
			}
			m.Cols[schemas.ColCPU] = append(m.Cols[schemas.ColCPU], y)
		}
		steps = append(steps, m)
	}
	h, err := FromSteps(steps, map[schemas.VMID]string{{3}: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if len(h.VMs) != 5 || h.Steps != (days-1)*day || h.Filled != 1 || h.VMs[2].Name != "web" || h.VMs[0].Cores != 4 || h.VMs[0].GiB != 8 || h.At(2, 5) < 1.19 || h.At(2, 5) > 1.21 {
		t.Errorf("%d VMs, %d steps, %d filled, %+v, %v", len(h.VMs), h.Steps, h.Filled, h.VMs[2], h.At(2, 5))
	}
	if _, err := FromSteps(steps[:day], nil); err == nil || !strings.Contains(err.Error(), "day") {
		t.Errorf("a day alone: %v", err)
	}
	if _, err := FromSteps(nil, nil); err == nil {
		t.Error("nothing")
	}
}
