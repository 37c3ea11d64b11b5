package schemas

// CapacityHost is what a host has and whom it carries: subject
// capacity.host.<host>, JSON, every flush of its agent.
type CapacityHost struct {
	Host       HostID            `json:"host"`
	Site       SiteID            `json:"site"`
	Time       Time              `json:"time" jsonschema_description:"when measured, by the agent's clock"`
	URI        string            `json:"uri" jsonschema_description:"libvirt URI as the agent reaches it"`
	Capacity   Amounts           `json:"capacity" jsonschema_description:"usable capacity, declared or measured, before overcommit"`
	Used       Amounts           `json:"used" jsonschema_description:"in use now, all of the host"`
	Overcommit Overcommit        `json:"overcommit"`
	Speed      Ratio             `json:"speed_ratio" jsonschema_description:"speed of one core relative to the reference core; demand is normalised by it"`
	CPUModel   string            `json:"cpu_model"`
	Domain     string            `json:"failure_domain" jsonschema_description:"rack, power feed or zone; empty when unknown"`
	Labels     map[string]string `json:"labels"`
	Simulated  bool              `json:"simulated" jsonschema_description:"true on the built-in simulator only"`
	Libvirt    uint64            `json:"libvirt_version" jsonschema_description:"major*1000000+minor*1000+release"`
	QEMU       uint64            `json:"qemu_version" jsonschema_description:"major*1000000+minor*1000+release"`
	Pools      []StoragePool     `json:"pools"`
	CPUModels  []string          `json:"cpu_models" jsonschema_description:"models of guest CPUs that libvirt says this host can run (its domain capabilities); empty when unknown"`
	VMs        []InventoryVM     `json:"vms"`
	// Since 1.1.
	CPUDigest string `json:"cpu_digest" jsonschema_description:"16 hex digits that change when what the host's CPU can do changes: its model, features and microcode; empty when unknown"`
}

// Amounts is one value per resource, for people; [Amounts.Vec] for deciders.
type Amounts struct {
	CPU  MilliCPU       `json:"cpu_mcpu" jsonschema_description:"mCPU of reference speed"`
	Mem  Bytes          `json:"mem_bytes" jsonschema_description:"bytes"`
	Net  BytesPerSecond `json:"net_bytes_per_second" jsonschema_description:"bytes/s, both directions together; 0 = not limited"`
	Disk BytesPerSecond `json:"disk_bytes_per_second" jsonschema_description:"bytes/s, read and written together; 0 = not limited"`
}

// Vec gives the amounts as a vector.
func (a Amounts) Vec() Vec {
	return Vec{float64(a.CPU), float64(a.Mem), float64(a.Net), float64(a.Disk)}
}

// AmountsOf gives a vector its units back.
func AmountsOf(v Vec) Amounts {
	return Amounts{MilliCPU(v[CPU]), Bytes(v[Memory]), BytesPerSecond(v[Net]), BytesPerSecond(v[Disk])}
}

// Overcommit multiplies capacity when room is judged; demand above the real
// capacity is contention all the same.
type Overcommit struct {
	CPU Ratio `json:"cpu_ratio" jsonschema_description:"ratio, 1 = none"`
	Mem Ratio `json:"mem_ratio" jsonschema_description:"ratio, 1 = none"`
}

// StoragePool is a libvirt storage pool of a host.
type StoragePool struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Path     string `json:"path"`
	Capacity Bytes  `json:"capacity_bytes" jsonschema_description:"bytes"`
	Free     Bytes  `json:"free_bytes" jsonschema_description:"bytes"`
	Shared   bool   `json:"shared" jsonschema_description:"the same storage is seen by other hosts"`
}

