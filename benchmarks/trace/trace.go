// Package trace reads recorded demand from CSV files, plain or gzipped.
//
// What comes in: a file and the name of a metric. Any CSV with a header serves that
// has a column series or vm, a column t (bin) or timestamp, and the metric's own;
// so does the layout series,metric,src,t,y,split, where the metric selects rows (y
// takes all) and the split marks where the test begins; and a file without header
// whose rows are day,index and one value a bin.
//
// What goes out: a [Series] per VM, one value a bin, NaN where the file has none.
// The metric mem_pct_of_cap is made from mem_mb and mem_cap_mb.
//
// What is promised: series come in the order of their names, whatever the order of
// rows; a missing or unreadable value stays missing, never zero; of two values for
// one bin the last counts; files that would need more than [MaxCells] values, or
// whose time goes back before 0, are refused with the line.
package trace

import (
	"bufio"
	"bytes"
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
)

// Series is the demand of one VM.
type Series struct {
	ID    string
	Start int       // t of Y[0]
	Y     []float32 // one value a bin; NaN = missing
	Test  int       // bins before the first row of the test split; 0 = the file has no split
	Bound float64   // what the metric cannot exceed (100 for a share in percent); 0 = unknown
}

// End is the t after the last bin.
func (s *Series) End() int { return s.Start + len(s.Y) }

// Multiply multiplies the values of series by those of the series of the same name at
// the same time; where there is none, the value is missing.
func Multiply(series, by []Series) {
	at := map[string]*Series{}
	for i := range by {
		at[by[i].ID] = &by[i]
	}
	for i := range series {
		s := &series[i]
		s.Bound = 0
		f := at[s.ID]
		for k := range s.Y {
			m := s.Start + k
			if f == nil || m < f.Start || m >= f.End() {
				s.Y[k] = float32(math.NaN())
			} else {
				s.Y[k] *= f.Y[m-f.Start]
			}
		}
	}
}

// Bounds on a file.
const (
	MaxCells = 200_000_000 // values of all series
	maxBin   = 1 << 40
)

// ReadAll reads the metric of several files; with more than one, names are made
// distinct by the file's.
func ReadAll(paths []string, metric string) ([]Series, error) {
	var all []Series
	for _, p := range paths {
		s, err := Read(p, metric)
		if err != nil {
			return nil, err
		}
		if len(paths) > 1 {
			base, _, _ := strings.Cut(filepath.Base(p), ".")
			for i := range s {
				s[i].ID = base + "/" + s[i].ID
			}
		}
		all = append(all, s...)
	}
	return all, nil
}

// Read reads the metric of one file.
func Read(path, metric string) ([]Series, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	defer f.Close()
	r, err := plain(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("trace: %s: %w", path, err)
	}
	s, err := Decode(r, metric)
	if err != nil {
		return nil, fmt.Errorf("trace: %s: %w", path, err)
	}
	return s, nil
}

// plain unpacks what is gzipped, whatever the file's name says.
func plain(r *bufio.Reader) (io.Reader, error) {
	if magic, err := r.Peek(2); err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return r, nil // a file too short for that is told of by who reads it
	}
	return gzip.NewReader(r)
}

// layout says where a row has what; -1 = nowhere.
type layout struct {
	id, t, stamp, value, over, kind, split int
	head                                   []string
	want                                   string // value of the kind column; "" = all
}

// reader gives rows of a CSV whose values are parted by commas, semicolons or tabs.
func reader(r io.Reader) *csv.Reader {
	b := bufio.NewReader(r)
	if mark, err := b.Peek(3); err == nil && string(mark) == "\ufeff" {
		b.Discard(3) // cannot fail: it was peeked
	}
	c := csv.NewReader(b)
	head, _ := b.Peek(4096) // what is there; reading tells of errors
	head, _, _ = bytes.Cut(head, []byte("\n"))
	if bytes.IndexByte(head, ',') < 0 {
		for _, comma := range ";\t" {
			if bytes.ContainsRune(head, comma) {
				c.Comma = comma
			}
		}
	}
	c.ReuseRecord, c.FieldsPerRecord, c.TrimLeadingSpace = true, -1, c.Comma != '\t'
	return c
}

// Decode reads the metric of a CSV.
func Decode(r io.Reader, metric string) ([]Series, error) {
	c := reader(r)
	head, err := c.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the file is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	g := gather{by: map[string]*cells{}}
	if _, err := strconv.ParseFloat(head[0], 64); err == nil && len(head) > 2 {
		g.headless = true
		for {
			if err := g.wide(head); err != nil {
				return nil, at(c, err)
			}
			if head, err = c.Read(); errors.Is(err, io.EOF) {
				return g.series(metric, true)
			} else if err != nil {
				return nil, err
			}
		}
	}
	l, err := layoutOf(slices.Clone(head), metric)
	if err != nil {
		return nil, err
	}
	for {
		rec, err := c.Read()
		if errors.Is(err, io.EOF) {
			return g.series(metric, l.t >= 0)
		}
		if err != nil {
			return nil, err
		}
		if err := g.row(rec, &l); err != nil {
			return nil, at(c, err)
		}
	}
}

func at(c *csv.Reader, err error) error {
	line, _ := c.FieldPos(0)
	return fmt.Errorf("line %d: %w", line, err)
}

