package history

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/schemas"
)

// Bounds of one import.
const (
	maxRows   = 30_000_000
	maxVMs    = 20_000
	maxHosts  = 10_000
	maxValues = 200_000_000
	mostValue = 1e15 // of anything: what is above is a broken counter
)

// Options of an import.
type Options struct {
	Base time.Duration
	// End is when step numbers (column t) end: the last one read is the step before it.
	End schemas.Time
	// ID gives the VM of that name, when one is known; others are given an id made from
	// their name.
	ID func(name string) (schemas.VMID, bool)
}

// Counts says what was read and what was repaired.
type Counts struct {
	Rows       int `json:"rows"`
	VMs        int `json:"vms"`
	Steps      int `json:"steps"`              // from the first to the last
	Unsorted   int `json:"rows_out_of_order"`  // put in order
	Duplicates int `json:"duplicate_rows"`     // the last one stands
	Missing    int `json:"empty_cells"`        // missing values
	Gaps       int `json:"steps_without_rows"` // of VMs, between their first row and their last
	Averaged   int `json:"rows_averaged"`      // more than one a step
}

// row is one reading; its values are in Table.values.
type row struct {
	vm, host int32
	at       int64 // ns, or a step number where relative
	seq      int32
}

// Table is what has been read so far.
type Table struct {
	Counts
	opt      Options
	cols     []int // of value columns: schemas.Column, or one of the two allocations
	index    map[int]int
	rows     []row
	values   []float32
	vms      []schemas.VMID
	names    map[string]int32
	byID     map[schemas.VMID]int32
	hosts    []schemas.HostID
	hostOf   map[string]int32
	last     []int64 // by VM, to see what is out of order
	relative bool
	absolute bool
}

// The allocations stand beside the columns of steps.
const (
	allocCPU = int(schemas.NumColumns) + iota
	allocMem
	flagsOf // of an export: that a VM was migrating stays known
	numValues
)

// New begins an import.
func New(o Options) *Table {
	return &Table{opt: o, index: map[int]int{}, names: map[string]int32{}, byID: map[schemas.VMID]int32{}, hostOf: map[string]int32{}}
}

// ID makes the UUID of a VM that is known by its name alone.
func ID(name string) (id schemas.VMID) {
	a, b := xxhash.Sum64String(name), xxhash.Sum64String(name+"#")
	for i := range 8 {
		id[i], id[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	return id
}

func (t *Table) vm(name string) (int32, error) {
	if i, ok := t.names[name]; ok {
		return i, nil
	}
	if name == "" || len(name) > schemas.MaxName {
		return 0, fmt.Errorf("%.80q is no name of a VM", name)
	}
	id, err := schemas.ParseVMID(name)
	if err != nil {
		known := false
		if t.opt.ID != nil {
			id, known = t.opt.ID(name)
		}
		if !known {
			id = ID(name)
		}
	}
	i, ok := t.byID[id]
	if !ok {
		if len(t.vms) >= maxVMs {
			return 0, fmt.Errorf("more than %d VMs", maxVMs)
		}
		i = int32(len(t.vms))
		t.vms, t.last = append(t.vms, id), append(t.last, math.MinInt64)
		t.byID[id] = i
	}
	t.names[name] = i
	return i, nil
}

// unknownHost stands where a file names no host.
const unknownHost = "imported"

func (t *Table) host(name string) (int32, error) {
	if name == "" {
		name = unknownHost
	}
	if i, ok := t.hostOf[name]; ok {
		return i, nil
	}
	if err := schemas.CheckToken("host", name); err != nil {
		return 0, err
	}
	if len(t.hosts) >= maxHosts {
		return 0, fmt.Errorf("more than %d hosts", maxHosts)
	}
	i := int32(len(t.hosts))
	t.hosts = append(t.hosts, schemas.HostID(name))
	t.hostOf[name] = i
	return i, nil
}

// reading is one row of a source.
type reading struct {
	vm, host string
	at       int64
	relative bool // at is a step number
	v        [numValues]float32
}

func blank() (r reading) {
	for i := range r.v {
		r.v[i] = schemas.NaN()
	}
	return r
}

// columns tells which values a source has, before its rows are added.
func (t *Table) columns(of []int) error {
	for _, c := range of {
		if _, ok := t.index[c]; ok {
			continue
		}
		if len(t.rows) > 0 {
			// Rows read before have none of it.
			w := len(t.cols)
			wide := make([]float32, 0, len(t.rows)*(w+1))
			for i := range t.rows {
				wide = append(append(wide, t.values[i*w:(i+1)*w]...), schemas.NaN())
			}
			t.values = wide
		}
		t.index[c] = len(t.cols)
		t.cols = append(t.cols, c)
	}
	return nil
}

func (t *Table) add(r *reading) error {
	if len(t.rows) >= maxRows || len(t.values)+len(t.cols) > maxValues {
		return fmt.Errorf("more than %d rows or %d values: import less at a time", maxRows, maxValues)
	}
	if r.relative {
		t.relative = true
	} else {
		t.absolute = true
	}
	if t.relative && t.absolute {
		return errors.New("some rows have times and some have step numbers: import them apart")
	}
	v, err := t.vm(r.vm)
	if err != nil {
		return err
	}
	h, err := t.host(r.host)
	if err != nil {
		return err
	}
	if r.at < t.last[v] {
		t.Unsorted++
	}
	t.last[v] = max(t.last[v], r.at)
	t.rows = append(t.rows, row{v, h, r.at, int32(len(t.rows))})
	for _, c := range t.cols {
		x := r.v[c]
		if x != x {
			t.Missing++
		} else if x < 0 || x > mostValue {
			return fmt.Errorf("%v is no %s", x, nameOf(c))
		}
		t.values = append(t.values, x)
	}
	t.Rows++
	return nil
}

func nameOf(c int) string {
	switch c {
	case allocCPU:
		return "allocated mCPU"
	case allocMem:
		return "allocated memory"
	case flagsOf:
		return "flags"
	}
	return schemas.Columns[c].Name
}

// Messages gives the messages of STEPS, in order of step and partition. Nothing can be
// added after.
func (t *Table) Messages() ([]*schemas.Steps, error) {
	if len(t.rows) == 0 {
		return nil, errors.New("there is no row to import")
	}
	t.place()
	slices.SortFunc(t.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(t.step(&a), t.step(&b)), cmp.Compare(a.vm, b.vm), cmp.Compare(a.at, b.at), cmp.Compare(a.seq, b.seq))
	})
	first, last := t.step(&t.rows[0]), t.step(&t.rows[len(t.rows)-1])
	t.VMs, t.Steps = len(t.vms), int(last-first)+1
	order := make([]int32, len(t.vms)) // rank of VMs by id, so that files in any order give the same
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return strings.Compare(string(t.vms[a][:]), string(t.vms[b][:])) })
	rank := make([]int32, len(t.vms))
	for i, v := range order {
		rank[v] = int32(i)
	}
	var out []*schemas.Steps
	seen, newest := make([]schemas.Step, len(t.vms)), make([]schemas.Step, len(t.vms))
	counted := make([]int, len(t.vms))
	for i := 0; i < len(t.rows); {
		step := t.step(&t.rows[i])
		var made []merged
		for i < len(t.rows) && t.step(&t.rows[i]) == step {
			v := t.rows[i].vm
			from := i
			for i < len(t.rows) && t.rows[i].vm == v && t.step(&t.rows[i]) == step {
				i++
			}
			made = append(made, t.merge(from, i))
			if counted[v] == 0 {
				seen[v] = step
			}
			newest[v] = step
			counted[v]++
		}
		slices.SortFunc(made, func(a, b merged) int { return cmp.Compare(rank[a.vm], rank[b.vm]) })
		var parts [schemas.Partitions]*schemas.Steps
		for k := range made {
			p := t.vms[made[k].vm].Partition()
			if parts[p] == nil {
				parts[p] = &schemas.Steps{Partition: p, Step: step, Base: t.opt.Base}
			}
			t.put(parts[p], &made[k])
		}
		for _, m := range parts {
			if m != nil {
				out = append(out, m)
			}
		}
	}
	for v, n := range counted {
		if n > 0 {
			t.Gaps += int(newest[v]-seen[v]) + 1 - n
		}
	}
	return out, nil
}

