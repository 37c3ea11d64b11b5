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
	if g.Name != "g" || !g.Emulated || len(g.Disks) != 2 || g.Disks[0] != (Disk{Target: "vda", Type: "file", Path: "/pool/g.img", Cache: "none", Format: "raw", Chain: true}) || g.Disks[1].Path != "/dev/vg/g" || !strings.Contains(g.CPU, "<model>qemu64") {
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
	if err := fit(guestXML, 7_002_000); !errors.As(err, &r) || migration.HowOf(err) != migration.Refused {
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
