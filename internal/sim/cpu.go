package sim

import (
	"encoding/xml"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/internal/sim/rpc"
)

// guestCPU is the CPU model that guests are given, with features aes and x2apic: every
// host can provide it but for those that lack a feature.
const guestCPU = "Nehalem"

// failIncompatible is VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE: an incompatible CPU is
// an error that says what it lacks.
const failIncompatible = 1

// compareCPU answers CompareCPU and CompareHypervisorCPU: 0 incompatible, 1
// identical, 2 superset. A host provides its own model and the guests' one.
func compareCPU(h *Host, text string, flags uint32) (int32, error) {
	type cpu struct {
		Model   string `xml:"model"`
		Feature []struct {
			Policy string `xml:"policy,attr"`
			Name   string `xml:"name,attr"`
		} `xml:"feature"`
	}
	var x struct {
		XMLName xml.Name
		cpu
		Host  cpu `xml:"host>cpu"`
		Inner cpu `xml:"cpu"`
	}
	if err := xml.Unmarshal([]byte(text), &x); err != nil {
		return -1, rpc.Errorf(rpc.CodeXML, "XML error: %v", err)
	}
	no := func(format string, args ...any) (int32, error) {
		if flags&failIncompatible != 0 {
			return -1, rpc.Errorf(rpc.CodeCPUIncompatible, "the CPU is incompatible with host CPU: "+format, args...)
		}
		return 0, nil
	}
	for _, c := range []cpu{x.cpu, x.Inner, x.Host} {
		model := strings.TrimSpace(c.Model)
		if model == "" {
			continue
		}
		if model != h.CPUModel && model != guestCPU {
			return no("Host CPU does not match model %s", model)
		}
		var lacks []string
		for _, f := range c.Feature {
			if f.Policy == "require" && slices.Contains(h.Lacks, f.Name) {
				lacks = append(lacks, f.Name)
			}
		}
		switch {
		case len(lacks) > 0:
			return no("Host CPU does not provide required features: %s", strings.Join(lacks, ", "))
		case model == h.CPUModel:
			return 1, nil
		}
		return 2, nil
	}
	return -1, rpc.Errorf(rpc.CodeXML, "XML error: Missing CPU model name")
}
