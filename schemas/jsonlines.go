package schemas

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// lineWriter writes a flat JSON object for each row of an Arrow message. Its text
// is checked to be UTF-8 and its names are our own, so writing into memory does not
// fail; should it, the first fault is kept.
type lineWriter struct {
	buf bytes.Buffer
	enc *jsontext.Encoder
	err error
}

func newLineWriter() *lineWriter {
	w := new(lineWriter)
	w.enc = jsontext.NewEncoder(&w.buf)
	return w
}

func (w *lineWriter) put(ts ...jsontext.Token) {
	for _, t := range ts {
		if w.err == nil {
			w.err = w.enc.WriteToken(t)
		}
	}
}

func (w *lineWriter) open()                       { w.put(jsontext.BeginObject) }
func (w *lineWriter) close()                      { w.put(jsontext.EndObject) } // and a newline
func (w *lineWriter) text(k, v string)            { w.put(jsontext.String(k), jsontext.String(v)) }
func (w *lineWriter) whole(k string, v int64)     { w.put(jsontext.String(k), jsontext.Int(v)) }
func (w *lineWriter) unsigned(k string, v uint64) { w.put(jsontext.String(k), jsontext.Uint(v)) }

// lines are the rows that were written.
func (w *lineWriter) lines() ([]byte, error) { return w.buf.Bytes(), w.err }

// number writes null for what is missing.
func (w *lineWriter) number(v float32) {
	if IsNaN(v) || isInf32(v) {
		w.put(jsontext.Null)
	} else if w.err == nil {
		w.err = w.enc.WriteValue(strconv.AppendFloat(w.enc.AvailableBuffer(), float64(v), 'f', -1, 32))
	}
}

// cell writes row i of a column, unless the message does not have the column.
func (w *lineWriter) cell(k string, vs []float32, i int) {
	if vs != nil {
		w.put(jsontext.String(k))
		w.number(vs[i])
	}
}

// table writes numbers as rows of n, stride apart.
func (w *lineWriter) table(k string, vs []float32, n, stride int) {
	w.put(jsontext.String(k), jsontext.BeginArray)
	for i := 0; i < len(vs); i += n * stride {
		w.put(jsontext.BeginArray)
		for j := range n {
			w.number(vs[i+j*stride])
		}
		w.put(jsontext.EndArray)
	}
	w.put(jsontext.EndArray)
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
	w.put(jsontext.String(colFlags), jsontext.BeginArray)
	for _, n := range f.Names() {
		w.put(jsontext.String(n))
	}
	w.put(jsontext.EndArray)
}

func (m *Metrics) jsonLines() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	w := newLineWriter()
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
		w.measured(m.AllocCPU, m.AllocMem, &m.Cols, i)
		w.close()
	}
	return w.lines()
}

func (w *lineWriter) measured(cpu, mem []float32, cols *[NumColumns][]float32, i int) {
	w.cell(colAllocCPU, cpu, i)
	w.cell(colAllocMem, mem, i)
	for c := range cols {
		w.cell(Columns[c].Name, cols[c], i)
	}
}

func (m *Steps) jsonLines() ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	w := newLineWriter()
	for i, v := range m.VM {
		w.open()
		w.whole("step", int64(m.Step))
		w.text(colTime, m.Step.Start(m.Base).String())
		w.text("base", m.Base.String())
		w.whole("partition", int64(m.Partition))
		w.whole("revision", int64(m.Revision))
		w.unsigned("lease", m.Lease)
		w.unsigned("metrics_seq", m.Metrics)
		w.text(colVM, v.String())
		w.text(colHost, string(m.Host[i]))
		w.cell(colCoverage, m.Coverage, i)
		w.flags(m.Flags[i])
		w.measured(m.AllocCPU, m.AllocMem, &m.Cols, i)
		w.close()
	}
	return w.lines()
}

// jsonLines gives every VM a line: quantiles as one list of levels for each slot,
// scenarios as one list of slots for each scenario.
func (f *Forecasts) jsonLines() ([]byte, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	w := newLineWriter()
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
		w.put(jsontext.String("origin_steps"), jsontext.BeginArray)
		for _, o := range f.Origins {
			w.put(jsontext.Int(int64(o)))
		}
		w.put(jsontext.EndArray)
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
	return w.lines()
}
