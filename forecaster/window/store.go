package window

import (
	"bytes"
	"sort"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/schemas"
)

// VM is what a [Store] knows of one VM.
type VM struct {
	ID        schemas.VMID
	Partition int
	Slot      int            // index that stays the same while the VM is known
	Host      schemas.HostID // of the newest row
	Since     schemas.Step   // first step seen on that host; 0 when it was never seen on another
	AllocCPU  float32        // mCPU; NaN = unknown
	AllocMem  float32        // bytes; NaN = unknown
	LastStep  schemas.Step   // newest step with a row
	Steps     int            // rows put so far, at most Rows
	W         *Window
}

// Store holds the windows of a bounded number of VMs. Memory of a VM that is
// evicted is used for the next one.
type Store struct {
	mem   memory.Allocator
	max   int
	byID  map[schemas.VMID]*VM
	parts [schemas.Partitions][]*VM // sorted by id
	free  []*VM
	slots int
}

// NewStore bounds the number of VMs at max.
func NewStore(mem memory.Allocator, max int) *Store {
	return &Store{mem: mem, max: max, byID: map[schemas.VMID]*VM{}}
}

// Len is the number of VMs.
func (s *Store) Len() int { return len(s.byID) }

// Get finds a VM, or nil.
func (s *Store) Get(id schemas.VMID) *VM { return s.byID[id] }

// Partition lists the VMs of a partition in order of their id. The slice belongs to
// the store.
func (s *Store) Partition(p int) []*VM { return s.parts[p] }

// Ensure finds a VM or makes room for it; nil when the store is full.
func (s *Store) Ensure(id schemas.VMID) *VM {
	if v := s.byID[id]; v != nil {
		return v
	}
	if len(s.byID) >= s.max {
		return nil
	}
	var v *VM
	if n := len(s.free); n > 0 {
		v = s.free[n-1]
		s.free = s.free[:n-1]
		*v = VM{Slot: v.Slot, W: v.W}
	} else {
		v = &VM{Slot: s.slots, W: New(s.mem)}
		s.slots++
	}
	v.ID, v.Partition = id, id.Partition()
	v.AllocCPU, v.AllocMem = schemas.NaN(), schemas.NaN()
	s.byID[id] = v
	list := s.parts[v.Partition]
	i := sort.Search(len(list), func(i int) bool { return bytes.Compare(list[i].ID[:], id[:]) >= 0 })
	list = append(list, nil)
	copy(list[i+1:], list[i:])
	list[i] = v
	s.parts[v.Partition] = list
	return v
}

// Put writes a row into its VM's window. Host and allocation follow the newest
// step. False when the store is full or the row older than the window.
func (s *Store) Put(r *Row) bool {
	v := s.Ensure(r.VM)
	if v == nil || !v.W.Put(r) {
		return false
	}
	if v.Steps == 0 || r.Step >= v.LastStep {
		if v.Host != "" && v.Host != r.Host {
			v.Since = r.Step
		}
		v.LastStep = r.Step
		v.Host = r.Host
		if r.AllocCPU == r.AllocCPU {
			v.AllocCPU = r.AllocCPU
		}
		if r.AllocMem == r.AllocMem {
			v.AllocMem = r.AllocMem
		}
	}
	v.Steps = min(v.Steps+1, Rows)
	return true
}

// Evict forgets the VMs whose newest row is more than Rows steps before now and
// calls gone for each, in order of partition and id.
func (s *Store) Evict(now schemas.Step, gone func(*VM)) {
	for p, list := range s.parts {
		kept := list[:0]
		for _, v := range list {
			if v.LastStep >= now-Rows {
				kept = append(kept, v)
				continue
			}
			gone(v)
			delete(s.byID, v.ID)
			v.W.Reset()
			s.free = append(s.free, v)
		}
		clear(list[len(kept):])
		s.parts[p] = kept
	}
}

// Drop forgets the VMs of a partition and calls gone for each, in order of their id.
func (s *Store) Drop(part int, gone func(*VM)) {
	for _, v := range s.parts[part] {
		gone(v)
		delete(s.byID, v.ID)
		v.W.Reset()
		s.free = append(s.free, v)
	}
	clear(s.parts[part])
	s.parts[part] = s.parts[part][:0]
}
