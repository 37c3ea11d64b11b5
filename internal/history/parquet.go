package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
	"github.com/foreshift/foreshift/schemas"
)

// An exported file says in its metadata of which version it is and how long its steps
// are. A file without either is taken for what its columns say.
const (
	keyVersion = "foreshift.history"
	keyBase    = "foreshift.base_step_ns"
	version    = "1"
)

// Parquet adds the rows of a Parquet file. An error names row and column.
func (t *Table) Parquet(ctx context.Context, r parquet.ReaderAtSeeker) (err error) {
	defer func() { // a damaged file must not end the program
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged: %v", p)
		}
	}()
	f, err := file.NewParquetReader(r)
	if err != nil {
		return fmt.Errorf("no Parquet file, or cut short: %w", err)
	}
	defer f.Close()
	if v := f.MetaData().KeyValueMetadata().FindValue(keyVersion); v != nil && *v != version {
		return fmt.Errorf("it is an export of version %.20q, this program reads version %s: export it again with this one", *v, version)
	}
	if v := f.MetaData().KeyValueMetadata().FindValue(keyBase); v != nil && *v != fmt.Sprint(int64(t.opt.Base)) {
		return fmt.Errorf("its base step is %.20s ns, this fleet's is %d ns: set --base-step", *v, int64(t.opt.Base))
	}
	rd, err := pqarrow.NewFileReader(f, pqarrow.ArrowReadProperties{BatchSize: 1 << 16}, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	sch, err := rd.Schema()
	if err != nil {
		return err
	}
	names := make([]string, sch.NumFields())
	for i := range names {
		names[i] = sch.Field(i).Name
	}
	h, err := headOf(names)
	if err != nil {
		return err
	}
	if err := t.columns(h.values()); err != nil {
		return err
	}
	if sch.NumFields() != f.MetaData().Schema.NumColumns() {
		return errors.New("it has columns of columns: want one value a cell")
	}
	if f.NumRows() < 1 || f.NumRows() > maxRows {
		return fmt.Errorf("it has %d rows: want 1 to %d", f.NumRows(), maxRows)
	}
	// One column after the other, in this goroutine, in which damage can be caught.
	cols := make([]arrow.Array, len(names))
	for i := range names {
		if i != h.vm && i != h.time && i != h.host && i != h.pct && h.value[i] < 0 {
			continue
		}
		if cols[i], err = column(ctx, rd, i, f.NumRows()); err != nil {
			return fmt.Errorf("column %s: %w", names[i], err)
		}
		defer cols[i].Release()
	}
	for i := range int(f.NumRows()) {
		if err := t.cells(&h, cols, i); err != nil {
			return fmt.Errorf("row %d, %w", i+1, err)
		}
	}
	return nil
}

// column reads one whole column.
func column(ctx context.Context, rd *pqarrow.FileReader, i int, rows int64) (arrow.Array, error) {
	r, err := rd.GetColumn(ctx, i)
	if err != nil {
		return nil, err
	}
	defer r.Release()
	c, err := r.NextBatch(rows)
	if err != nil {
		return nil, err
	}
	defer c.Release()
	if int64(c.Len()) != rows {
		return nil, fmt.Errorf("has %d values for %d rows: it was cut short", c.Len(), rows)
	}
	return array.Concatenate(c.Chunks(), memory.DefaultAllocator)
}

func (t *Table) cells(h *head, cols []arrow.Array, i int) (err error) {
	x := blank()
	x.relative = h.relative
	if x.vm, err = text(cols[h.vm], i); err != nil {
		return fmt.Errorf("column %s: %w", h.names[h.vm], err)
	}
	if h.host >= 0 && !cols[h.host].IsNull(i) {
		if x.host, err = text(cols[h.host], i); err != nil {
			return fmt.Errorf("column %s: %w", h.names[h.host], err)
		}
	}
	if x.at, err = t.when(h, cols[h.time], i); err != nil {
		return fmt.Errorf("column %s: %w", h.names[h.time], err)
	}
	if err := h.take(&x, func(c int) (float64, error) { return number(cols[c], i) }); err != nil {
		return err
	}
	return t.add(&x)
}

func text(a arrow.Array, i int) (string, error) {
	if a.IsNull(i) {
		return "", errors.New("is empty")
	}
	switch a := a.(type) {
	case *array.String:
		return a.Value(i), nil
	case *array.LargeString:
		return a.Value(i), nil
	case *array.Dictionary:
		return text(a.Dictionary(), a.GetValueIndex(i))
	}
	return "", fmt.Errorf("is of type %s, want text", a.DataType())
}

