package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Favourites: most seeds draw every fault from the same odds, and then what needs one of
// them again and again within seconds is hardly ever met. So half of the seeds have one to
// three faults that come far more often than elsewhere, and the others as drawn. Guards
// whose absence shows only under some of them name those.

// favourite is one of them.
type favourite struct {
	name   string
	fault  int  // F1 to F14; 0: no fault, always there
	drawn  bool // by seeds; else only where it is asked for
	placer bool // of use on days of placers
	much   func(*mix, dice)
}

func much(of *time.Duration, d dice, least, most time.Duration) { *of = d.between(least, most) }

var favourites = []favourite{
	{"loss", 1, true, true, func(m *mix, d dice) { m.lose = 100 + 200*d.Float64() }},
	{"delay", 1, true, true, func(m *mix, d dice) { m.late, m.double = 200+300*d.Float64(), 200 }},
	{"partitions", 2, true, true, func(m *mix, d dice) { much(&m.partition, d, 30*time.Second, 4*time.Minute) }},
	{"kills", 3, true, true, func(m *mix, d dice) { much(&m.kill, d, 20*time.Second, 3*time.Minute) }},
	{"steps", 3, true, false, func(m *mix, d dice) { m.step = 100 + 150*d.Float64() }},
	{"writes", 3, true, true, func(m *mix, d dice) { m.crashWrite = 50 + 100*d.Float64() }},
	{"stops", 4, true, true, func(m *mix, d dice) { much(&m.stop, d, 30*time.Second, 4*time.Minute) }},
	{"clocks", 5, true, false, func(m *mix, d dice) { much(&m.clocks, d, time.Minute, 10*time.Minute) }},
	{"disks", 6, true, true, func(m *mix, d dice) { m.diskFails = 100 + 200*d.Float64() }},
	{"room", 6, true, false, func(m *mix, d dice) { m.noRoom, m.local = 200+200*d.Float64(), 1000 }},
	{"leaders", 7, true, true, func(m *mix, d dice) { much(&m.leader, d, time.Minute, 5*time.Minute) }},
	{"repeats", 7, true, true, func(m *mix, d dice) {
		m.again = 200 + 300*d.Float64()
		much(&m.stale, d, 5*time.Minute, 20*time.Minute)
	}},
	{"libvirtd", 8, true, false, func(m *mix, d dice) { much(&m.libvirtd, d, 30*time.Second, 4*time.Minute) }},
	{"qemu", 8, true, false, func(m *mix, d dice) { much(&m.qemu, d, time.Minute, 5*time.Minute) }},
	{"phases", 8, true, true, func(m *mix, d dice) { m.performLost, m.resumeFails, m.endFails = 500, 500, 500 }},
	{"spoils", 8, true, true, func(m *mix, d dice) { m.spoils = 300 + 400*d.Float64() }},
	{"people", 12, true, false, func(m *mix, d dice) { much(&m.foreign, d, 10*time.Second, 90*time.Second) }},
	{"wakes", 12, true, false, func(m *mix, d dice) { m.wakes = 200 + 300*d.Float64() }},
	{"twists", 12, false, true, func(m *mix, d dice) { m.twist = 100 + 300*d.Float64() }},
	{"versions", 13, true, false, func(m *mix, d dice) { much(&m.version, d, 15*time.Second, 90*time.Second) }},
	{"hostile", 14, true, true, func(m *mix, d dice) { much(&m.hostile, d, 15*time.Second, 90*time.Second) }},
	{"lies", 14, true, true, func(m *mix, d dice) { m.lies, m.oldReplies = 100+100*d.Float64(), 100 }},
	{"endless", 9, true, false, func(m *mix, d dice) { m.endless = 200 + 300*d.Float64() }},
	{"local", 0, false, false, func(m *mix, d dice) { m.local = 1000 }},
	{"peer", 0, true, false, func(m *mix, d dice) {
		// Where libvirt leads, no disk on local storage goes along: it is a favourite, or none.
		if m.peer = true; m.local < 1000 {
			m.local = 0
		}
		if m.has(8) {
			much(&m.lockd, d, 5*time.Minute, time.Hour)
		}
		if m.has(12) {
			much(&m.private, d, 10*time.Minute, 2*time.Hour)
		}
	}},
	{"operators", 0, true, true, func(m *mix, d dice) { much(&m.operator, d, time.Minute, 8*time.Minute) }},
}

// ParseFavourites checks a list of names.
func ParseFavourites(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	var known []string
	for i := range favourites {
		known = append(known, favourites[i].name)
	}
	names := strings.Split(s, ",")
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, fmt.Errorf("favourite fault %q: want some of %s", n, strings.Join(known, ", "))
		}
	}
	return names, nil
}

// favour gives a seed its favourites: what is asked for, else what it draws.
func (m *mix) favour(seed uint64, asked []string) {
	d := newDice(seed, "favourites")
	here := func(f *favourite) bool { return (f.fault == 0 || m.has(f.fault)) && (m.storm || f.placer) }
	if len(asked) > 0 {
		for i := range favourites {
			if f := &favourites[i]; slices.Contains(asked, f.name) && here(f) {
				f.much(m, d)
			}
		}
		return
	}
	if len(m.faults) == 0 || d.IntN(2) == 0 {
		return
	}
	for range 1 + d.IntN(3) {
		if f := &favourites[d.IntN(len(favourites))]; f.drawn && here(f) {
			f.much(m, d)
		}
	}
}
