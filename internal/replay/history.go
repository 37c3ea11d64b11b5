package replay

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/schemas"
)

// VM is one VM of a history.
type VM struct {
	Name  string
	Cores float64 // that it may use
	GiB   float64 // memory that a move sends and a host reserves
}

// History is demand in cores by VM and base step of 5 minutes, without gaps.
type History struct {
	Name     string
	VMs      []VM
	Steps    int          // whole days
	First    schemas.Step // that t = 0 is, where the history is a fleet's own
	D        []float32    // VM*Steps + step
	Filled   int          // values that were missing: the last one stands for them
	Invented bool         // sizes of VMs are drawn from their names: the file has none
}

// At is the demand of VM v at step t, in cores.
func (h *History) At(v, t int) float64 { return float64(h.D[v*h.Steps+t]) }

// Bounds of a history.
const (
	maxVMs   = 20_000
	maxSteps = 366 * schemas.StepsPerDay
	maxCells = 200_000_000
	refMHz   = 2600 // a core's clock where a file has megahertz
	leastGiB = 1
	mostGiB  = 64 // one VM of half a terabyte would decide over the size of all hosts
)

// Load reads one or more CSV files, plain or gzipped, as one history. Each needs the
// columns vm (or series), t (step) and cpu_pct (or cpu_avg_pct); cpu_cap_mhz or cores
// and mem_cap_mb say how large the VMs are, otherwise their names draw it.
func Load(paths []string) (*History, error) {
	h := &History{}
	var all []*record
	for _, p := range paths {
		rs, err := loadFile(p)
		if err != nil {
			return nil, fmt.Errorf("backtest: %s: %w", p, err)
		}
		base, _, _ := strings.Cut(filepath.Base(p), ".")
		h.Name = strings.TrimPrefix(h.Name+"+"+base, "+")
		for _, r := range rs {
			if len(paths) > 1 {
				r.name = base + "/" + r.name
			}
			all = append(all, r)
		}
	}
	return h, h.fill(all)
}

// record gathers the rows of one VM.
type record struct {
	name       string
	y          []float32 // share of its cores; or cores; NaN where there is no row
	cores, gib float64
	sized      bool
}

type columns struct {
	vm, t, pct, mhz, cores, mem int
	names                       []string
}

func columnsOf(head []string) (columns, error) {
	c := columns{names: head}
	find := func(names ...string) int {
		for _, n := range names {
			if i := slices.Index(head, n); i >= 0 {
				return i
			}
		}
		return -1
	}
	c.vm, c.t, c.pct = find("vm", "series"), find("t"), find("cpu_pct", "cpu_avg_pct")
	c.mhz, c.cores, c.mem = find("cpu_cap_mhz"), find("cores"), find("mem_cap_mb")
	for at, name := range map[int]string{c.vm: "vm or series", c.t: "t", c.pct: "cpu_pct or cpu_avg_pct"} {
		if at < 0 {
			return c, fmt.Errorf("row 1: no column %s; the file has %s", name, strings.Join(head, ", "))
		}
	}
	return c, nil
}

func loadFile(path string) ([]*record, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := bufio.NewReaderSize(f, 1<<20)
	if magic, err := b.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, err
		}
		b = bufio.NewReaderSize(z, 1<<20)
	}
	return decode(b)
}

// decode reads the rows of one file. A row that cannot be read is an error with its
// number and column: a history with a hole in it would be scored as if it had none.
func decode(r io.Reader) ([]*record, error) {
	in := csv.NewReader(r)
	in.ReuseRecord = true
	head, err := in.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty")
	}
	if err != nil {
		return nil, err
	}
	head = slices.Clone(head)
	for i := range head {
		head[i] = strings.TrimSpace(strings.TrimPrefix(head[i], "\ufeff"))
	}
	c, err := columnsOf(head)
	if err != nil {
		return nil, err
	}
	by := map[string]*record{}
	cells := 0
	for row := 2; ; row++ {
		rec, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err // csv names line and column itself
		}
		vm := rec[c.vm]
		if vm == "" {
			return nil, fmt.Errorf("row %d, column %s: empty", row, c.names[c.vm])
		}
		x := by[vm]
		if x == nil {
			if len(by) >= maxVMs {
				return nil, fmt.Errorf("row %d: more than %d VMs", row, maxVMs)
			}
			x = &record{name: vm, sized: c.mhz >= 0 || c.cores >= 0}
			by[x.name] = x
		}
		before := len(x.y)
		if err := x.row(rec, &c); err != nil {
			return nil, fmt.Errorf("row %d, %w", row, err)
		}
		if cells += len(x.y) - before; cells > maxCells {
			return nil, fmt.Errorf("row %d: more than %d values", row, maxCells)
		}
	}
	out := make([]*record, 0, len(by))
	for _, x := range by {
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b *record) int { return strings.Compare(a.name, b.name) })
	if len(out) == 0 {
		return nil, errors.New("no rows below the header")
	}
	return out, nil
}

