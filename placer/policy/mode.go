package policy

import "github.com/foreshift/foreshift/schemas"

// rank orders modes from careful to bold; -1 for a word that is no mode.
func rank(m schemas.Mode) int {
	switch m {
	case schemas.ModeObserve:
		return 0
	case schemas.ModeRecommend:
		return 1
	case schemas.ModeApprove:
		return 2
	case schemas.ModeAuto:
		return 3
	}
	return -1
}

// Careful is the more careful of two modes; an unknown word counts as observe.
func Careful(a, b schemas.Mode) schemas.Mode {
	ra, rb := rank(a), rank(b)
	switch {
	case ra < 0 || rb < 0:
		return schemas.ModeObserve
	case ra <= rb:
		return a
	default:
		return b
	}
}

// HostMode is the mode of one host: its own if the policy names one, else the
// cluster's; auto on a host that is not simulated means recommend where the
// policy keeps auto to the simulator.
func HostMode(p Policy, h schemas.HostID, simulated bool) schemas.Mode {
	m, ok := p.HostModes[h]
	if !ok {
		m = p.Mode
	}
	if m == schemas.ModeAuto && p.AutoOnlySimulated && !simulated {
		m = schemas.ModeRecommend
	}
	return Careful(m, m)
}

// VMMode is the mode of one VM on a host of mode host: an override of the VM can
// make it more careful, or bolder than the cluster but never than its host.
func VMMode(p Policy, v schemas.VMID, host schemas.Mode) schemas.Mode {
	if m, ok := p.VMModes[v]; ok {
		return Careful(m, host)
	}
	return host
}
