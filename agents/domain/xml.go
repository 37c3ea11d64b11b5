package domain

import (
	"encoding/xml"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// LabelNamespace is the XML namespace of Foreshift's labels in a domain's
// <metadata>:
//
//	<f:labels xmlns:f="urn:foreshift:labels"><f:label key="app" value="shop"/></f:labels>
const LabelNamespace = "urn:foreshift:labels"

// maxLabels bounds the labels that are taken from a VM's description.
const maxLabels = 64

const maxText = schemas.MaxText

// facts are what changes seldom about a VM; they come from its description.
type facts struct {
	disks      []schemas.VMDisk
	labels     map[string]string
	persistent bool
	pinned     string  // why it cannot be migrated live; empty when it can
	quota      float64 // cores each vCPU may use; 0 = not limited
	maxVCPUs   int
	cpuModel   string // a model's name, or host-passthrough, maximum or host-model
	cpuDigest  string // of the CPU with its features; empty when the VM names none
}

// domainXML is the part of a domain's description that is read
// (libvirt.org/formatdomain.html).
type domainXML struct {
	Type string `xml:"type,attr"`
	VCPU struct {
		Max     int `xml:",chardata"`
		Current int `xml:"current,attr"`
	} `xml:"vcpu"`
	Tune struct {
		Quota  int64  `xml:"quota"`
		Period uint64 `xml:"period"`
	} `xml:"cputune"`
	Metadata struct {
		Labels struct {
			Label []struct {
				Key   string `xml:"key,attr"`
				Value string `xml:"value,attr"`
			} `xml:"label"`
		} `xml:"urn:foreshift:labels labels"`
	} `xml:"metadata"`
	CPU struct {
		Mode       string    `xml:"mode,attr"`
		Model      string    `xml:"model"`
		Migratable string    `xml:"migratable,attr"`
		Feature    []feature `xml:"feature"`
	} `xml:"cpu"`
	Security *struct {
		Type string `xml:"type,attr"`
	} `xml:"launchSecurity"`
	Devices struct {
		Disk      []diskXML `xml:"disk"`
		Hostdev   []typed   `xml:"hostdev"`
		Interface []typed   `xml:"interface"`
		FS        []typed   `xml:"filesystem"`
		Shmem     []typed   `xml:"shmem"`
		TPM       []struct {
			Backend typed `xml:"backend"`
		} `xml:"tpm"`
	} `xml:"devices"`
}

type typed struct {
	Type string `xml:"type,attr"`
}

type diskXML struct {
	Type   string `xml:"type,attr"`
	Device string `xml:"device,attr"`
	Driver struct {
		Cache string `xml:"cache,attr"`
	} `xml:"driver"`
	Source struct {
		File     string `xml:"file,attr"`
		Dev      string `xml:"dev,attr"`
		Dir      string `xml:"dir,attr"`
		Pool     string `xml:"pool,attr"`
		Volume   string `xml:"volume,attr"`
		Protocol string `xml:"protocol,attr"`
		Name     string `xml:"name,attr"`
	} `xml:"source"`
	Target struct {
		Dev string `xml:"dev,attr"`
	} `xml:"target"`
	Shareable *struct{} `xml:"shareable"`
}

// parseDomain reads a domain's description. shared are directories that other
// hosts see too.
func parseDomain(b []byte, shared []string) (facts, error) {
	var d domainXML
	if err := xml.Unmarshal(b, &d); err != nil {
		return facts{}, fmt.Errorf("domain description: %w", err)
	}
	f := facts{pinned: d.pinned(), maxVCPUs: min(max(d.VCPU.Max, 0), maxVCPUs), disks: []schemas.VMDisk{}}
	f.cpuModel = clean([]byte(strings.TrimSpace(d.CPU.Model)), maxName)
	if d.CPU.Mode != "custom" && d.CPU.Mode != "" {
		f.cpuModel = clean([]byte(d.CPU.Mode), maxName)
	}
	if f.cpuModel != "" {
		f.cpuDigest = digest(append(features(d.CPU.Feature), d.Type, f.cpuModel))
	}
	if d.Tune.Quota > 0 {
		if d.Tune.Period == 0 {
			d.Tune.Period = 100000 // us, the kernel's default
		}
		f.quota = float64(d.Tune.Quota) / float64(d.Tune.Period)
	}
	for _, l := range d.Metadata.Labels.Label {
		if l.Key == "" || len(f.labels) >= maxLabels {
			continue
		}
		if f.labels == nil {
			f.labels = map[string]string{}
		}
		f.labels[clean([]byte(l.Key), maxName)] = clean([]byte(l.Value), maxText)
	}
	for _, x := range d.Devices.Disk {
		if len(f.disks) >= maxDisks || x.Device == "cdrom" || x.Device == "floppy" {
			continue
		}
		f.disks = append(f.disks, x.disk(shared))
	}
	return f, nil
}

func (x *diskXML) disk(shared []string) schemas.VMDisk {
	d := schemas.VMDisk{Target: clean([]byte(x.Target.Dev), maxName), Cache: clean([]byte(x.Driver.Cache), maxName)}
	s := &x.Source
	switch {
	case s.File != "":
		d.Path = s.File
	case s.Dev != "":
		d.Path = s.Dev
	case s.Dir != "":
		d.Path = s.Dir
	case s.Protocol != "":
		d.Path = s.Protocol + ":" + s.Name
	case s.Pool != "":
		d.Path = s.Pool + "/" + s.Volume
	}
	d.Path = clean([]byte(d.Path), maxText)
	d.Shared = x.Type == "network" || x.Shareable != nil || under(d.Path, shared)
	return d
}

// under reports whether p lies in one of the directories.
func under(p string, dirs []string) bool {
	if !path.IsAbs(p) {
		return false
	}
	p = path.Clean(p)
	return slices.ContainsFunc(dirs, func(dir string) bool {
		dir = path.Clean(dir)
		return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/")
	})
}

// pinned says what forbids a live migration, or nothing.
func (d *domainXML) pinned() string {
	switch {
	case len(d.Devices.Hostdev) > 0:
		return "host device (" + kindOf(d.Devices.Hostdev[0]) + ") is passed through"
	case slices.ContainsFunc(d.Devices.Interface, func(t typed) bool { return t.Type == "hostdev" }):
		return "network interface is passed through"
	case len(d.Devices.FS) > 0:
		return "host directory (" + kindOf(d.Devices.FS[0]) + ") is mounted"
	case len(d.Devices.Shmem) > 0:
		return "memory is shared with the host (shmem)"
	case d.Security != nil:
		return "memory is encrypted (" + kindOf(typed{d.Security.Type}) + ")"
	case d.CPU.Migratable == "off":
		return "CPU is declared not migratable"
	}
	for _, t := range d.Devices.TPM {
		if t.Backend.Type == "passthrough" {
			return "TPM is passed through"
		}
	}
	for _, f := range d.CPU.Feature {
		if f.Name == "invtsc" && f.Policy == "require" {
			return "CPU feature invtsc is required"
		}
	}
	return ""
}

func kindOf(t typed) string {
	if t.Type == "" {
		return "unknown type"
	}
	return clean([]byte(t.Type), maxName)
}

// parsePool reads type and path of a storage pool.
func parsePool(b []byte, shared []string) (schemas.StoragePool, error) {
	var d struct {
		Type string `xml:"type,attr"`
		Path string `xml:"target>path"`
	}
	if err := xml.Unmarshal(b, &d); err != nil {
		return schemas.StoragePool{}, fmt.Errorf("storage pool description: %w", err)
	}
	p := schemas.StoragePool{Type: clean([]byte(d.Type), maxName), Path: clean([]byte(d.Path), maxText)}
	switch d.Type {
	case "netfs", "rbd", "gluster", "iscsi", "iscsi-direct", "sheepdog", "vstorage":
		p.Shared = true
	default:
		p.Shared = under(d.Path, shared)
	}
	return p, nil
}

// maxModels bounds the CPU models that one host may name.
const maxModels = 512

// parseDomainCapabilities reads the models of guest CPUs that the host can run, in
// order. Without hardware virtualisation libvirt does not say "yes" of them, but it
// does say "no".
func parseDomainCapabilities(b []byte) ([]string, error) {
	var d struct {
		Mode []struct {
			Name  string `xml:"name,attr"`
			Model []struct {
				Usable string `xml:"usable,attr"`
				Name   string `xml:",chardata"`
			} `xml:"model"`
		} `xml:"cpu>mode"`
	}
	if err := xml.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("domain capabilities: %w", err)
	}
	var names []string
	for _, m := range d.Mode {
		if m.Name != "custom" {
			continue
		}
		for _, x := range m.Model {
			if name := clean([]byte(strings.TrimSpace(x.Name)), maxName); name != "" && x.Usable != "no" && len(names) < maxModels {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