// row adds one row. The last of two rows for one step counts.
func (x *record) row(rec []string, c *columns) error {
	t, err := strconv.Atoi(strings.TrimSpace(rec[c.t]))
	if err != nil || t < 0 || t >= maxSteps {
		return fmt.Errorf("column %s: %q is not a step from 0 to %d", c.names[c.t], rec[c.t], maxSteps-1)
	}
	number := func(at int, most float64) (float64, error) {
		s := strings.TrimSpace(rec[at])
		if s == "" {
			return math.NaN(), nil
		}
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsNaN(v) || v < 0 || v > most {
			return 0, fmt.Errorf("column %s: %q is not a number from 0 to %g", c.names[at], rec[at], most)
		}
		return v, nil
	}
	y, err := number(c.pct, 1e6)
	if err != nil {
		return err
	}
	y = min(y, 100) / 100 // NaN stays NaN
	switch {
	case c.mhz >= 0:
		mhz, err := number(c.mhz, 1e9)
		if err != nil {
			return err
		}
		y *= mhz / refMHz
		if mhz == mhz {
			x.cores = max(x.cores, mhz/refMHz)
		}
	case c.cores >= 0:
		n, err := number(c.cores, 1e5)
		if err != nil {
			return err
		}
		y *= n
		if n == n {
			x.cores = max(x.cores, n)
		}
	}
	if c.mem >= 0 {
		mb, err := number(c.mem, 1e12)
		if err != nil {
			return err
		}
		if mb == mb {
			x.gib = max(x.gib, min(max(mb/1024, leastGiB), mostGiB))
		}
	}
	for len(x.y) <= t {
		x.y = append(x.y, schemas.NaN())
	}
	x.y[t] = float32(y)
	return nil
}

// fill makes the matrix: as many whole days as nine in ten VMs reach.
func (h *History) fill(all []*record) error {
	ends := make([]int, len(all))
	for i, x := range all {
		ends[i] = len(x.y)
	}
	slices.Sort(ends)
	h.Steps = ends[len(ends)/10] / schemas.StepsPerDay * schemas.StepsPerDay
	if h.Steps < (warmDays+1)*schemas.StepsPerDay {
		return fmt.Errorf("backtest: %s has %d whole days of %d steps; %d to learn from and one to score are needed", h.Name, h.Steps/schemas.StepsPerDay, schemas.StepsPerDay, warmDays)
	}
	if len(all) < 4 || len(all)*h.Steps > maxCells {
		return fmt.Errorf("backtest: %s has %d VMs and %d steps: want at least 4 VMs and at most %d values", h.Name, len(all), h.Steps, maxCells)
	}
	h.D = make([]float32, 0, len(all)*h.Steps)
	for _, x := range all {
		scale := float32(1)
		if !x.sized {
			x.cores, h.Invented = drawn(x.name), true
			scale = float32(x.cores)
		}
		if x.gib == 0 {
			x.gib = min(max(4*x.cores, leastGiB), mostGiB)
		}
		h.VMs = append(h.VMs, VM{x.name, x.cores, x.gib})
		last := float32(0)
		for t := range h.Steps {
			if t < len(x.y) && x.y[t] == x.y[t] {
				last = x.y[t] * scale
			} else {
				h.Filled++
			}
			h.D = append(h.D, last)
		}
	}
	return nil
}

// drawn is the size of a VM whose file has none: 2, 4 or 8 cores for 50, 35 and 15 in
// a hundred, by FNV-1a of its name.
func drawn(name string) float64 {
	x := uint32(2166136261)
	for _, b := range []byte(name) {
		x = (x ^ uint32(b)) * 16777619
	}
	switch x %= 100; {
	case x >= 85:
		return 8
	case x >= 50:
		return 4
	}
	return 2
}

// Copies adds to a history copies of all its VMs that are so many whole days ahead, the
// end wrapped round to the beginning: a larger fleet with the same rhythm of day and
// night. Correlations between a VM and its copies are not real ones.
func (h *History) Copies(days []int) error {
	n, one := len(h.VMs), h.D
	for _, d := range days {
		if d < 1 || d*schemas.StepsPerDay >= h.Steps {
			return fmt.Errorf("backtest: a copy %d days ahead of a history of %d days", d, h.Steps/schemas.StepsPerDay)
		}
		if len(h.D)+len(one) > maxCells {
			return fmt.Errorf("backtest: more than %d values with copies", maxCells)
		}
		for v, vm := range h.VMs[:n] {
			vm.Name += "~" + strconv.Itoa(d)
			h.VMs = append(h.VMs, vm)
			row := one[v*h.Steps : (v+1)*h.Steps]
			h.D = append(append(h.D, row[d*schemas.StepsPerDay:]...), row[:d*schemas.StepsPerDay]...)
		}
	}
	if len(days) > 0 {
		h.Name += "+"
	}
	return nil
}

// id makes the UUID of a VM from its name.
func id(name string) (id schemas.VMID) {
	a, b := xxhash.Sum64String(name), xxhash.Sum64String(name+"#")
	for i := range 8 {
		id[i], id[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	return id
}
