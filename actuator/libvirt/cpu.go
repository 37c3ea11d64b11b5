package libvirt

import (
	"context"
	"errors"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// CPU is a guest's CPU as a host is asked whether it can run it.
type CPU struct {
	XML  string // a <cpu> element; empty when the guest has the hypervisor's default
	Arch string // x86_64 ...; empty: the host's own
	Virt string // kvm, or qemu for an emulated guest: what a host provides depends on it
}

// compare asks a daemon whether its hypervisor can provide a guest's CPU: why not, in
// the daemon's words, or nothing. A daemon that cannot tell is taken at no word: what
// the error then says is nil, for libvirt compares once more when the guest starts.
func compare(ctx context.Context, c *conn, cpu CPU) (why string, err error) {
	if cpu.XML == "" {
		return "", nil
	}
	opt := func(s string) lv.OptString {
		if s == "" {
			return nil
		}
		return lv.OptString{s}
	}
	n, err := call(ctx, c, "compare CPU", c.lim.Quick, func() (int32, error) {
		return c.l.ConnectCompareHypervisorCPU(nil, opt(cpu.Arch), nil, opt(cpu.Virt), cpu.XML, uint32(lv.ConnectCompareCPUFailIncompatible))
	})
	var e *Error
	switch {
	case errors.As(err, &e) && lv.ErrorNumber(e.Code) == lv.ErrCPUIncompatible:
		return e.Err.Error(), nil
	case isRefused(err): // an old daemon, another hypervisor, an architecture without such a comparison
		return "", nil
	case err != nil:
		return "", err
	case lv.CPUCompareResult(n) == lv.CPUCompareIncompatible:
		return "the host's CPU does not provide it", nil
	}
	return "", nil // the same, or more than enough
}

// Runs reports which of some guests' CPUs the host behind a URI can provide.
func Runs(ctx context.Context, uri string, cpus []CPU) (map[CPU]bool, error) {
	h, err := Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	c, err := h.conn(ctx)
	if err != nil {
		return nil, err
	}
	out := map[CPU]bool{}
	for _, cpu := range cpus {
		why, err := compare(ctx, c, cpu)
		if err != nil {
			return nil, err
		}
		out[cpu] = why == ""
	}
	return out, nil
}

// Fits asks the host whether it can run the CPU of a guest as its definition says, and
// changes nothing: a [migration.Refusal] says what it lacks.
func (d *Destination) Fits(ctx context.Context, doc string) error {
	g, err := ParseGuest(doc)
	if err != nil {
		return refuse("read the definition", err.Error())
	}
	c, err := d.h.conn(ctx)
	if err != nil {
		return err
	}
	why, err := compare(ctx, c, g.CPU)
	if err == nil && why != "" {
		return &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonCPUModel, Detail: "this host cannot run the CPU of " + g.Name + ": " + why}}
	}
	return err
}
