package libvirt

import (
	"errors"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

const guestXML = `<domain type='qemu'><name>g</name><uuid>3f1c0100-0000-4000-8000-000000000001</uuid>
<cpu mode='custom'><model>qemu64</model></cpu>
<devices>
<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file='/pool/g.img'/><backingStore type='file'/><target dev='vda'/></disk>
<disk type='block' device='disk'><source dev='/dev/vg/g'/><target dev='vdb'/></disk>
<disk type='file' device='cdrom'><source file='/iso'/><target dev='sda'/><readonly/></disk>
</devices></domain>`

func TestParseGuest(t *testing.T) {
	g, err := ParseGuest(guestXML)
	if err != nil {
		t.Fatal(err)
	}
	if g.Name != "g" || !g.Emulated || len(g.Disks) != 2 || g.Disks[0] != (Disk{Target: "vda", Type: "file", Path: "/pool/g.img", Cache: "none", Format: "raw", Chain: true}) || g.Disks[1].Path != "/dev/vg/g" || !strings.Contains(g.CPU.XML, "<model>qemu64") || g.CPU.Virt != "qemu" {
		t.Fatalf("%+v", g)
	}
	if why := g.Fit(10_000_002); !why.OK() {
		t.Error(why)
	}
	for _, qemu := range []uint64{0, 7_002_000, 8_999_999} {
		if why := g.Fit(qemu); why.Code != schemas.ReasonUnsafe {
			t.Errorf("emulated under QEMU %d: %v", qemu, why)
		}
	}
	kvm := g
	kvm.Emulated = false
	if why := kvm.Fit(7_002_000); !why.OK() {
		t.Error(why)
	}
	kvm.Disks = []Disk{{Target: "vda", Cache: "unsafe"}}
	if why := kvm.Fit(10_000_000); why.Code != schemas.ReasonStorage {
		t.Error(why)
	}
	var r *migration.Refusal
	if _, err := fit(guestXML, 7_002_000); !errors.As(err, &r) || migration.HowOf(err) != migration.Refused {
		t.Errorf("as an error: %v", err)
	}
	if _, err := ParseGuest("<domain"); err == nil {
		t.Error("half a document was read")
	}
	p, err := parsePool("<pool type='netfs'><name>p</name><available unit='bytes'>7</available><target><path>/pool</path></target></pool>")
	if err != nil || !p.Shared || p.Available != 7 || !p.Holds("/pool/g.img") || p.Holds("/pool2/g.img") {
		t.Errorf("%+v %v", p, err)
	}
	if yes := PathShared(t.TempDir() + "/not/there"); yes == nil {
		t.Error("a path below an existing directory has a file system")
	}
}

// TestUnlockable: a lock keeps two copies of a guest apart only where all it writes is
// locked for one alone.
func TestUnlockable(t *testing.T) {
	file := Disk{Target: "vda", Type: "file"}
	for _, c := range []struct {
		name string
		g    Guest
		ok   bool
	}{
		{"a file", Guest{Disks: []Disk{file}}, true},
		{"a file and a device", Guest{Disks: []Disk{file, {Target: "vdb", Type: "block"}}}, true},
		{"no disk", Guest{}, false},
		{"a shareable disk", Guest{Disks: []Disk{file, {Target: "vdb", Type: "file", Common: true}}}, false},
		{"a disk over the network", Guest{Disks: []Disk{{Target: "vda", Type: "network"}}}, false},
		{"a lease beside it", Guest{Leases: 1, Disks: []Disk{{Target: "vda", Type: "network"}}}, true},
	} {
		if why := c.g.unlockable(); (why == "") != c.ok {
			t.Errorf("%s: %q", c.name, why)
		}
	}
	const doc = `<domain type='kvm'><name>g</name><uuid>9e79ea40-8f9e-4cb6-842a-606fa2cbf456</uuid>
<metadata><f:labels xmlns:f="urn:foreshift:labels"><f:label key="post-copy" value="yes"/></f:labels></metadata>
<devices><lease><lockspace>s</lockspace><key>k</key><target path='/x'/></lease><hostdev mode='subsystem' type='pci'/></devices></domain>`
	g, err := ParseGuest(doc)
	if err != nil || g.Leases != 1 || !g.PostCopy || g.noPostCopy() == "" {
		t.Errorf("%+v %v", g, err)
	}
}