// place turns step numbers into times: the last one read ends at Options.End.
func (t *Table) place() {
	if !t.relative {
		return
	}
	last := int64(math.MinInt64)
	for i := range t.rows {
		last = max(last, t.rows[i].at)
	}
	end := schemas.StepAt(t.opt.End, t.opt.Base) - 1
	for i := range t.rows {
		t.rows[i].at = int64((end - schemas.Step(last-t.rows[i].at)).Start(t.opt.Base))
	}
}

func (t *Table) step(r *row) schemas.Step { return schemas.StepAt(schemas.Time(r.at), t.opt.Base) }

// merged is one VM's step.
type merged struct {
	vm, host int32
	v        [numValues]float32
}

func (t *Table) merge(from, to int) merged {
	m := merged{vm: t.rows[from].vm, host: t.rows[to-1].host}
	r := blank()
	m.v = r.v
	var sum [numValues]float64
	var n [numValues]int
	w, used := len(t.cols), 0
	for i := from; i < to; i++ {
		if i+1 < to && t.rows[i+1].at == t.rows[i].at {
			t.Duplicates++
			continue
		}
		used++
		values := t.values[int(t.rows[i].seq)*w:][:w]
		for k, c := range t.cols {
			x := values[k]
			switch {
			case x != x:
			case c == int(schemas.ColCPUMax) || c == int(schemas.ColMemMax):
				sum[c] = max(sum[c], float64(x))
				n[c] = 1
			default:
				sum[c] += float64(x)
				n[c]++
			}
		}
	}
	if used > 1 {
		t.Averaged += used - 1
	}
	for c := range sum {
		if n[c] > 0 {
			m.v[c] = float32(sum[c] / float64(n[c]))
		}
	}
	return m
}

// flags reads flags back; those that are not known here are left out.
func flags(x float32) schemas.Flags {
	if !(x > 0 && x < 16) {
		return 0
	}
	return schemas.Flags(x)
}

func (t *Table) put(s *schemas.Steps, m *merged) {
	s.VM, s.Host = append(s.VM, t.vms[m.vm]), append(s.Host, t.hosts[m.host])
	s.Coverage, s.Flags = append(s.Coverage, 1), append(s.Flags, schemas.FlagImported|flags(m.v[flagsOf]))
	s.AllocCPU, s.AllocMem = append(s.AllocCPU, m.v[allocCPU]), append(s.AllocMem, m.v[allocMem])
	for c := range s.Cols {
		x := m.v[c]
		if s.Cols[c] == nil && x == x {
			for range len(s.VM) - 1 {
				s.Cols[c] = append(s.Cols[c], schemas.NaN())
			}
		}
		if s.Cols[c] != nil || x == x {
			s.Cols[c] = append(s.Cols[c], x)
		}
	}
}