func layoutOf(head []string, metric string) (layout, error) {
	for k := range head {
		head[k] = strings.TrimSpace(head[k])
	}
	find := func(names ...string) int {
		for _, n := range names {
			if i := slices.Index(head, n); i >= 0 {
				return i
			}
		}
		return -1
	}
	l := layout{id: find("series", "vm"), t: find("t"), stamp: find("timestamp"), value: -1, over: -1,
		kind: find("metric"), split: find("split"), head: head}
	named := metric != ""
	if !named {
		metric = "y"
	}
	switch {
	case find(metric) >= 0:
		l.value = find(metric)
	case metric == "mem_pct_of_cap" && find("mem_mb") >= 0 && find("mem_cap_mb") >= 0:
		l.value, l.over = find("mem_mb"), find("mem_cap_mb")
	case l.kind >= 0 && find("y") >= 0:
		l.value, l.want = find("y"), metric
	}
	var missing []string
	if l.id < 0 {
		missing = append(missing, "series or vm")
	}
	if l.t < 0 && l.stamp < 0 {
		missing = append(missing, "t or timestamp")
	}
	if l.value < 0 {
		missing = append(missing, strconv.Quote(metric))
	}
	if len(missing) == 1 && l.value < 0 && !named {
		return l, fmt.Errorf("no metric is named; the file has %s", strings.Join(head, ", "))
	}
	if len(missing) > 0 {
		return l, fmt.Errorf("no column %s; the file has %s", strings.Join(missing, ", nor "), strings.Join(head, ", "))
	}
	return l, nil
}

// cells gathers one series; rows may come in any order.
type cells struct {
	t    []int
	y    []float32
	test int // smallest t of the test split; -1 = none
	pct  bool
}

type gather struct {
	by       map[string]*cells
	n        int
	numbers  int // values that are numbers, of a file with a header
	headless bool
	odd      string // the first that is neither a number nor missing
}

func (g *gather) put(id string, t int, y float32, test, pct bool) error {
	if t < 0 || t > maxBin {
		return fmt.Errorf("t %d is out of range", t)
	}
	if g.n++; g.n > MaxCells {
		return fmt.Errorf("more than %d values", MaxCells)
	}
	c := g.by[id]
	if c == nil {
		c = &cells{test: -1, pct: pct}
		g.by[strings.Clone(id)] = c
	}
	c.t, c.y = append(c.t, t), append(c.y, y)
	if test && (c.test < 0 || t < c.test) {
		c.test = t
	}
	return nil
}

func (g *gather) row(rec []string, l *layout) error {
	if need := max(l.id, l.t, l.stamp, l.value, l.over, l.kind, l.split); len(rec) <= need {
		return fmt.Errorf("%d fields: column %s is missing", len(rec), l.head[len(rec)])
	}
	if l.want != "" && rec[l.kind] != l.want {
		return nil
	}
	var t int
	var err error
	if l.t >= 0 {
		if t, err = whole(rec[l.t]); err != nil {
			return fmt.Errorf("column t: %w", err)
		}
	} else if t, err = bin(rec[l.stamp]); err != nil {
		return fmt.Errorf("column timestamp: %w", err)
	}
	if rec[l.id] == "" {
		return fmt.Errorf("column %s is empty", l.head[l.id])
	}
	y := number(rec[l.value])
	if y == y {
		g.numbers++
	} else if g.odd == "" && !missing(rec[l.value]) {
		g.odd = rec[l.value]
	}
	if l.over >= 0 {
		y = 100 * y / number(rec[l.over])
		if y != y || math.IsInf(float64(y), 0) {
			y = float32(math.NaN())
		}
	}
	pct := l.kind >= 0 && percent(rec[l.kind])
	return g.put(rec[l.id], t, y, l.split >= 0 && rec[l.split] == "test", pct)
}

func (g *gather) wide(rec []string) error {
	if len(rec) < 3 {
		return fmt.Errorf("%d fields, want day, index and values", len(rec))
	}
	id := rec[0] + "/" + rec[1]
	for t, v := range rec[2:] {
		if err := g.put(id, t, number(v), false, true); err != nil {
			return err
		}
	}
	return nil
}

// series makes series of what was gathered; bins says that the file numbered its bins.
func (g *gather) series(metric string, bins bool) ([]Series, error) {
	ids := make([]string, 0, len(g.by))
	for id := range g.by {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	out := make([]Series, 0, len(ids))
	total := 0
	for _, id := range ids {
		c := g.by[id]
		lo, hi := slices.Min(c.t), slices.Max(c.t)
		if total += hi - lo + 1; total > MaxCells {
			return nil, fmt.Errorf("series %s spans bins %d..%d: more than %d values in all", id, lo, hi, MaxCells)
		}
		if d := stride(c.t); bins && d >= 60 && len(c.t) > 9 {
			return nil, fmt.Errorf("series %s: t goes up by %d, not by 1: if it is in seconds, call the column timestamp", id, d)
		}
		s := Series{ID: id, Start: lo, Y: make([]float32, hi-lo+1)}
		for k := range s.Y {
			s.Y[k] = float32(math.NaN())
		}
		for k, t := range c.t {
			s.Y[t-lo] = c.y[k]
		}
		if c.test > lo {
			s.Test = c.test - lo
		}
		if c.pct || percent(metric) {
			s.Bound = 100
		}
		out = append(out, s)
		delete(g.by, id)
	}
	switch {
	case len(out) == 0:
		return nil, fmt.Errorf("no rows of %s", strconv.Quote(metric))
	case g.numbers == 0 && g.odd != "":
		return nil, fmt.Errorf("%s has no number in any row, but for instance %q", strconv.Quote(metric), g.odd)
	case g.numbers == 0 && !g.headless:
		return nil, fmt.Errorf("%s has no value in any row", strconv.Quote(metric))
	}
	return out, nil
}

// stride is the largest number that divides the distance of all rows of a series; 0
// with fewer than two.
func stride(t []int) (d int) {
	for _, x := range t {
		for a := max(x-t[0], t[0]-x); a != 0; {
			d, a = a, d%a
		}
	}
	return d
}
