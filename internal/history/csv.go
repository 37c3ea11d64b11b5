package history

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// CSV adds the rows of a CSV stream, plain or gzipped. An error names row and column.
func (t *Table) CSV(r io.Reader) error {
	b := bufio.NewReaderSize(r, 1<<20)
	if magic, err := b.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(b)
		if err != nil {
			return err
		}
		b = bufio.NewReaderSize(z, 1<<20)
	}
	in := csv.NewReader(b)
	in.ReuseRecord = true
	names, err := in.Read()
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the file is empty")
	case err != nil:
		return err
	}
	h, err := headOf(slices.Clone(names))
	if err != nil {
		return fmt.Errorf("row 1: %w", err)
	}
	if err := t.columns(h.values()); err != nil {
		return err
	}
	for n := 2; ; n++ {
		rec, err := in.Read()
		if errors.Is(err, io.EOF) {
			if n == 2 {
				return errors.New("no rows below the header")
			}
			return nil
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("row %d: the file ends in the middle: it was cut short", n)
		}
		if err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
		x := blank()
		x.vm, x.relative = strings.TrimSpace(rec[h.vm]), h.relative
		if h.host >= 0 {
			x.host = strings.TrimSpace(rec[h.host])
		}
		if x.at, err = t.moment(&h, strings.TrimSpace(rec[h.time])); err != nil {
			return fmt.Errorf("row %d, column %s: %w", n, h.names[h.time], err)
		}
		err = h.take(&x, func(i int) (float64, error) {
			s := strings.TrimSpace(rec[i])
			if s == "" {
				return math.NaN(), nil
			}
			v, err := strconv.ParseFloat(s, 64)
			if err != nil || math.IsInf(v, 0) {
				return 0, fmt.Errorf("%.40q is no number", s)
			}
			return v, nil
		})
		if err == nil {
			err = t.add(&x)
		}
		if err != nil {
			return fmt.Errorf("row %d, %w", n, err)
		}
	}
}

// moment reads a time: a step number, RFC 3339, or seconds since 1970.
func (t *Table) moment(h *head, s string) (int64, error) {
	if h.relative || h.names[h.time] == "step" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 || n > 1e10 {
			return 0, fmt.Errorf("%.40q is no step number", s)
		}
		return t.ofStep(h, n)
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil {
		return fromSeconds(sec)
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no time: want RFC 3339, as 2026-03-14T15:00:00Z, or seconds since 1970", s)
	}
	return fromSeconds(float64(at.UnixMilli()) / 1000)
}

// ofStep is a relative number as it is, and the time of an absolute step.
func (t *Table) ofStep(h *head, n int64) (int64, error) {
	if h.relative {
		return n, nil
	}
	if n > math.MaxInt64/int64(t.opt.Base)-1 {
		return 0, fmt.Errorf("step %d lies beyond time", n)
	}
	return int64(schemas.Step(n).Start(t.opt.Base)), nil
}

func fromSeconds(sec float64) (int64, error) {
	const least, most = 3e7, 8e9 // 1971 to 2223
	if !(sec >= least && sec <= most) {
		return 0, fmt.Errorf("%v s since 1970 is no time between 1971 and 2223; are they milliseconds?", sec)
	}
	return int64(math.Round(sec*1000)) * 1e6, nil
}
