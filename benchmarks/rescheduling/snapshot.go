package rescheduling

import (
	"fmt"
	"math"

	"github.com/foreshift/foreshift/benchmarks/instance"
)

// Bounds on a snapshot; what is larger is refused.
const (
	MaxHosts = 100_000
	MaxVMs   = 2_000_000
	maxCores = 4096
)

// Snapshot is a recorded state of clusters, in the layout of the data set.
type Snapshot struct {
	Clusters []Cluster `json:"cluster_list"`
}

// Cluster is a set of hosts among which VMs may move.
type Cluster struct {
	Name  string `json:"cluster_name"`
	Hosts []Host `json:"host_info"`
	VMs   []VM   `json:"vm_instance"`
}

// Host is a machine with two NUMA nodes.
type Host struct {
	ID     string `json:"node_id"`
	Status string `json:"status"` // only ACTIVE hosts take part
	NUMA   []Node `json:"numa"`
}

// Node is a NUMA node of a host.
type Node struct {
	Number  int     `json:"node"`
	Cores   float64 `json:"total_cpu"`
	Free    float64 `json:"free_cpu"`
	Huge    float64 `json:"memory_huge_total_mb"`
	HugeNow float64 `json:"memory_huge_free_mb"`
}

// VM is a machine on one NUMA node of its host, or on both.
type VM struct {
	ID      string  `json:"instance_id"`
	Host    string  `json:"host_id"`
	Movable bool    `json:"allow_migration"`
	NUMA    []Share `json:"numa"`
}

// Share is what a VM takes of a NUMA node.
type Share struct {
	Number int     `json:"node"`
	Cores  float64 `json:"cpu"`
	Huge   float64 `json:"mem_mb"`
}

const active = "ACTIVE"

// Read reads a snapshot from a file, plain or gzipped, and checks it.
func Read(path string) (*Snapshot, error) {
	var s Snapshot
	if err := instance.ReadJSON(path, &s); err != nil {
		return nil, fmt.Errorf("rescheduling: %w", err)
	}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("rescheduling: %s: %w", path, err)
	}
	return &s, nil
}

// Validate refuses a snapshot that the problem is not defined on.
func (s *Snapshot) Validate() error {
	hosts, vms := map[string]int{}, map[string]bool{}
	left := map[string]*[2]float64{} // cores that are neither free nor yet a VM's
	count := 0
	for c := range s.Clusters {
		cl := &s.Clusters[c]
		count += len(cl.VMs)
		if len(hosts)+len(cl.Hosts) > MaxHosts || count > MaxVMs {
			return fmt.Errorf("more than %d hosts or %d VMs", MaxHosts, MaxVMs)
		}
		for i := range cl.Hosts {
			h := &cl.Hosts[i]
			if _, twice := hosts[h.ID]; twice || h.ID == "" {
				return fmt.Errorf("host %q: named twice or not at all", h.ID)
			}
			hosts[h.ID], left[h.ID] = c, new([2]float64)
			if len(h.NUMA) != 2 || h.NUMA[0].Number != 0 || h.NUMA[1].Number != 1 {
				return fmt.Errorf("host %s: needs the NUMA nodes 0 and 1, in this order", h.ID)
			}
			for k, n := range h.NUMA {
				left[h.ID][k] = n.Cores - n.Free
				if !whole(n.Cores, maxCores) || !whole(n.Free, n.Cores) || !whole(n.Huge, math.MaxInt32) || !whole(n.HugeNow, n.Huge) {
					return fmt.Errorf("host %s, NUMA node %d: cores and memory must be whole, free within the total", h.ID, n.Number)
				}
			}
		}
		for i := range cl.VMs {
			v := &cl.VMs[i]
			if vms[v.ID] || v.ID == "" {
				return fmt.Errorf("VM %q: named twice or not at all", v.ID)
			}
			vms[v.ID] = true
			if at, known := hosts[v.Host]; !known || at != c {
				return fmt.Errorf("VM %s: host %q is not in its cluster", v.ID, v.Host)
			}
			ok := len(v.NUMA) == 1 && v.NUMA[0].Number >= 0 && v.NUMA[0].Number <= 1 ||
				len(v.NUMA) == 2 && v.NUMA[0].Number == 0 && v.NUMA[1].Number == 1 && v.NUMA[0].Cores == v.NUMA[1].Cores && v.NUMA[0].Huge == v.NUMA[1].Huge
			if !ok {
				return fmt.Errorf("VM %s: must be on NUMA node 0 or 1, or on both in equal parts", v.ID)
			}
			if n := v.NUMA[0]; !whole(n.Cores, maxCores) || !whole(n.Huge, math.MaxInt32) {
				return fmt.Errorf("VM %s: cores and memory must be whole", v.ID)
			}
			for _, n := range v.NUMA {
				if left[v.Host][n.Number] -= n.Cores; left[v.Host][n.Number] < 0 {
					return fmt.Errorf("VM %s: its host's NUMA node %d has not so many cores in use", v.ID, n.Number)
				}
			}
		}
	}
	if len(hosts) == 0 {
		return fmt.Errorf("no hosts")
	}
	return nil
}

func whole(x, max float64) bool { return x >= 0 && x <= max && x == math.Trunc(x) }
