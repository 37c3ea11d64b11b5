package schemas_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	. "github.com/foreshift/foreshift/schemas"
)

// openArrow reads a stream of one batch with Arrow's own reader.
func openArrow(t testing.TB, b []byte) arrow.Record {
	t.Helper()
	r, err := ipc.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if !r.Next() {
		t.Fatalf("no record batch: %v", r.Err())
	}
	rec := r.Record()
	rec.Retain()
	t.Cleanup(rec.Release)
	if r.Next() || r.Err() != nil {
		t.Fatalf("more than one batch, or %v", r.Err())
	}
	return rec
}

// writeArrow writes columns with Arrow's own writer.
func writeArrow(t testing.TB, fields []arrow.Field, md arrow.Metadata, cols []arrow.Array, rows int, opts ...ipc.Option) []byte {
	t.Helper()
	schema := arrow.NewSchema(fields, &md)
	rec := array.NewRecord(schema, cols, int64(rows))
	defer rec.Release()
	var out bytes.Buffer
	w := ipc.NewWriter(&out, append(opts, ipc.WithSchema(schema))...)
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// change writes a message anew with Arrow's own writer after changing its parts.
func change(t testing.TB, m Message, f func(*parts)) []byte {
	t.Helper()
	rec := openArrow(t, encoded(t, m))
	md := rec.Schema().Metadata()
	p := &parts{fields: slices.Clone(rec.Schema().Fields()), cols: slices.Clone(rec.Columns()), keys: slices.Clone(md.Keys()), vals: slices.Clone(md.Values()), rows: int(rec.NumRows())}
	f(p)
	return writeArrow(t, p.fields, arrow.NewMetadata(p.keys, p.vals), p.cols, p.rows, p.opts...)
}

type parts struct {
	fields     []arrow.Field
	cols       []arrow.Array
	keys, vals []string
	rows       int
	opts       []ipc.Option
}

func (p *parts) at(name string) int {
	i := slices.IndexFunc(p.fields, func(f arrow.Field) bool { return f.Name == name })
	if i < 0 {
		panic("no column " + name)
	}
	return i
}

func (p *parts) drop(name string) {
	i := p.at(name)
	p.fields, p.cols = slices.Delete(p.fields, i, i+1), slices.Delete(p.cols, i, i+1)
}

func (p *parts) set(name string, a arrow.Array) {
	for i, f := range p.fields {
		if f.Name == name {
			p.fields[i].Type, p.fields[i].Nullable, p.cols[i] = a.DataType(), true, a
			return
		}
	}
	p.fields, p.cols = append(p.fields, arrow.Field{Name: name, Type: a.DataType(), Nullable: true}), append(p.cols, a)
}

func (p *parts) meta(key, value string) {
	i := slices.Index(p.keys, key)
	if i < 0 {
		panic("no metadata " + key)
	}
	p.vals[i] = value
}

// floats makes a float32 column; the rows named are null.
func floats(vs []float32, null ...int) arrow.Array {
	b := array.NewFloat32Builder(memory.DefaultAllocator)
	defer b.Release()
	for i, v := range vs {
		if slices.Contains(null, i) {
			b.AppendNull()
		} else {
			b.Append(v)
		}
	}
	return b.NewArray()
}

// made builds an array of any type from JSON.
func made(t testing.TB, dt arrow.DataType, text string) arrow.Array {
	t.Helper()
	a, _, err := array.FromJSON(memory.DefaultAllocator, dt, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// encodedWithExtraColumn is a metrics message as a later minor version, or another
// program, may write it: other columns of many types between ours.
func encodedWithExtraColumn(t testing.TB) []byte {
	return change(t, sampleMetrics(3), func(p *parts) {
		p.set("x_float64", made(t, arrow.PrimitiveTypes.Float64, "[1,null,3]"))
		p.set("x_text", made(t, arrow.BinaryTypes.String, `["a",null,"ccc"]`))
		p.set("x_large", made(t, arrow.BinaryTypes.LargeString, `["a",null,"ccc"]`))
		p.set("x_bool", made(t, arrow.FixedWidthTypes.Boolean, "[true,null,false]"))
		p.set("x_null", made(t, arrow.Null, "[null,null,null]"))
		p.set("x_list", made(t, arrow.ListOf(arrow.PrimitiveTypes.Int32), "[[1,2],null,[3]]"))
		p.set("x_fixed", made(t, arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int32), "[[1,2],null,[3,4]]"))
		p.set("x_date", made(t, arrow.FixedWidthTypes.Date32, `["2026-01-01",null,"2026-01-02"]`))
		// Reversed, so that ours come last.
		slices.Reverse(p.fields)
		slices.Reverse(p.cols)
		p.keys, p.vals = append(p.keys, "x_new"), append(p.vals, "y")
	})
}

// Arrow's own reader finds in our streams what we put there.
func TestArrowReadsOurs(t *testing.T) {
	m := sampleMetrics(9)
	rec := openArrow(t, encoded(t, m))
	if rec.NumRows() != 9 {
		t.Fatalf("%d rows", rec.NumRows())
	}
	for i, f := range rec.Schema().Fields() {
		col := rec.Column(i)
		for row := 0; row < 9; row++ {
			switch a := col.(type) {
			case *array.Timestamp:
				if Time(a.Value(row)) != m.Time[row] {
					t.Errorf("%s, row %d: %v", f.Name, row, a.Value(row))
				}
			case *array.FixedSizeBinary:
				if VMID(a.Value(row)) != m.VM[row] {
					t.Errorf("%s, row %d: %x", f.Name, row, a.Value(row))
				}
			case *array.Uint8:
				if Flags(a.Value(row)) != m.Flags[row] {
					t.Errorf("%s, row %d: %v", f.Name, row, a.Value(row))
				}
			case *array.Float32:
				want := columnOf(t, m, f.Name)[row]
				if a.IsNull(row) != IsNaN(want) || a.IsValid(row) && a.Value(row) != want {
					t.Errorf("%s, row %d: %v, want %v", f.Name, row, a.ValueStr(row), want)
				}
			default:
				t.Fatalf("%s is a %T", f.Name, col)
			}
		}
	}
	f := sampleForecasts(3, NumScenarios)
	rec = openArrow(t, encoded(t, f))
	q := rec.Column(rec.Schema().FieldIndices("quantiles_mem_bytes")[0]).(*array.FixedSizeList)
	scale := rec.Column(rec.Schema().FieldIndices("quantiles_mem_bytes_scale")[0]).(*array.Float32)
	halves := q.ListValues().(*array.Float16)
	for i, want := range f.Q[Memory] {
		got := halves.Value(i).Float32() * scale.Value(i/(Slots*NumLevels))
		if math.Abs(float64(got-want)) > 0.0005*float64(want) {
			t.Fatalf("quantile %d: %v, want %v", i, got, want)
		}
	}
	steps := openArrow(t, encoded(t, sampleSteps(5)))
	hosts := steps.Column(steps.Schema().FieldIndices("host")[0]).(*array.String)
	if hosts.Value(4) != "host-1" || hosts.Value(2) != "host-2" {
		t.Errorf("hosts are %v", hosts)
	}
}

func columnOf(t *testing.T, m *Metrics, name string) []float32 {
	switch name {
	case "interval_seconds":
		return m.IntervalS
	case "alloc_mcpu":
		return m.AllocCPU
	case "alloc_mem_bytes":
		return m.AllocMem
	}
	for c := range Columns {
		if Columns[c].Name == name {
			return m.Cols[c]
		}
	}
	t.Fatalf("unknown column %s", name)
	return nil
}

// What Arrow's own writer writes, we read.
func TestWeReadArrows(t *testing.T) {
	for _, m := range []Message{sampleMetrics(7), sampleSteps(6), sampleForecasts(2, 3)} {
		b := change(t, m, func(*parts) {})
		want := decoded(t, m.Kind(), encoded(t, m))
		if got := decoded(t, m.Kind(), b); !sameMessage(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", m.Kind(), got, want)
		}
	}
	got := decoded(t, KindMetrics, encodedWithExtraColumn(t))
	if want := sampleMetrics(3); !sameMessage(got, want) {
		t.Errorf("with extra columns: got\n%+v\nwant\n%+v", got, want)
	}
}

func TestArrowRefuses(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	metrics := func(f func(*parts)) func() (Kind, []byte) {
		return func() (Kind, []byte) { return KindMetrics, change(t, sampleMetrics(3), f) }
	}
	steps := func(f func(*parts)) func() (Kind, []byte) {
		return func() (Kind, []byte) { return KindSteps, change(t, sampleSteps(3), f) }
	}
	forecasts := func(f func(*parts)) func() (Kind, []byte) {
		return func() (Kind, []byte) { return KindForecasts, change(t, sampleForecasts(1, 2), f) }
	}
	halves := func(n int, v string) arrow.Array {
		return made(t, arrow.FixedSizeListOfNonNullable(int32(n), arrow.FixedWidthTypes.Float16), "[["+strings.TrimSuffix(strings.Repeat(v+",", n), ",")+"]]")
	}
	for name, c := range map[string]struct {
		make func() (Kind, []byte)
		word string
	}{
		"NaN":           {metrics(func(p *parts) { p.set("cpu_mcpu", floats([]float32{1, nan, 3})) }), "column cpu_mcpu: row 1 is NaN"},
		"NaN in null":   {metrics(func(p *parts) { p.set("cpu_mcpu", floats([]float32{1, nan, 3}, 1)) }), ""},
		"infinite":      {metrics(func(p *parts) { p.set("mem_bytes", floats([]float32{1, 2, inf})) }), "column mem_bytes: row 2"},
		"negative":      {metrics(func(p *parts) { p.set("mem_bytes", floats([]float32{-1, 2, 3})) }), "column mem_bytes: row 0"},
		"interval zero": {metrics(func(p *parts) { p.set("interval_seconds", floats([]float32{10, 0, 10})) }), "interval_seconds: row 1"},
		"interval null": {metrics(func(p *parts) { p.set("interval_seconds", floats([]float32{10, 1, 10}, 1)) }), "interval_seconds: 1 rows are null"},
		"wrong type":    {metrics(func(p *parts) { p.set("cpu_mcpu", made(t, arrow.PrimitiveTypes.Float64, "[1,2,3]")) }), "column cpu_mcpu: want float32"},
		"wrong unit":    {metrics(func(p *parts) { p.set("time", made(t, arrow.FixedWidthTypes.Timestamp_ms, "[1,2,3]")) }), "column time: want timestamp[ns]"},
		"signed flags":  {metrics(func(p *parts) { p.set("flags", made(t, arrow.PrimitiveTypes.Int8, "[1,2,3]")) }), "column flags: want uint8"},
		"short ids": {metrics(func(p *parts) {
			p.set("vm", made(t, &arrow.FixedSizeBinaryType{ByteWidth: 4}, `["AAAAAA==","AAAAAA==","AAAAAA=="]`))
		}), "column vm: want fixed_size_binary[16]"},
		"no vm":           {metrics(func(p *parts) { p.drop("vm") }), "column vm: is missing"},
		"no time":         {metrics(func(p *parts) { p.drop("time") }), "column time: is missing"},
		"no flags":        {metrics(func(p *parts) { p.drop("flags") }), "column flags: is missing"},
		"twice":           {metrics(func(p *parts) { p.fields[p.at("mem_bytes")].Name = "cpu_mcpu" }), "column cpu_mcpu: is given twice"},
		"maximum":         {metrics(func(p *parts) { p.fields[p.at("swap_bytes")].Name = "cpu_max_mcpu" }), "cpu_max_mcpu"},
		"no host":         {metrics(func(p *parts) { p.meta("host", "") }), "host"},
		"host with a dot": {metrics(func(p *parts) { p.meta("host", "a.b") }), "host"},
		"no seq":          {metrics(func(p *parts) { p.keys[p.index("seq")] = "sequence" }), "metadata seq: is missing"},
		"bad seq":         {metrics(func(p *parts) { p.meta("seq", "-1") }), "metadata seq"},
		"other kind":      {metrics(func(p *parts) { p.meta("schema", "steps/1.0") }), "metadata schema"},
		"other major":     {metrics(func(p *parts) { p.meta("schema", "metrics/2.0") }), "metadata schema"},
		"long metadata":   {metrics(func(p *parts) { p.meta("agent", strings.Repeat("a", 40000)) }), "metadata"},
		"compressed":      {metrics(func(p *parts) { p.opts = append(p.opts, ipc.WithZstd()) }), "compressed"},
		"dictionary": {metrics(func(p *parts) {
			p.set("x", made(t, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, `["a","b","a"]`))
		}), "dictionar"},
		"struct": {metrics(func(p *parts) {
			p.set("x", made(t, arrow.StructOf(arrow.Field{Name: "a", Type: arrow.PrimitiveTypes.Int8}), `[{"a":1},{"a":1},{"a":1}]`))
		}), "column x"},
		"coverage negative": {steps(func(p *parts) { p.set("coverage_ratio", floats([]float32{1, -0.5, 1})) }), "column coverage_ratio: row 1"},
		"coverage above 1":  {steps(func(p *parts) { p.set("coverage_ratio", floats([]float32{1, 1.5, 1})) }), "column coverage_ratio: row 1"},
		"coverage missing":  {steps(func(p *parts) { p.drop("coverage_ratio") }), "column coverage_ratio: is missing"},
		"other partition":   {steps(func(p *parts) { p.meta("partition", "3") }), "partition 17, not 3"},
		"partition 64":      {steps(func(p *parts) { p.meta("partition", "64") }), "partition"},
		"base of a week":    {steps(func(p *parts) { p.meta("base_ns", fmt.Sprint(int64(7*24*time.Hour))) }), "base_ns"},
		"base zero":         {steps(func(p *parts) { p.meta("base_ns", "0") }), "base_ns"},
		"step too far":      {steps(func(p *parts) { p.meta("step", "9223372036854775807") }), "step"},
		"long host": {steps(func(p *parts) {
			p.set("host", made(t, arrow.BinaryTypes.String, `["a","`+strings.Repeat("b", 65)+`","c"]`))
		}), "column host"},
		"bad host":  {steps(func(p *parts) { p.set("host", made(t, arrow.BinaryTypes.String, `["a","b*","c"]`)) }), "column host"},
		"host null": {steps(func(p *parts) { p.set("host", made(t, arrow.BinaryTypes.String, `["a",null,"c"]`)) }), ""},
		"quantiles fall": {forecasts(func(p *parts) {
			p.set("quantiles_cpu_mcpu", halfArray(t, Slots*NumLevels, func(i int) uint16 { return 0x7400 - uint16(i%NumLevels) }))
			p.set("quantiles_cpu_mcpu_scale", floats([]float32{1}))
		}), "column quantiles_cpu_mcpu: row 0, slot 0: quantiles fall"},
		"quantiles NaN": {forecasts(func(p *parts) {
			p.set("quantiles_cpu_mcpu", halfArray(t, Slots*NumLevels, func(int) uint16 { return 0x7e00 }))
		}), "column quantiles_cpu_mcpu: row 0"},
		"scenarios infinite": {forecasts(func(p *parts) {
			p.set("scenarios_mem_bytes", halfArray(t, 2*Slots, func(int) uint16 { return 0x7c00 }))
		}), "column scenarios_mem_bytes: row 0"},
		"quantiles missing": {forecasts(func(p *parts) { p.drop("quantiles_net_bytes_per_second") }), "column quantiles_net_bytes_per_second: is missing"},
		"scale missing":     {forecasts(func(p *parts) { p.drop("scenarios_cpu_mcpu_scale") }), "column scenarios_cpu_mcpu_scale: is missing"},
		"scale no power":    {forecasts(func(p *parts) { p.set("quantiles_cpu_mcpu_scale", floats([]float32{3})) }), "column quantiles_cpu_mcpu_scale: row 0"},
		"scale negative":    {forecasts(func(p *parts) { p.set("quantiles_cpu_mcpu_scale", floats([]float32{-1})) }), "column quantiles_cpu_mcpu_scale"},
		"scale null":        {forecasts(func(p *parts) { p.set("quantiles_cpu_mcpu_scale", floats([]float32{1}, 0)) }), "column quantiles_cpu_mcpu: row 0"},
		"list too short":    {forecasts(func(p *parts) { p.set("quantiles_cpu_mcpu", halves(5, "1")) }), "column quantiles_cpu_mcpu: want fixed_size_list[572]"},
		"list of float32": {forecasts(func(p *parts) {
			p.set("quantiles_cpu_mcpu", made(t, arrow.FixedSizeListOf(1, arrow.PrimitiveTypes.Float32), "[[1]]"))
		}), "column quantiles_cpu_mcpu: want"},
		"weights too few":       {forecasts(func(p *parts) { p.meta("weights", "1,0") }), "metadata weights: 2 numbers, want 88"},
		"weights too much":      {forecasts(func(p *parts) { p.meta("weights", strings.Repeat("0.6,", 87)+"0.6") }), "weights: slot 0 sums to"},
		"weights negative":      {forecasts(func(p *parts) { p.meta("weights", strings.Repeat("-1,", 44)+strings.Repeat("2,", 43)+"2") }), "weights"},
		"weights NaN":           {forecasts(func(p *parts) { p.meta("weights", strings.Repeat("NaN,", 87)+"NaN") }), "weights"},
		"weights no number":     {forecasts(func(p *parts) { p.meta("weights", strings.Repeat("a,", 87)+"b") }), "metadata weights"},
		"too many scenarios":    {forecasts(func(p *parts) { p.meta("scenarios", "14") }), "metadata scenarios"},
		"hostile scenarios":     {forecasts(func(p *parts) { p.meta("scenarios", "2147483647") }), "metadata scenarios"},
		"origin missing":        {forecasts(func(p *parts) { p.meta("origin_steps", "5") }), "metadata origin_steps"},
		"chunk beyond the last": {forecasts(func(p *parts) { p.meta("chunk", "3") }), "chunk"},
	} {
		t.Run(name, func(t *testing.T) {
			k, b := c.make()
			m, err := Decode(k, b)
			if c.word == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, m, err, c.word)
		})
	}
}

func (p *parts) index(key string) int { return slices.Index(p.keys, key) }

// halfArray makes one row of n half-precision numbers from their bits.
func halfArray(t testing.TB, n int, bits func(int) uint16) arrow.Array {
	t.Helper()
	data := make([]byte, 2*n)
	for i := range n {
		binary.LittleEndian.PutUint16(data[2*i:], bits(i))
	}
	dt := arrow.FixedSizeListOfNonNullable(int32(n), arrow.FixedWidthTypes.Float16)
	values := array.NewData(dt.Elem(), n, []*memory.Buffer{nil, memory.NewBufferBytes(data)}, nil, 0, 0)
	return array.MakeFromData(array.NewData(dt, 1, []*memory.Buffer{nil}, []arrow.ArrayData{values}, 0, 0))
}

// Lengths, offsets and counts that claim too much cost an error, and no memory.
func TestHostileArrowStaysSmall(t *testing.T) {
	for _, m := range []Message{sampleMetrics(3), sampleSteps(2)} {
		b := encoded(t, m)
		for i := 0; i+4 <= len(b); i += 4 {
			for _, word := range []uint32{0x7fffffff, 0xffffffff, 0x00ffffff} {
				spoilt := bytes.Clone(b)
				binary.LittleEndian.PutUint32(spoilt[i:], word)
				allocated := allocatedBy(func() {
					m, err := Decode(m.Kind(), spoilt)
					if (m == nil) == (err == nil) {
						t.Fatalf("byte %d: message %v, error %v", i, m, err)
					}
				})
				if limit := uint64(16*len(b) + 1<<16); allocated > limit {
					t.Fatalf("%s: %#x at byte %d took %d bytes of memory, at most %d are allowed", m.Kind(), word, i, allocated, limit)
				}
			}
		}
	}
}