// number reads a cell; NaN where there is none.
func number(a arrow.Array, i int) (float64, error) {
	if a.IsNull(i) {
		return math.NaN(), nil
	}
	x := 0.0
	switch a := a.(type) {
	case *array.Float32:
		x = float64(a.Value(i))
	case *array.Float64:
		x = a.Value(i)
	case *array.Int64:
		x = float64(a.Value(i))
	case *array.Int32:
		x = float64(a.Value(i))
	case *array.Uint64:
		x = float64(a.Value(i))
	case *array.Uint32:
		x = float64(a.Value(i))
	default:
		return 0, fmt.Errorf("is of type %s, want a number", a.DataType())
	}
	if math.IsInf(x, 0) {
		return 0, fmt.Errorf("%v is no number", x)
	}
	return x, nil
}

func (t *Table) when(h *head, a arrow.Array, i int) (int64, error) {
	if a.IsNull(i) {
		return 0, fmt.Errorf("is empty")
	}
	switch a := a.(type) {
	case *array.Timestamp:
		unit := a.DataType().(*arrow.TimestampType).Unit
		return fromSeconds(float64(a.Value(i).ToTime(unit).UnixMilli()) / 1000)
	case *array.String:
		return t.moment(h, a.Value(i))
	}
	x, err := number(a, i)
	if err != nil {
		return 0, err
	}
	if h.relative || h.names[h.time] == "step" {
		if x < 0 || x != math.Trunc(x) || x > 1e10 {
			return 0, fmt.Errorf("%v is no step number", x)
		}
		return t.ofStep(h, int64(x))
	}
	return fromSeconds(x)
}

// exported are the columns of an export.
var exported = func() *arrow.Schema {
	f := []arrow.Field{
		{Name: "vm", Type: arrow.BinaryTypes.String}, {Name: "step", Type: arrow.PrimitiveTypes.Int64},
		{Name: "start", Type: &arrow.TimestampType{Unit: arrow.Millisecond, TimeZone: "UTC"}}, {Name: "host", Type: arrow.BinaryTypes.String},
		{Name: "coverage_ratio", Type: arrow.PrimitiveTypes.Float32}, {Name: "flags", Type: arrow.PrimitiveTypes.Int32},
		{Name: "alloc_cpu_mcpu", Type: arrow.PrimitiveTypes.Float32, Nullable: true}, {Name: "alloc_mem_bytes", Type: arrow.PrimitiveTypes.Float32, Nullable: true},
	}
	for _, c := range schemas.Columns {
		f = append(f, arrow.Field{Name: c.Name, Type: arrow.PrimitiveTypes.Float32, Nullable: true})
	}
	return arrow.NewSchema(f, nil)
}()

// Export writes base steps as a Parquet file, in the order given.
func Export(w io.Writer, steps []*schemas.Steps, base time.Duration, done func(n int)) (rows int, err error) {
	props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Zstd), parquet.WithDictionaryDefault(false), parquet.WithDictionaryFor("vm", true), parquet.WithDictionaryFor("host", true))
	meta := arrow.NewMetadata([]string{keyVersion, keyBase}, []string{version, fmt.Sprint(int64(base))})
	sch := arrow.NewSchema(exported.Fields(), &meta)
	out, err := pqarrow.NewFileWriter(sch, w, props, pqarrow.NewArrowWriterProperties())
	if err != nil {
		return 0, err
	}
	for k, v := range map[string]string{keyVersion: version, keyBase: fmt.Sprint(int64(base))} {
		if err := out.AppendKeyValueMetadata(k, v); err != nil {
			return 0, err
		}
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, sch)
	defer b.Release()
	flush := func() error {
		rec := b.NewRecord()
		defer rec.Release()
		return out.WriteBuffered(rec)
	}
	for n, m := range steps {
		for i, id := range m.VM {
			b.Field(0).(*array.StringBuilder).Append(id.String())
			b.Field(1).(*array.Int64Builder).Append(int64(m.Step))
			b.Field(2).(*array.TimestampBuilder).Append(arrow.Timestamp(int64(m.Step.Start(base)) / 1e6))
			b.Field(3).(*array.StringBuilder).Append(string(m.Host[i]))
			b.Field(4).(*array.Float32Builder).Append(m.Coverage[i])
			b.Field(5).(*array.Int32Builder).Append(int32(m.Flags[i]))
			cell(b.Field(6), m.AllocCPU, i)
			cell(b.Field(7), m.AllocMem, i)
			for c := range m.Cols {
				cell(b.Field(8+c), m.Cols[c], i)
			}
			if rows++; rows%(1<<16) == 0 {
				if err := flush(); err != nil {
					return rows, err
				}
			}
		}
		if done != nil {
			done(n + 1)
		}
	}
	if err := flush(); err != nil {
		return rows, err
	}
	return rows, out.Close()
}

func cell(b array.Builder, col []float32, i int) {
	if col == nil || col[i] != col[i] {
		b.AppendNull()
		return
	}
	b.(*array.Float32Builder).Append(col[i])
}
