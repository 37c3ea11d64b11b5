package schemas

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Columns of a forecast, by resource: lists of half-precision numbers and the
// scale, in the resource's unit, that each row's numbers are multiplied by.
var (
	forecastUnits   = [NumResources]string{"cpu_mcpu", "mem_bytes", "net_bytes_per_second", "disk_bytes_per_second"}
	quantileColumns = columnNames("quantiles_")
	scenarioColumns = columnNames("scenarios_")
)

// scaleSuffix makes the name of the scale's column.
const scaleSuffix = "_scale"

func columnNames(prefix string) (names [NumResources]string) {
	for r, u := range forecastUnits {
		names[r] = prefix + u
	}
	return names
}

// quantilesPerRow is the length of a row's list of quantiles, level by level
// within slot by slot.
const quantilesPerRow = Slots * NumLevels

// weightSlack is how far the weights of a slot may be from 1 in sum.
const weightSlack = 1e-3

func (f *Forecasts) encode() ([]byte, error) {
	n := len(f.VM)
	perRow := 2*(NumResources*quantilesPerRow+f.K*Slots*ScenarioResources) + 128
	s := newSheet(n, n*perRow+1024)
	s.meta("schema", headers[KindForecasts])
	s.meta("partition", strconv.Itoa(f.Partition))
	s.meta("chunk", strconv.Itoa(f.Chunk))
	s.meta("chunks", strconv.Itoa(f.Chunks))
	s.meta("issued_step", strconv.FormatInt(int64(f.Issued), 10))
	s.meta("grid_start_step", strconv.FormatInt(int64(f.Grid.Start), 10))
	s.meta("base_ns", strconv.FormatInt(int64(f.Base), 10))
	s.meta("lease", strconv.FormatUint(f.Lease, 10))
	s.meta("model", f.Model)
	s.meta("scenarios", strconv.Itoa(f.K))
	s.meta("origin_steps", joinNumbers(f.Origins, func(b []byte, v Step) []byte { return strconv.AppendInt(b, int64(v), 10) }))
	s.meta("weights", joinNumbers(f.Weight, func(b []byte, v float32) []byte { return strconv.AppendFloat(b, float64(v), 'g', -1, 32) }))
	s.vms(colVM, f.VM)
	s.hosts(colHost, f.Host)
	s.floats(colAllocCPU, f.AllocCPU)
	s.floats(colAllocMem, f.AllocMem)
	for r := range f.Q {
		s.halves(quantileColumns[r], f.Q[r], quantilesPerRow, 0, 1)
	}
	if f.K > 0 {
		for r := 0; r < ScenarioResources; r++ {
			s.halves(scenarioColumns[r], f.D, f.K*Slots, r, ScenarioResources)
		}
	}
	return s.stream(), nil
}

// halves writes lists of n numbers, the numbers of a row standing stride apart from
// first on. A row that begins with NaN is missing.
func (s *sheet) halves(name string, vs []float32, n, first, stride int) {
	valid := s.bitmap()
	data := s.grab(2 * n * s.rows)
	scales := make([]float32, s.rows)
	nulls := 0
	for i := 0; i < s.rows; i++ {
		row, out := vs[i*n*stride+first:(i+1)*n*stride], data[2*n*i:2*n*(i+1)]
		if IsNaN(row[0]) {
			nulls++
			scales[i] = NaN()
			clear(out)
			continue
		}
		valid[i>>3] |= 1 << (i & 7)
		var largest float32
		for j := 0; j < len(row); j += stride {
			largest = max(largest, row[j], -row[j])
		}
		scales[i] = rowScale(largest)
		inverse := 1 / scales[i]
		for j, k := 0, 0; j < len(row); j, k = j+stride, k+2 {
			binary.LittleEndian.PutUint16(out[k:], toHalf(row[j]*inverse))
		}
	}
	c := s.add(name, typeFixedSizeList, int32(n), nil)
	c.missing(nulls, valid)
	c.bufs[2], c.buffers = data, 3 // the items' own bitmap, always empty, stands between
	s.floats(name+scaleSuffix, scales)
}

func joinNumbers[T any](vs []T, appendOne func([]byte, T) []byte) string {
	var b []byte
	for i, v := range vs {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendOne(b, v)
	}
	return string(b)
}

