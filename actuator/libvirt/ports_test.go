package libvirt

import (
	"slices"
	"testing"
)

func TestPorts(t *testing.T) {
	disks := "<qemu-migration>\n  <name>vm1</name>\n  <nbd port='49153'>\n    <disk target='vda' capacity='268435456'/>\n  </nbd>\n</qemu-migration>\n\x00"
	for _, x := range []struct {
		uri, cookie string
		want        []int
	}{
		{"tcp://10.66.0.3:49152", "", []int{49152}},
		{"tcp://10.66.0.3:49152", disks, []int{49152, 49153}},
		{"tcp://[fd00::3]:49155", "<qemu-migration><name>vm1</name></qemu-migration>", []int{49155}},
		{"tcp://10.66.0.3", disks, []int{49153}},
		{"unix:///run/qemu.sock", "not XML", nil},
		{"tcp://h:99999", "<qemu-migration><nbd port='-1'/></qemu-migration>", nil},
		{"", "", nil},
	} {
		if got := Ports(x.uri, []byte(x.cookie)); !slices.Equal(got, x.want) {
			t.Errorf("%q, %q: %v, want %v", x.uri, x.cookie, got, x.want)
		}
	}
}
