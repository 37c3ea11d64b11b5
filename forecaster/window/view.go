package window

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/schemas"
)

// Unlearnt are the flags of rows that models leave out: what they hold is the
// migration's, the counter's or the pause's doing, not the VM's demand.
const Unlearnt = schemas.FlagMigrating | schemas.FlagReset | schemas.FlagPaused

// View is a window as slices that alias its memory: zero-copy, valid until the
// next Put, Reset or Release, for the owning goroutine only.
type View struct {
	First schemas.Step                  // step of row 0
	N     int                           // rows
	Cols  [schemas.NumColumns][]float32 // nil where the column was never seen; NaN = missing
	Flags []uint8
	Cov   []uint16 // coverage in 1/65535; 0 = a gap
}

// View gives the newest Rows steps.
func (w *Window) View() View {
	lo := w.end - w.Len()
	v := View{First: w.first + schemas.Step(lo), N: w.Len(), Flags: w.flags[lo:w.end], Cov: w.cov[lo:w.end]}
	for c := range w.col {
		if w.col[c] != nil {
			v.Cols[c] = w.col[c][lo:w.end]
		}
	}
	return v
}

// Last is the newest step of the view.
func (v *View) Last() schemas.Step { return v.First + schemas.Step(v.N-1) }

// Series writes the demand for resource r, one value a row, into dst (grown if it
// is too short) and returns it: CPU and memory means, net and disk as the sum of
// both directions. Rows flagged [Unlearnt] are missing.
func (v *View) Series(r schemas.Resource, dst []float32) []float32 {
	if cap(dst) < v.N {
		dst = make([]float32, v.N)
	}
	dst = dst[:v.N]
	a, b := resourceColumns(r)
	x, y := v.Cols[a], v.Cols[b]
	if x == nil {
		x, y = y, x
	}
	switch {
	case x == nil:
		fillNaN(dst)
		return dst
	case a == b || y == nil:
		copy(dst, x)
	default:
		for i := range dst {
			dst[i] = Sum(x[i], y[i])
		}
	}
	for i, f := range v.Flags {
		if schemas.Flags(f)&Unlearnt != 0 {
			dst[i] = schemas.NaN()
		}
	}
	return dst
}

// At is the demand for resource r in row i, as Series has it.
func (v *View) At(r schemas.Resource, i int) float32 {
	if i < 0 || i >= v.N || schemas.Flags(v.Flags[i])&Unlearnt != 0 {
		return schemas.NaN()
	}
	a, b := resourceColumns(r)
	x, y := schemas.NaN(), schemas.NaN()
	if v.Cols[a] != nil {
		x = v.Cols[a][i]
	}
	if a == b {
		return x
	}
	if v.Cols[b] != nil {
		y = v.Cols[b][i]
	}
	return Sum(x, y)
}

// resourceColumns are the columns that make up a resource's demand.
func resourceColumns(r schemas.Resource) (a, b schemas.Column) {
	switch r {
	case schemas.CPU:
		return schemas.ColCPU, schemas.ColCPU
	case schemas.Memory:
		return schemas.ColMem, schemas.ColMem
	case schemas.Net:
		return schemas.ColNetRx, schemas.ColNetTx
	default:
		return schemas.ColDiskRd, schemas.ColDiskWr
	}
}

// Sum adds two directions; one that is missing is left out, both missing is NaN.
func Sum(x, y float32) float32 {
	if x != x {
		return y
	}
	if y != y {
		return x
	}
	return x + y
}

// RecordSchema is the schema of [Window.Record]: step, coverage_ratio and the
// columns of schemas.Columns, missing = null.
var RecordSchema = func() *arrow.Schema {
	f := []arrow.Field{
		{Name: "step", Type: arrow.PrimitiveTypes.Int64},
		{Name: "coverage_ratio", Type: arrow.PrimitiveTypes.Float32},
	}
	for _, c := range schemas.Columns {
		f = append(f, arrow.Field{Name: c.Name, Type: arrow.PrimitiveTypes.Float32, Nullable: true})
	}
	return arrow.NewSchema(f, nil)
}()

// Record gives the window as an Arrow record of [RecordSchema]. Values of the
// columns are not copied: the record must be encoded or copied before the next Put,
// and released. Missing values are null.
func (w *Window) Record(mem memory.Allocator) arrow.Record {
	v := w.View()
	lo := w.end - w.Len()
	arrs := make([]arrow.Array, 0, 2+schemas.NumColumns)
	defer func() {
		for _, a := range arrs {
			a.Release()
		}
	}()
	sb := array.NewInt64Builder(mem)
	defer sb.Release()
	cb := array.NewFloat32Builder(mem)
	defer cb.Release()
	sb.Reserve(v.N)
	cb.Reserve(v.N)
	for i := 0; i < v.N; i++ {
		sb.UnsafeAppend(int64(v.First) + int64(i))
		cb.UnsafeAppend(float32(v.Cov[i]) / 65535)
	}
	arrs = append(arrs, sb.NewArray(), cb.NewArray())
	for c := range v.Cols {
		valid := memory.NewResizableBuffer(mem)
		valid.Resize(int(bitutil.BytesForBits(int64(w.end))))
		clear(valid.Bytes())
		values, nulls := w.buf[c], v.N
		if v.Cols[c] == nil {
			values = memory.NewResizableBuffer(mem)
			values.Resize(w.end * arrow.Float32SizeBytes)
			clear(values.Bytes())
		} else {
			values.Retain()
			for i, x := range v.Cols[c] {
				if x == x {
					bitutil.SetBit(valid.Bytes(), lo+i)
					nulls--
				}
			}
		}
		d := array.NewData(arrow.PrimitiveTypes.Float32, v.N, []*memory.Buffer{valid, values}, nil, nulls, lo)
		arrs = append(arrs, array.NewFloat32Data(d))
		d.Release()
		valid.Release()
		values.Release()
	}
	return array.NewRecord(RecordSchema, arrs, int64(v.N))
}