func (f *Forecasts) decode(b []byte) (err error) {
	bt, err := readBatch(b, MaxForecastVMs)
	if err != nil {
		return err
	}
	md := metaReader{kind: KindForecasts, m: bt.meta}
	md.schema()
	f.Partition, f.Chunk, f.Chunks = md.small("partition"), md.small("chunk"), md.small("chunks")
	f.Issued, f.Grid.Start = Step(md.signed("issued_step")), Step(md.signed("grid_start_step"))
	f.Base, f.Lease, f.Model = time.Duration(md.signed("base_ns")), md.unsigned("lease"), md.text("model")
	f.K = md.small("scenarios")
	if md.err == nil && f.K > NumScenarios {
		md.err = fmt.Errorf("metadata scenarios: %d, at most %d are allowed", f.K, NumScenarios)
	}
	f.Origins = splitNumbers(&md, "origin_steps", f.K, func(s string) (Step, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		return Step(n), err
	})
	f.Weight = splitNumbers(&md, "weights", f.K*Slots, func(s string) (float32, error) {
		w, err := strconv.ParseFloat(s, 32)
		return float32(w), err
	})
	if md.err != nil {
		return md.err
	}
	if f.VM, err = bt.vms(colVM); err != nil {
		return err
	}
	if f.Host, err = bt.hosts(colHost); err != nil {
		return err
	}
	if f.AllocCPU, err = bt.floats(colAllocCPU); err != nil {
		return err
	}
	if f.AllocMem, err = bt.floats(colAllocMem); err != nil {
		return err
	}
	for r := range f.Q {
		if err := bt.halves(quantileColumns[r], &f.Q[r], quantilesPerRow, 0, 1); err != nil {
			return err
		}
	}
	if f.K == 0 {
		return nil
	}
	for r := 0; r < ScenarioResources; r++ {
		if err := bt.halves(scenarioColumns[r], &f.D, f.K*Slots, r, ScenarioResources); err != nil {
			return err
		}
	}
	return nil
}

// halves reads lists of n numbers into a slice, which it makes when it is nil, having
// made sure that the numbers are there; see its counterpart.
func (bt *batch) halves(name string, into *[]float32, n, first, stride int) error {
	c, err := bt.find(name)
	switch {
	case err != nil:
		return err
	case c == nil:
		return fmt.Errorf("column %s: is missing", name)
	case c.typ != typeFixedSizeList || int(c.a) != n || c.child.typ != typeFloat || c.child.a != precisionHalf:
		return fmt.Errorf("column %s: want fixed_size_list[%d] of float16", name, n)
	case c.child.n != n*bt.rows || c.child.nulls != 0 || len(c.child.data) < 2*n*bt.rows:
		return fmt.Errorf("column %s: %d numbers, %d missing, in %d bytes for %d rows of %d",
			name, c.child.n, c.child.nulls, len(c.child.data), bt.rows, n)
	}
	scales, err := bt.floats(name + scaleSuffix)
	if err != nil {
		return err
	}
	if scales == nil {
		return fmt.Errorf("column %s: is missing", name+scaleSuffix)
	}
	if *into == nil {
		*into = make([]float32, bt.rows*n*stride)
	}
	dst := *into
	for i, scale := range scales {
		row, in := dst[i*n*stride:(i+1)*n*stride], c.child.data[2*n*i:2*n*(i+1)]
		if c.null(i) || IsNaN(scale) {
			if !c.null(i) || !IsNaN(scale) {
				return fmt.Errorf("column %s: row %d has numbers or a scale, but not both", name, i)
			}
			for j := first; j < len(row); j += stride {
				row[j] = NaN()
			}
			continue
		}
		var largest float32
		for j, k := first, 0; j < len(row); j, k = j+stride, k+2 {
			h := binary.LittleEndian.Uint16(in[k:])
			if !isHalfFinite(h) {
				return fmt.Errorf("column %s: row %d: %v is not a finite number", name, i, fromHalf(h))
			}
			v := fromHalf(h) * scale
			row[j], largest = v, max(largest, v, -v)
		}
		if want := rowScale(largest); scale != want {
			return fmt.Errorf("column %s: row %d: %v, but its largest value takes %v", name+scaleSuffix, i, scale, want)
		}
	}
	return nil
}

