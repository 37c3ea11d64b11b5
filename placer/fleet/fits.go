package fleet

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
)

// LocalDisks is how much of the VM's storage is seen by its host alone and has to
// be copied along, bytes, and on how many disks.
func (v *View) LocalDisks(vm int32) (size schemas.Bytes, disks int) {
	for i := range v.VMs[vm].Inv.Disks {
		if d := &v.VMs[vm].Inv.Disks[i]; !d.Shared {
			size += d.Size
			disks++
		}
	}
	return size, disks
}

// StorageFits says why a host has no place for the VM's local disks, ok when it
// has, or when there are none. A disk goes to the pool with the same path; where
// the host has no such pool nobody knows whether it has the space.
func (v *View) StorageFits(vm, host int32) schemas.Reason {
	no := func(format string, a ...any) schemas.Reason {
		return schemas.Reason{Code: schemas.ReasonStorage, Detail: fmt.Sprintf(format, a...)}
	}
	pools := v.Hosts[host].Msg.Pools
	need := make(map[int]schemas.Bytes)
	for i := range v.VMs[vm].Inv.Disks {
		d := &v.VMs[vm].Inv.Disks[i]
		if d.Shared {
			continue
		}
		if d.Size <= 0 {
			return no("the size of disk %s is not known", d.Target)
		}
		at := poolOf(pools, d.Path)
		if at < 0 {
			return no("%s has no storage pool for %s", v.Hosts[host].ID, d.Path)
		}
		need[at] += d.Size
	}
	for i := range pools { // in the order of the pools, so that the words are always the same
		if n := need[i]; n > pools[i].Free {
			return no("pool %s of %s has %.1f of %.1f GiB free", pools[i].Name, v.Hosts[host].ID, float64(pools[i].Free)/(1<<30), float64(n)/(1<<30))
		}
	}
	return schemas.Reason{}
}

// poolOf is the pool whose folder holds the path, the deepest of several; -1
// without one.
func poolOf(pools []schemas.StoragePool, file string) int {
	best := -1
	for i := range pools {
		dir := path.Clean(pools[i].Path)
		if pools[i].Path == "" || !strings.HasPrefix(path.Clean(file), strings.TrimSuffix(dir, "/")+"/") {
			continue
		}
		if best < 0 || len(dir) > len(path.Clean(pools[best].Path)) {
			best = i
		}
	}
	return best
}

// Link is a link between two sites as last measured.
type Link struct {
	A, B      schemas.SiteID
	RTT       schemas.Millis
	Bandwidth schemas.BytesPerSecond // one direction
	Free      schemas.BytesPerSecond // less what other traffic takes
	Loss      schemas.Ratio
	By        string // who measured
	Age       time.Duration
	Fresh     bool
	Shared    bool                   // a tunnel role shares it out
	Left      schemas.BytesPerSecond // then: what one more move could have
	Moves     int                    // and how many moves are counted in that
	Waits     int                    // moves that the tunnel role has not let in yet
}

// Link is the link between two sites, ok when it was ever measured; a site has no
// link to itself.
func (v *View) Link(a, b int32) (Link, bool) {
	key := policy.LinkOf(v.Sites[a], v.Sites[b])
	l, ok := v.links[key]
	if !ok {
		return Link{}, false
	}
	age := v.Now.Sub(l.At)
	return Link{key.A, key.B, l.RTT, l.Bandwidth, l.Free, l.Loss, l.By, age, age <= v.linkAge && l.Loss < 1, l.Shared, l.Left, l.Moves, l.Waits}, true
}

// RTT is the round trip between two sites, 0 within one; ok is false when the link
// was not measured lately.
func (v *View) RTT(a, b int32) (rtt schemas.Millis, ok bool) {
	if a == b {
		return 0, true
	}
	l, found := v.Link(a, b)
	return l.RTT, found && l.Fresh
}