// InventoryVM is one VM as its host sees it.
type InventoryVM struct {
	VM         VMID              `json:"vm"`
	Name       string            `json:"name"`
	State      VMState           `json:"state"`
	VCPUs      int               `json:"vcpus" jsonschema_description:"count of virtual CPUs"`
	AllocCPU   MilliCPU          `json:"alloc_mcpu" jsonschema_description:"mCPU of reference speed the VM may use"`
	AllocMem   Bytes             `json:"alloc_mem_bytes" jsonschema_description:"bytes of memory the VM may use (balloon maximum)"`
	Resident   Bytes             `json:"resident_bytes" jsonschema_description:"resident set on the host; 0 = unknown"`
	Disks      []VMDisk          `json:"disks"`
	Labels     map[string]string `json:"labels"`
	Persistent bool              `json:"persistent"`
	Movable    bool              `json:"movable" jsonschema_description:"false when a device or setting forbids live migration"`
	WhyPinned  string            `json:"why_pinned" jsonschema_description:"what forbids it"`
	Migrating  bool              `json:"migrating" jsonschema_description:"a migration job runs, whoever started it"`
	CPUModel   string            `json:"cpu_model" jsonschema_description:"model of the guest's CPU; host-passthrough or maximum when it is the host's own; empty when unknown"`
	DirtyRate  BytesPerSecond    `json:"dirty_rate_bytes_per_second" jsonschema_description:"bytes/s of memory the guest dirties, smoothed over measurements; 0 = not measured"`
	DirtyHigh  BytesPerSecond    `json:"dirty_high_bytes_per_second" jsonschema_description:"bytes/s, about the .9 quantile of the measurements; 0 = not measured"`
	// Since 1.1 of capacity.host.
	CPUDigest string `json:"cpu_digest" jsonschema_description:"16 hex digits of the guest's CPU as it runs, features included: VMs with the same need the same of a host; empty when unknown"`
}

// VMDisk is one disk of a VM.
type VMDisk struct {
	Target string `json:"target"`
	Path   string `json:"path"`
	Size   Bytes  `json:"size_bytes" jsonschema_description:"bytes"`
	Cache  string `json:"cache"`
	Shared bool   `json:"shared"`
}

// VMState is libvirt's state of a domain, in words.
type VMState string

// The states of a domain.
const (
	VMRunning  VMState = "running"
	VMPaused   VMState = "paused"
	VMShutOff  VMState = "shut-off"
	VMCrashed  VMState = "crashed"
	VMOther    VMState = "other"
	VMStopping VMState = "stopping"
)

// Kind implements [Message].
func (*CapacityHost) Kind() Kind { return KindCapacityHost }

// CapacityLink is what a link between two sites carries: subject
// capacity.link.<a>.<b> with a < b, JSON, published by one elected prober.
type CapacityLink struct {
	A         SiteID         `json:"site_a"`
	B         SiteID         `json:"site_b"`
	Time      Time           `json:"time"`
	RTT       Millis         `json:"rtt_ms" jsonschema_description:"ms, round trip"`
	Bandwidth BytesPerSecond `json:"bandwidth_bytes_per_second" jsonschema_description:"bytes/s, one direction"`
	Free      BytesPerSecond `json:"free_bytes_per_second" jsonschema_description:"bandwidth less what other traffic takes"`
	Loss      Ratio          `json:"loss_ratio" jsonschema_description:"share of probes lost, 0..1"`
	By        string         `json:"by" jsonschema_description:"who measured: a host or a tunnel role"`
	// Since 1.1.
	Shared   bool           `json:"shared" jsonschema_description:"a tunnel role shares the link out among its moves"`
	Left     BytesPerSecond `json:"left_bytes_per_second" jsonschema_description:"where shared: bytes/s that one more move could have"`
	Moves    int            `json:"moves" jsonschema_description:"where shared: count of the moves that are counted in it"`
	Reserved BytesPerSecond `json:"reserved_bytes_per_second" jsonschema_description:"where shared: bytes/s guaranteed to all that is no move"`
	Shares   []Share        `json:"shares" jsonschema_description:"where shared: what each move may use, for people; moves follow bucket tunnels"`
}

// Kind implements [Message].
func (*CapacityLink) Kind() Kind { return KindCapacityLink }

// HostEntry is the value of bucket hosts under the host's id.
type HostEntry struct {
	Host   HostID            `json:"host"`
	Name   string            `json:"name"`
	Site   SiteID            `json:"site"`
	Labels map[string]string `json:"labels"`
	Time   Time              `json:"time"`
}

// Kind implements [Message].
func (*HostEntry) Kind() Kind { return KindHostEntry }

// VMEntry is the value of bucket vms under the VM's id.
type VMEntry struct {
	VM     VMID              `json:"vm"`
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	Time   Time              `json:"time"`
}

// Kind implements [Message].
func (*VMEntry) Kind() Kind { return KindVMEntry }
