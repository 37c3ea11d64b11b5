package schemas

import "strconv"

// lineWriter writes one flat JSON object for a row of an Arrow message.
type lineWriter struct {
	b     []byte
	first bool
}

func (w *lineWriter) open()  { w.b, w.first = append(w.b, '{'), true }
func (w *lineWriter) close() { w.b = append(w.b, '}', '\n') }

func (w *lineWriter) key(k string) {
	if !w.first {
		w.b = append(w.b, ',')
	}
	w.first = false
	w.b = append(appendString(w.b, k), ':')
}

func (w *lineWriter) text(k, v string) { w.key(k); w.b = appendString(w.b, v) }
func (w *lineWriter) whole(k string, v int64) {
	w.key(k)
	w.b = strconv.AppendInt(w.b, v, 10)
}
func (w *lineWriter) unsigned(k string, v uint64) {
	w.key(k)
	w.b = strconv.AppendUint(w.b, v, 10)
}

// number writes null for what is missing.
func (w *lineWriter) number(v float32) {
	if IsNaN(v) || isInf32(v) {
		w.b = append(w.b, "null"...)
		return
	}
	w.b = strconv.AppendFloat(w.b, float64(v), 'f', -1, 32)
}

// cell writes row i of a column, unless the message does not have the column.
func (w *lineWriter) cell(k string, vs []float32, i int) {
	if vs != nil {
		w.key(k)
		w.number(vs[i])
	}
}

// table writes numbers as rows of n, stride apart.
func (w *lineWriter) table(k string, vs []float32, n, stride int) {
	w.key(k)
	w.b = append(w.b, '[')
	for i := 0; i < len(vs); i += n * stride {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = append(w.b, '[')
		for j := 0; j < n; j++ {
			if j > 0 {
				w.b = append(w.b, ',')
			}
			w.number(vs[i+j*stride])
		}
		w.b = append(w.b, ']')
	}
	w.b = append(w.b, ']')
}

var flagNames = [...]string{"migrating", "reset", "paused", "imported"}

// Names lists the flags that are set, for people.
func (f Flags) Names() []string {
	var names []string
	for i, n := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

func (w *lineWriter) flags(f Flags) {
	w.key(colFlags)
	w.b = append(w.b, '[')
	for i, n := range f.Names() {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.b = appendString(w.b, n)
	}
	w.b = append(w.b, ']')
}

func (m *Metrics) jsonLines() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	w := &lineWriter{}
	for i, v := range m.VM {
		w.open()
		w.text(colTime, m.Time[i].String())
		w.text(colHost, string(m.Host))
		w.text("site", string(m.Site))
		w.text("agent", m.Agent)
		w.unsigned("seq", m.Seq)
		w.text(colVM, v.String())
		w.cell(colInterval, m.IntervalS, i)
		w.flags(m.Flags[i])
		w.cell(colAllocCPU, m.AllocCPU, i)
		w.cell(colAllocMem, m.AllocMem, i)
		for c := range m.Cols {
			w.cell(Columns[c].Name, m.Cols[c], i)
		}
		w.close()
	}
	return w.b, nil
}

func (m *Steps) jsonLines() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	w := &lineWriter{}
	for i, v := range m.VM {
		w.open()
		w.whole("step", int64(m.Step))
		w.text(colTime, m.Step.Start(m.Base).String())
		w.text("base", m.Base.String())
		w.whole("partition", int64(m.Partition))
		w.whole("revision", int64(m.Revision))
		w.unsigned("lease", m.Lease)
		w.text(colVM, v.String())
		w.text(colHost, string(m.Host[i]))
		w.cell(colCoverage, m.Coverage, i)
		w.flags(m.Flags[i])
		w.cell(colAllocCPU, m.AllocCPU, i)
		w.cell(colAllocMem, m.AllocMem, i)
		for c := range m.Cols {
			w.cell(Columns[c].Name, m.Cols[c], i)
		}
		w.close()
	}
	return w.b, nil
}

// jsonLines gives every VM a line: quantiles as one list of levels for each slot,
// scenarios as one list of slots for each scenario.
func (f *Forecasts) jsonLines() ([]byte, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	w := &lineWriter{}
	for i, v := range f.VM {
		w.open()
		w.text(colVM, v.String())
		w.text(colHost, string(f.Host[i]))
		w.whole("partition", int64(f.Partition))
		w.whole("chunk", int64(f.Chunk))
		w.whole("chunks", int64(f.Chunks))
		w.whole("issued_step", int64(f.Issued))
		w.whole("grid_start_step", int64(f.Grid.Start))
		w.text("grid_start", f.Grid.Start.Start(f.Base).String())
		w.text("base", f.Base.String())
		w.unsigned("lease", f.Lease)
		w.text("model", f.Model)
		w.key("origin_steps")
		w.b = append(w.b, '[')
		for k, o := range f.Origins {
			if k > 0 {
				w.b = append(w.b, ',')
			}
			w.b = strconv.AppendInt(w.b, int64(o), 10)
		}
		w.b = append(w.b, ']')
		w.cell(colAllocCPU, f.AllocCPU, i)
		w.cell(colAllocMem, f.AllocMem, i)
		for r := range f.Q {
			w.table(quantileColumns[r], f.Dist(i, Resource(r)).Q, NumLevels, 1)
		}
		if f.K > 0 {
			w.table("weights", f.Weight, Slots, 1)
			d := f.Scenarios(i).D
			for r := 0; r < ScenarioResources; r++ {
				w.table(scenarioColumns[r], d[r:], Slots, ScenarioResources)
			}
		}
		w.close()
	}
	return w.b, nil
}
