package history

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// head is what the columns of a source mean.
type head struct {
	names           []string
	vm, time, host  int
	relative        bool
	value           []int     // by column: which value it is, -1 for none
	scale           []float64 // what a cell is multiplied by
	pct, cores, mhz int
	derivesCPU      bool
}

// refMHz is the clock of a core where a source has megahertz.
const refMHz = 2600

// synonyms of value columns, with what they are multiplied by.
var synonyms = map[string]struct {
	value int
	scale float64
}{
	"alloc_cpu_mcpu":  {allocCPU, 1},
	"alloc_mem_bytes": {allocMem, 1},
	"flags":           {flagsOf, 1},
	"cores":           {allocCPU, 1000},
	"cpu_cap_mhz":     {allocCPU, 1000. / refMHz},
	"mem_cap_mb":      {allocMem, 1 << 20},
	"mem_mb":          {int(schemas.ColMem), 1 << 20},
	"cpu_cores":       {int(schemas.ColCPU), 1000},
}

// headOf finds out what columns mean; the error names what is missing and what there is.
func headOf(names []string) (h head, err error) {
	h = head{names: slices.Clone(names), vm: -1, time: -1, host: -1, pct: -1, cores: -1, mhz: -1}
	h.value, h.scale = make([]int, len(names)), make([]float64, len(names))
	known := map[string]int{}
	for c := range schemas.Columns {
		known[schemas.Columns[c].Name] = c
	}
	values := 0
	for i, n := range h.names {
		n = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(n, "\ufeff")))
		h.names[i], h.value[i] = n, -1
		if n != "" && slices.Contains(h.names[:i], n) {
			return h, fmt.Errorf("column %s is there twice", n)
		}
		switch n {
		case "vm", "series", "uuid":
			h.vm = i
		case "time", "timestamp":
			h.time = i
		case "t", "step":
			h.time, h.relative = i, n == "t"
		case "host":
			h.host = i
		case "cpu_pct", "cpu_avg_pct":
			h.pct = i
			values++
		}
		if c, ok := known[n]; ok {
			h.value[i], h.scale[i] = c, 1
			values++
		} else if s, ok := synonyms[n]; ok {
			h.value[i], h.scale[i] = s.value, s.scale
			if s.value < int(schemas.NumColumns) {
				values++
			}
		}
		switch n {
		case "cores":
			h.cores = i
		case "cpu_cap_mhz":
			h.mhz = i
		}
	}
	switch {
	case h.vm < 0:
		return h, fmt.Errorf("no column vm (or series, uuid); there are %s", strings.Join(h.names, ", "))
	case h.time < 0:
		return h, fmt.Errorf("no column time (or t, step); there are %s", strings.Join(h.names, ", "))
	case values == 0:
		return h, fmt.Errorf("no column with values; there are %s, and docs/HISTORY.md names those that are read", strings.Join(h.names, ", "))
	}
	if h.pct >= 0 {
		if h.cores < 0 && h.mhz < 0 {
			return h, fmt.Errorf("column %s is a share of the VM's cores, but there is no column cores or cpu_cap_mhz", h.names[h.pct])
		}
		h.derivesCPU = true
	}
	return h, nil
}

// values lists which values a source has.
func (h *head) values() (out []int) {
	for _, v := range h.value {
		if v >= 0 && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	if h.derivesCPU && !slices.Contains(out, int(schemas.ColCPU)) {
		out = append(out, int(schemas.ColCPU))
	}
	return out
}

// take fills a reading's values from the cells of a row.
func (h *head) take(r *reading, cell func(i int) (float64, error)) error {
	for i, v := range h.value {
		if v < 0 {
			continue
		}
		x, err := cell(i)
		if err != nil {
			return fmt.Errorf("column %s: %w", h.names[i], err)
		}
		if x < 0 || x*h.scale[i] > mostValue {
			return fmt.Errorf("column %s: %v: want 0 or more, and at most %g", h.names[i], x, mostValue/h.scale[i])
		}
		r.v[v] = float32(x * h.scale[i])
	}
	if h.derivesCPU {
		x, err := cell(h.pct)
		if err != nil {
			return fmt.Errorf("column %s: %w", h.names[h.pct], err)
		}
		if x < 0 {
			return fmt.Errorf("column %s: %v: want 0 or more", h.names[h.pct], x)
		}
		r.v[schemas.ColCPU] = float32(min(x, 100)/100) * r.v[allocCPU]
		if math.IsNaN(x) {
			r.v[schemas.ColCPU] = schemas.NaN()
		}
	}
	return nil
}
