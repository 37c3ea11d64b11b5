package fleet

import (
	"fmt"
	"slices"

	"github.com/foreshift/foreshift/schemas"
)

// cpuKey is a guest's CPU on a host. A VM whose agent tells no digest of its CPU
// stands for itself.
type cpuKey struct {
	CPU  string
	Host schemas.HostID
}

func byCPU(a, b cpuKey) bool { return a.Host < b.Host || a.Host == b.Host && a.CPU < b.CPU }

func cpuOf(digest string, vm schemas.VMID) string {
	if digest != "" {
		return digest
	}
	return vm.String()
}

// cpuRefusal is a host's word that it cannot run a CPU.
type cpuRefusal struct {
	At     schemas.Time // stream time
	Detail string
}

// maxRefusals is how many are kept; then the oldest goes, and is asked for again.
const maxRefusals = 4096

// noteCPU learns from how a move ended which CPU its destination cannot run.
func (f *Fleet) noteCPU(at schemas.Time, c *schemas.Command, m *schemas.Outcome) {
	key := cpuKey{cpuOf(c.CPUDigest, m.VM), m.Destination}
	switch {
	case m.Result == schemas.ResultSucceeded:
		delete(f.unfit, key)
	case m.Result != schemas.ResultUnknown && m.Reason.Code == schemas.ReasonCPUModel:
		f.unfit[key] = cpuRefusal{at, m.Reason.Detail}
	}
	if len(f.unfit) <= maxRefusals {
		return
	}
	oldest := key
	for k, r := range f.unfit {
		if o := f.unfit[oldest]; r.At < o.At || r.At == o.At && byCPU(k, oldest) {
			oldest = k
		}
	}
	delete(f.unfit, oldest)
}

// CPUOf is the digest of a VM's CPU as a host reports it, empty when it does not.
func (f *Fleet) CPUOf(vm schemas.VMID, host schemas.HostID) string {
	h := f.hosts[host]
	if h == nil {
		return ""
	}
	for i := range h.Msg.VMs {
		if v := &h.Msg.VMs[i]; v.VM == vm {
			return v.CPUDigest
		}
	}
	return ""
}

// sameCPU reports whether a host can still do what it could: whatever of its CPU or its
// hypervisor is new may run what it refused before.
func sameCPU(a, b *schemas.CapacityHost) bool {
	return a.CPUModel == b.CPUModel && a.CPUDigest == b.CPUDigest && a.Libvirt == b.Libvirt && a.QEMU == b.QEMU && slices.Equal(a.CPUModels, b.CPUModels)
}

// CPUFits reports whether a host can run the VM's CPU. What the host itself has refused
// counts for every VM with the same CPU until the host reports another CPU or
// hypervisor. Otherwise a named model must be among those that libvirt says the host can
// run; the host's own CPU passed through needs the same model; where either is not
// known, the same model must do. What is unknown on both sides is let pass: the
// destination is asked before a move touches anything.
func (v *View) CPUFits(vm, host int32) bool {
	m, to := &v.VMs[vm], &v.Hosts[host]
	from := &v.Hosts[m.Host]
	if _, no := v.refusedCPU(vm, host); no {
		return false
	}
	if m.named() && to.models != nil {
		return to.models[m.Inv.CPUModel]
	}
	return from.Msg.CPUModel == "" || to.Msg.CPUModel == "" || from.Msg.CPUModel == to.Msg.CPUModel
}

// WhyNotCPU puts into words why [View.CPUFits] says no.
func (v *View) WhyNotCPU(vm, host int32) schemas.Reason {
	m, to := &v.VMs[vm], &v.Hosts[host]
	no := func(format string, a ...any) schemas.Reason {
		return schemas.Reason{Code: schemas.ReasonCPUModel, Detail: fmt.Sprintf(format, a...)}
	}
	if r, refused := v.refusedCPU(vm, host); refused {
		return no("%s was asked and refused: %s", to.ID, r.Detail)
	}
	if m.named() && to.models != nil {
		return no("libvirt on %s cannot run CPU model %s", to.ID, m.Inv.CPUModel)
	}
	return no("CPU %s, not %s", to.Msg.CPUModel, v.Hosts[m.Host].Msg.CPUModel)
}

// named: the VM's CPU is a model of its own, not whatever its host has.
func (m *VM) named() bool {
	switch m.Inv.CPUModel {
	case "", "host-passthrough", "maximum", "host-model":
		return false
	}
	return true
}

func (v *View) refusedCPU(vm, host int32) (r cpuRefusal, refused bool) {
	if len(v.unfit) == 0 {
		return r, false
	}
	m, to := &v.VMs[vm], &v.Hosts[host]
	r, ok := v.unfit[cpuKey{cpuOf(m.Inv.CPUDigest, m.ID), to.ID}]
	return r, ok && to.cpuSince <= r.At
}
