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
	"time"
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

// Bounds on a file.
const (
	MaxCells = 200_000_000 // values of all series
	maxBin   = 1 << 40
)

// Bin is the length of a bin when a file has timestamps instead of t.
const Bin = 5 * time.Minute

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
	var r io.Reader = bufio.NewReaderSize(f, 1<<20)
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("trace: %s: %w", path, err)
		}
		r = z
	}
	s, err := Decode(r, metric)
	if err != nil {
		return nil, fmt.Errorf("trace: %s: %w", path, err)
	}
	return s, nil
}

// layout says where a row has what; -1 = nowhere.
type layout struct {
	id, t, stamp, value, over, kind, split int
	want                                   string // value of the kind column; "" = all
}

// Decode reads the metric of a CSV.
func Decode(r io.Reader, metric string) ([]Series, error) {
	c := csv.NewReader(r)
	c.ReuseRecord, c.FieldsPerRecord = true, -1
	head, err := c.Read()
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	g := gather{by: map[string]*cells{}}
	if _, err := strconv.ParseFloat(head[0], 64); err == nil && len(head) > 2 {
		for {
			if err := g.wide(head); err != nil {
				return nil, at(c, err)
			}
			if head, err = c.Read(); errors.Is(err, io.EOF) {
				return g.series(metric)
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
			return g.series(metric)
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
	find := func(names ...string) int {
		for _, n := range names {
			if i := slices.Index(head, n); i >= 0 {
				return i
			}
		}
		return -1
	}
	l := layout{id: find("series", "vm"), t: find("t"), stamp: find("timestamp"), value: -1, over: -1,
		kind: find("metric"), split: find("split")}
	if metric == "" {
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
	by map[string]*cells
	n  int
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
	need := max(l.id, l.t, l.stamp, l.value, l.over, l.kind, l.split)
	if len(rec) <= need {
		return fmt.Errorf("%d fields, want %d", len(rec), need+1)
	}
	if l.want != "" && rec[l.kind] != l.want {
		return nil
	}
	var t int
	var err error
	if l.t >= 0 {
		if t, err = strconv.Atoi(rec[l.t]); err != nil {
			return fmt.Errorf("t %q is not a whole number", rec[l.t])
		}
	} else if t, err = bin(rec[l.stamp]); err != nil {
		return err
	}
	y := number(rec[l.value])
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

// percent says whether a metric of that name lies within 0..100.
func percent(metric string) bool {
	return strings.HasSuffix(metric, "_pct") || strings.Contains(metric, "_pct_") || metric == "azure_cpu"
}

// number is missing when it is not one.
func number(s string) float32 {
	v, err := strconv.ParseFloat(s, 32)
	if err != nil || math.IsInf(v, 0) {
		return float32(math.NaN())
	}
	return float32(v)
}

// bin reads a timestamp: RFC 3339, the same with a space, or Unix seconds.
func bin(s string) (int, error) {
	for _, layout := range [...]string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return int(t.Unix() / int64(Bin/time.Second)), nil
		}
	}
	if v, err := strconv.ParseFloat(s, 64); err == nil {
		return int(v / Bin.Seconds()), nil
	}
	return 0, fmt.Errorf("timestamp %q is neither RFC 3339 nor Unix seconds", s)
}

func (g *gather) series(metric string) ([]Series, error) {
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
	if len(out) == 0 {
		return nil, fmt.Errorf("no rows of %s", metric)
	}
	return out, nil
}
