package libvirt

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// Disk is one writable disk of a VM, as its XML says.
type Disk struct {
	Target string // as the guest sees it: vda
	Type   string // file, block, network, volume ...
	Path   string // of file and block
	Cache  string // empty: the hypervisor's default
	Format string // raw, qcow2 ...
	Chain  bool   // it stands on other files
	Common bool   // <shareable/>: several VMs, or several hosts, use it at once
}

// Guest is what a domain's XML says that matters for a move.
type Guest struct {
	VM       schemas.VMID
	Name     string
	Emulated bool // TCG: no hardware virtualisation
	CPU      CPU
	CPUMode  string
	Passed   []string // host devices that are passed through
	Disks    []Disk
	Leases   int  // that it holds while it runs, of a lock manager
	PostCopy bool // its owner has labelled it "post-copy": "yes"
}

// postCopyLabel is the label, in the namespace of Foreshift's labels, by which a VM's
// owner allows post-copy for it.
const postCopyLabel = "post-copy"

type xmlGuest struct {
	Type string `xml:"type,attr"`
	Name string `xml:"name"`
	UUID string `xml:"uuid"`
	OS   struct {
		Arch string `xml:"arch,attr"`
	} `xml:"os>type"`
	Labels []struct {
		Key   string `xml:"key,attr"`
		Value string `xml:"value,attr"`
	} `xml:"metadata>labels>label"`
	CPU struct {
		Mode  string `xml:"mode,attr"`
		Inner string `xml:",innerxml"`
	} `xml:"cpu"`
	Leases   []struct{} `xml:"devices>lease"`
	Hostdevs []struct {
		Type string `xml:"type,attr"`
		Mode string `xml:"mode,attr"`
	} `xml:"devices>hostdev"`
	Disks []struct {
		Type   string `xml:"type,attr"`
		Device string `xml:"device,attr"`
		Driver struct {
			Cache string `xml:"cache,attr"`
			Type  string `xml:"type,attr"`
		} `xml:"driver"`
		Shareable *struct{} `xml:"shareable"`
		Backing   struct {
			Type string `xml:"type,attr"`
		} `xml:"backingStore"`
		Source struct {
			File string `xml:"file,attr"`
			Dev  string `xml:"dev,attr"`
		} `xml:"source"`
		Target struct {
			Dev string `xml:"dev,attr"`
		} `xml:"target"`
		ReadOnly *struct{} `xml:"readonly"`
	} `xml:"devices>disk"`
}

// ParseGuest reads a domain's XML.
func ParseGuest(doc string) (g Guest, err error) {
	var x xmlGuest
	if err := xml.Unmarshal([]byte(doc), &x); err != nil {
		return g, fmt.Errorf("domain XML: %w", err)
	}
	if g.Name, g.VM, err = identity(doc); err != nil {
		return g, err
	}
	g.Emulated = x.Type == "qemu"
	g.CPUMode = x.CPU.Mode
	g.Leases = len(x.Leases)
	g.CPU = CPU{Arch: x.OS.Arch, Virt: x.Type}
	if x.CPU.Inner != "" && x.CPU.Mode != "host-passthrough" && x.CPU.Mode != "maximum" {
		g.CPU.XML = "<cpu mode='custom' match='exact'>" + x.CPU.Inner + "</cpu>"
	}
	for _, l := range x.Labels {
		g.PostCopy = g.PostCopy || l.Key == postCopyLabel && l.Value == "yes"
	}
	for _, d := range x.Hostdevs {
		g.Passed = append(g.Passed, d.Mode+" "+d.Type)
	}
	for _, d := range x.Disks {
		if d.ReadOnly != nil || d.Device == "cdrom" || d.Device == "floppy" {
			continue
		}
		g.Disks = append(g.Disks, Disk{Target: d.Target.Dev, Type: d.Type, Path: d.Source.File + d.Source.Dev, Cache: d.Driver.Cache,
			Format: d.Driver.Type, Chain: d.Backing.Type != "", Common: d.Shareable != nil})
	}
	return g, nil
}

// LeastEmulated is the oldest QEMU under which an emulated guest survives a live
// migration: older ones corrupt its memory and report success.
const LeastEmulated = 9_000_000

// Fit says why a guest must not be moved by this QEMU (libvirt's number of the
// version; 0 unknown), whatever libvirt would say; zero when nothing speaks against
// it.
func (g *Guest) Fit(qemu uint64) schemas.Reason {
	unfit := func(code schemas.ReasonCode, format string, args ...any) schemas.Reason {
		return schemas.Reason{Code: code, Detail: fmt.Sprintf(format, args...)}
	}
	if g.Emulated && qemu < LeastEmulated {
		return unfit(schemas.ReasonUnsafe, "QEMU %d.%d corrupts emulated guests on migration: use 9.0 or newer, or KVM", qemu/1e6, qemu/1e3%1e3)
	}
	for _, d := range g.Disks {
		if d.Cache == "unsafe" {
			return unfit(schemas.ReasonStorage, "disk %s has cache='unsafe': what the source has not flushed is lost at the destination; set cache='none'", d.Target)
		}
	}
	return schemas.Reason{}
}

// fit reads a definition, with Fit as an error of a call.
func fit(doc string, qemu uint64) (Guest, error) {
	g, err := ParseGuest(doc)
	if err != nil {
		return g, refuse("read the definition", err.Error())
	}
	if why := g.Fit(qemu); !why.OK() {
		return g, &migration.Refusal{Why: why}
	}
	return g, nil
}

// sharedPools are the types of storage pools that several hosts see alike.
var sharedPools = []string{"netfs", "rbd", "gluster", "iscsi", "iscsi-direct", "sheepdog", "scsi", "mpath", "vstorage"}

// Pool is a storage pool of a host.
type Pool struct {
	Name      string
	Type      string
	Path      string
	Shared    bool
	Available schemas.Bytes
}

func parsePool(doc string) (p Pool, err error) {
	var x struct {
		Type      string        `xml:"type,attr"`
		Name      string        `xml:"name"`
		Available schemas.Bytes `xml:"available"`
		Path      string        `xml:"target>path"`
	}
	if err := xml.Unmarshal([]byte(doc), &x); err != nil {
		return p, fmt.Errorf("pool XML: %w", err)
	}
	return Pool{x.Name, x.Type, x.Path, slices.Contains(sharedPools, x.Type), x.Available}, nil
}

// Holds reports whether a path lies in the pool.
func (p *Pool) Holds(path string) bool {
	return p.Path != "" && strings.HasPrefix(path, strings.TrimSuffix(p.Path, "/")+"/")
}
