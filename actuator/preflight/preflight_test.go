package preflight

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/foreshift/foreshift/actuator/libvirt"
)

// good is a host with which nothing is wrong.
func good() *Host {
	yes := true
	return &Host{ID: "h", SkewSeen: true, WaysSeen: true, Runs: map[string][]string{"other": nil}, TLS: map[string]bool{"ca": true},
		Shared: func(string) *bool { return &yes },
		Found: &libvirt.Inspection{Libvirt: 9_000_000, QEMU: 10_000_002, KVM: true, Phases: true,
			Guests: []libvirt.Guest{{Name: "g", Disks: []libvirt.Disk{{Target: "vda", Type: "file", Path: "/x/y", Cache: "none"}}}}}}
}

func TestJudge(t *testing.T) {
	no := false
	for _, c := range []struct {
		name   string
		change func(*Host)
		check  string
		want   Status
	}{
		{"nothing wrong", func(*Host) {}, "", OK},
		{"old libvirt", func(h *Host) { h.Found.Libvirt = 5_000_000 }, "libvirt", Fail},
		{"untested libvirt", func(h *Host) { h.Found.Libvirt = 7_000_000 }, "libvirt", Warn},
		{"untold libvirt", func(h *Host) { h.Found.Libvirt = 0 }, "libvirt", Unknown},
		{"QEMU that corrupts emulated guests", func(h *Host) { h.Found.QEMU, h.Found.Guests[0].Emulated = 7_002_000, true }, "qemu", Fail},
		{"the same without KVM at all", func(h *Host) { h.Found.QEMU, h.Found.KVM = 7_002_000, false }, "qemu", Fail},
		{"the same with KVM", func(h *Host) { h.Found.QEMU = 7_002_000 }, "qemu", OK},
		{"new enough, but emulated", func(h *Host) { h.Found.KVM = false }, "qemu", Warn},
		{"no phases", func(h *Host) { h.Found.Phases = false }, "handover", Fail},
		{"CPU not there", func(h *Host) { h.Runs["other"] = []string{"g"} }, "cpu", Warn},
		{"passed through", func(h *Host) { h.Found.Guests[0].CPUMode = "host-passthrough" }, "cpu", Warn},
		{"nobody to compare with", func(h *Host) { h.Runs = nil }, "cpu", Unknown},
		{"cache that loses writes", func(h *Host) { h.Found.Guests[0].Disks[0].Cache = "unsafe" }, "storage", Fail},
		{"local disk", func(h *Host) { h.Shared = func(string) *bool { return &no } }, "storage", Warn},
		{"disk nobody knows", func(h *Host) { h.Shared = nil }, "storage", Unknown},
		{"shared pool", func(h *Host) { h.Shared, h.Found.Pools = nil, []libvirt.Pool{{Path: "/x", Shared: true}} }, "storage", OK},
		{"local disk in a pool", func(h *Host) {
			h.Shared, h.Found.Pools = func(string) *bool { return &no }, []libvirt.Pool{{Path: "/x"}}
		}, "storage", OK},
		{"local disk that stands on another", func(h *Host) {
			h.Shared, h.Found.Pools, h.Found.Guests[0].Disks[0].Chain = func(string) *bool { return &no }, []libvirt.Pool{{Path: "/x"}}, true
		}, "storage", Warn},
		{"no lock, none needed", func(h *Host) { h.Lock.Down = "gone" }, "lock", OK},
		{"neither phases nor a lock", func(h *Host) { h.Found.Phases = false }, "lock", Fail},
		{"no phases, and a trial that failed", func(h *Host) {
			h.Found.Phases, h.Lock = false, Lock{Tried: true, Failed: map[string]string{"other": "both started"}}
		}, "lock", Fail},
		{"no phases, and a lock", func(h *Host) { h.Found.Phases, h.Lock.Tried = false, true }, "lock", OK},
		{"clock", func(h *Host) { h.Skew = -40 * time.Second }, "clock", Fail},
		{"clock a little", func(h *Host) { h.Skew = 6 * time.Second }, "clock", Warn},
		{"clock untold", func(h *Host) { h.SkewSeen = false }, "clock", Unknown},
		{"bus not asked for links", func(h *Host) { h.WaysSeen = false }, "tunnel", Unknown},
		{"a tunnel", func(h *Host) { h.Ways = []Way{{To: "public", Measured: true, Shared: true}} }, "tunnel", OK},
		{"no link to another site", func(h *Host) { h.Ways = []Way{{To: "public"}} }, "tunnel", Warn},
		{"a link without a tunnel", func(h *Host) { h.Ways = []Way{{To: "public", Measured: true}} }, "tunnel", Warn},
		{"a silent tunnel", func(h *Host) { h.Ways = []Way{{To: "public", Measured: true, Shared: true, Silent: true}} }, "tunnel", Warn},
		{"one way silent, one down, one good", func(h *Host) {
			h.Ways = []Way{{To: "a", Measured: true, Silent: true}, {To: "b", Measured: true, Shared: true, Down: true}, {To: "c", Measured: true, Shared: true}}
		}, "tunnel", Fail},
		{"no certificate", func(h *Host) { h.TLS["ca"] = false }, "tls", Warn},
		{"certificates elsewhere", func(h *Host) { h.TLS = nil }, "tls", Unknown},
		{"unreachable", func(h *Host) { h.Found, h.Why = nil, "no" }, "libvirt", Unknown},
		{"unreachable, its agent says old", func(h *Host) { h.Found, h.QEMU = nil, 8_000_000 }, "qemu", OK},
	} {
		h := good()
		c.change(h)
		checks := Judge(h)
		if c.check == "" {
			if w := Worst(checks); w != OK {
				t.Errorf("%s: %s %+v", c.name, w, checks)
			}
			continue
		}
		i := slices.IndexFunc(checks, func(x Check) bool { return x.Name == c.check })
		if i < 0 || checks[i].Status != c.want {
			t.Errorf("%s: %+v, want %s", c.name, checks[i], c.want)
			continue
		}
		if c.want == Fail && checks[i].Fix == "" {
			t.Errorf("%s: says not how to mend it", c.name)
		}
	}
	if c := Bus(1<<20, 8<<20, nil); c.Status != Fail || c.Fix == "" {
		t.Error(c)
	}
	if c := Bus(0, 8<<20, errors.New("away")); c.Status != Unknown {
		t.Error(c)
	}
	if c := Bus(8<<20, 8<<20, nil); c.Status != OK {
		t.Error(c)
	}
}
