package sim

import (
	"encoding/xml"
	"fmt"
	"sort"
	"strings"

	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/internal/sim/world"
	"github.com/foreshift/foreshift/schemas"
)

// labelNamespace holds a VM's labels in its metadata.
const labelNamespace = "urn:foreshift:labels"

func escape(s string) string {
	var b strings.Builder
	// A strings.Builder never fails.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

func labelsXML(labels map[string]string) string {
	keys := make([]string, 0, len(labels))
	for k := range labels {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	b.WriteString("<f:labels xmlns:f=\"" + labelNamespace + "\">")
	for _, k := range keys {
		fmt.Fprintf(&b, "<f:label key=\"%s\" value=\"%s\"/>", escape(k), escape(labels[k]))
	}
	b.WriteString("</f:labels>")
	return b.String()
}

// domainXML describes a guest as libvirt does.
func (f *Fleet) domainXML(g *world.Guest) string {
	id := ""
	if g.Active() {
		id = fmt.Sprintf(" id='%d'", g.ID)
	}
	u := g.VM.ID
	return fmt.Sprintf(`<domain type='kvm'%s>
  <name>%s</name>
  <uuid>%s</uuid>
  <metadata>
    %s
  </metadata>
  <memory unit='KiB'>%d</memory>
  <currentMemory unit='KiB'>%d</currentMemory>
  <vcpu placement='static'>%d</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-10.0'>hvm</type>
    <boot dev='hd'/>
  </os>
  <features>
    <acpi/>
  </features>
  <cpu mode='custom' match='exact' check='full'>
    <model fallback='forbid'>%s</model>
    <feature policy='require' name='aes'/>
    <feature policy='require' name='x2apic'/>
  </cpu>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/>
      <source file='%s'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <interface type='bridge'>
      <mac address='52:54:00:%02x:%02x:%02x'/>
      <source bridge='br0'/>
      <target dev='vnet0'/>
      <model type='virtio'/>
    </interface>
    <memballoon model='virtio'>
      <stats period='1'/>
    </memballoon>
  </devices>
</domain>
`, id, escape(g.VM.Name), schemas.VMID(u), labelsXML(f.labels(g)), int64(g.VM.Mem)/1024, int64(g.VM.Mem)/1024, g.VM.VCPUs,
		guestCPU, escape(f.diskPath(g.VM.Name)), u[13], u[14], u[15])
}

func capabilitiesXML(h *Host) string {
	cores := max(1, int(float64(h.Capacity.CPU)/1000/float64(h.Speed)+.5))
	return fmt.Sprintf(`<capabilities>
  <host>
    <uuid>%s</uuid>
    <cpu>
      <arch>x86_64</arch>
      <model>%s</model>
      <vendor>Intel</vendor>
      <topology sockets='1' dies='1' cores='%d' threads='1'/>
    </cpu>
    <migration_features>
      <live/>
      <uri_transports>
        <uri_transport>tcp</uri_transport>
      </uri_transports>
    </migration_features>
    <topology>
      <cells num='1'>
        <cell id='0'>
          <memory unit='KiB'>%d</memory>
        </cell>
      </cells>
    </topology>
  </host>
  <guest>
    <os_type>hvm</os_type>
    <arch name='x86_64'>
      <wordsize>64</wordsize>
      <emulator>/usr/bin/qemu-system-x86_64</emulator>
      <machine maxCpus='255'>pc-q35-10.0</machine>
      <domain type='qemu'/>
      <domain type='kvm'/>
    </arch>
  </guest>
</capabilities>
`, h.UUID, escape(h.CPUModel), cores, int64(h.memory())/1024)
}

func domainCapabilitiesXML(h *Host) string {
	return fmt.Sprintf(`<domainCapabilities>
  <path>/usr/bin/qemu-system-x86_64</path>
  <domain>kvm</domain>
  <machine>pc-q35-10.0</machine>
  <arch>x86_64</arch>
  <vcpu max='255'/>
  <cpu>
    <mode name='custom' supported='yes'>
      <model usable='yes'>%s</model>
      <model usable='yes'>%s</model>
    </mode>
  </cpu>
</domainCapabilities>
`, escape(h.CPUModel), guestCPU)
}

func poolXML(p rpc.Pool, capacity, used uint64) string {
	if p.Name == localName {
		return fmt.Sprintf(`<pool type='dir'>
  <name>%s</name>
  <uuid>%s</uuid>
  <capacity unit='bytes'>%d</capacity>
  <allocation unit='bytes'>%d</allocation>
  <available unit='bytes'>%d</available>
  <target>
    <path>%s</path>
  </target>
</pool>
`, p.Name, schemas.VMID(p.UUID), capacity, used, capacity-used, LocalPath)
	}
	return fmt.Sprintf(`<pool type='netfs'>
  <name>%s</name>
  <uuid>%s</uuid>
  <capacity unit='bytes'>%d</capacity>
  <allocation unit='bytes'>%d</allocation>
  <available unit='bytes'>%d</available>
  <source>
    <host name='storage.invalid'/>
    <dir path='/export/shared'/>
    <format type='nfs'/>
  </source>
  <target>
    <path>%s</path>
  </target>
</pool>
`, p.Name, schemas.VMID(p.UUID), capacity, used, capacity-used, SharedPath)
}