// splitNumbers reads n numbers with commas between them.
func splitNumbers[T any](r *metaReader, key string, n int, parse func(string) (T, error)) []T {
	text := r.text(key)
	if r.err != nil {
		return nil
	}
	have := 0
	if text != "" {
		have = strings.Count(text, ",") + 1
	}
	if have != n {
		r.err = fmt.Errorf("metadata %s: %d numbers, want %d", key, have, n)
		return nil
	}
	if n == 0 {
		return nil
	}
	out := make([]T, 0, n)
	for range n {
		var one string
		one, text, _ = strings.Cut(text, ",")
		v, err := parse(one)
		if err != nil {
			r.err = fmt.Errorf("metadata %s: %q is not a number", key, clip(one))
			return nil
		}
		out = append(out, v)
	}
	return out
}

// Validate implements [Message].
func (f *Forecasts) Validate() error {
	var c check
	n := len(f.VM)
	c.count("rows", n, MaxForecastVMs)
	c.partitionOf(f.Partition, f.VM, f.Host)
	within(&c, "chunks", f.Chunks, 1, 1<<20)
	within(&c, "chunk", f.Chunk, 0, f.Chunks-1)
	c.base(f.Base)
	c.step("issued_step", f.Issued, f.Base)
	c.step("grid_start_step", f.Grid.Start, f.Base)
	c.text("model", f.Model, MaxName)
	within(&c, "scenarios", f.K, 0, NumScenarios)
	c.rows("origin_steps", len(f.Origins), f.K, false)
	c.rows("weights", len(f.Weight), f.K*Slots, false)
	c.quantities(colAllocCPU, f.AllocCPU, n)
	c.quantities(colAllocMem, f.AllocMem, n)
	if c.err != nil {
		return c.err
	}
	f.checkWeights(&c)
	for r := range f.Q {
		c.rows("column "+quantileColumns[r], len(f.Q[r]), n*quantilesPerRow, false)
		if c.err == nil {
			c.quantiles("column "+quantileColumns[r], f.Q[r])
		}
	}
	c.rows("column "+scenarioColumns[0], len(f.D), n*f.K*Slots*ScenarioResources, false)
	if c.err == nil && f.K > 0 {
		f.checkPaths(&c)
	}
	return c.err
}

// checkWeights says that the weights of every slot are shares of one whole.
func (f *Forecasts) checkWeights(c *check) {
	for _, s := range f.Origins {
		c.step("origin_steps", s, f.Base)
	}
	if f.K == 0 {
		return
	}
	for slot := 0; slot < Slots; slot++ {
		var sum float64
		for k := 0; k < f.K; k++ {
			w := f.Weight[k*Slots+slot]
			if !(w >= 0 && w <= 1) {
				c.fail("weights", "scenario %d, slot %d: %v is not within 0..1", k, slot, w)
				return
			}
			sum += float64(w)
		}
		if math.Abs(sum-1) > weightSlack {
			c.fail("weights", "slot %d sums to %v, want 1", slot, sum)
			return
		}
	}
}

// quantiles says that every row is missing as a whole, or finite and nowhere
// falling from level to level.
func (c *check) quantiles(field string, q []float32) {
	for at := 0; at < len(q); at += quantilesPerRow {
		row := q[at : at+quantilesPerRow]
		missing := IsNaN(row[0])
		for j, v := range row {
			switch {
			case missing != IsNaN(v):
				c.fail(field, "row %d is missing in part", at/quantilesPerRow)
				return
			case v > maxQuantity || v < -maxQuantity:
				c.fail(field, "row %d, slot %d: %v is out of range", at/quantilesPerRow, j/NumLevels, v)
				return
			case j%NumLevels > 0 && v < row[j-1]:
				c.fail(field, "row %d, slot %d: quantiles fall from %v to %v", at/quantilesPerRow, j/NumLevels, row[j-1], v)
				return
			}
		}
	}
}

// checkPaths says that every row's paths of a resource are missing as a whole, or
// finite.
func (f *Forecasts) checkPaths(c *check) {
	per := f.K * Slots * ScenarioResources
	for at := 0; at < len(f.D); at += per {
		row := f.D[at : at+per]
		for j, v := range row {
			r := j % ScenarioResources
			if IsNaN(v) != IsNaN(row[r]) {
				c.fail("column "+scenarioColumns[r], "row %d is missing in part", at/per)
				return
			}
			if v > maxQuantity || v < -maxQuantity {
				c.fail("column "+scenarioColumns[r], "row %d: %v is out of range", at/per, v)
				return
			}
		}
	}
}
