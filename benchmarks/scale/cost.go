package scale

import (
	"context"
	"math"
)

// Cost is what a step costs by the size of the fleet.
type Cost struct {
	Runs     []*Latency `json:"runs"`
	CPU      float64    `json:"cpu_exponent"` // of a power law through the runs: 1 is in proportion
	RSS      float64    `json:"rss_exponent"`
	Pressure float64    `json:"p99_exponent"` // of sample to pressure, the grace taken off
}

// RunCost measures one forecaster with fleets of rising size, and fits power laws.
func RunCost(ctx context.Context, o Options, sizes []int, steps int) (*Cost, error) {
	c := &Cost{}
	var n, cpu, rss, late []float64
	for _, vms := range sizes {
		o.VMs, o.Hosts = vms, max(1, vms/50)
		l, err := RunLatency(ctx, o, 1, steps)
		if err != nil {
			return c, err
		}
		if err := l.Samples.Err(); err != nil {
			return c, err
		}
		o.Say("%d VMs: %.2f CPU-s a step, %.0f MB, sample to pressure %.2f s and %.2f s", vms, l.CPU, l.RSS/1e6, l.PressureP[0], l.PressureP[1])
		c.Runs = append(c.Runs, l)
		n, cpu, rss = append(n, math.Log(float64(vms))), append(cpu, math.Log(l.CPU)), append(rss, math.Log(l.RSS))
		late = append(late, math.Log(max(1e-3, l.PressureP[1]-l.GraceS)))
	}
	c.CPU, c.RSS, c.Pressure = slope(n, cpu), slope(n, rss), slope(n, late)
	return c, nil
}

// used is the CPU time that the processes have taken, and the memory they hold.
func (r *rig) used(ctx context.Context) (cpu, rss float64, err error) {
	for _, p := range r.procs {
		f, err := p.figures(ctx)
		if err != nil {
			return 0, 0, err
		}
		cpu, rss = cpu+f["process_cpu_seconds_total"], rss+f["process_resident_memory_bytes"]
	}
	return cpu, rss, nil
}
