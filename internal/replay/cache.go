package replay

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"github.com/foreshift/foreshift/forecaster/ensemble"
	"github.com/foreshift/foreshift/schemas"
)

// A file of forecasts holds the scenarios of all VMs at all scored steps, so that
// another setting can be tried without the hours of CPU that forecasts of months take.
// After a header of 24 bytes (magic, hash of what they are of, number of values a
// frame) come frames of uint16, mCPU: by VM, scenario and slot. The persistence
// scenario is the history's own and is not kept, nor are slots after the fourth hour:
// they repeat the last. So a look-ahead above 4 hours needs its forecasts afresh.
const (
	cacheMagic = "fsfcast2"
	cacheHead  = 24
	cacheSlots = 24                      // 4 hours
	cacheMost  = perHour * 4             // steps of look-ahead
	cacheVM    = (K - 1) * cacheSlots    // values a VM
	mostMilli  = float32(math.MaxUint16) // largest demand that is kept
)

// digest names what the forecasts are of.
func digest(h *History, model string, from int) uint64 {
	x := xxhash.New()
	fmt.Fprintf(x, "%s %d %d %d\n", model, from, h.Steps, len(h.VMs)) // a digest's Write has no error
	for i := range h.VMs {
		fmt.Fprintln(x, h.VMs[i].Name)
	}
	if len(h.D) > 0 {
		x.Write(unsafe.Slice((*byte)(unsafe.Pointer(&h.D[0])), 4*len(h.D)))
	}
	return x.Sum64()
}

func header(h *History, model string, from int) (b [cacheHead]byte) {
	copy(b[:], cacheMagic)
	binary.LittleEndian.PutUint64(b[8:], digest(h, model, from))
	binary.LittleEndian.PutUint64(b[16:], uint64(len(h.VMs)*cacheVM))
	return b
}

// writer keeps the frames of a source in a file on their way.
type writer struct {
	from Source
	next int
	f    *os.File
	b    *bufio.Writer
	buf  []byte
}

func newWriter(src Source, h *History, model string, from int, path string) (*writer, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("backtest: keep forecasts: %w", err)
	}
	w := &writer{from: src, next: from, f: f, b: bufio.NewWriterSize(f, 1<<20)}
	head := header(h, model, from)
	if _, err := w.b.Write(head[:]); err != nil {
		return nil, errors.Join(fmt.Errorf("backtest: keep forecasts: %w", err), f.Close())
	}
	return w, nil
}

// After implements [Source].
func (w *writer) After(t int, f *Frame) error {
	if err := w.from.After(t, f); err != nil {
		return err
	}
	if t != w.next {
		return fmt.Errorf("backtest: forecasts of step %d are to be kept after those of %d", t, w.next-1)
	}
	w.next++
	w.buf = w.buf[:0]
	for at := 0; at < len(f.CPU); at += K * schemas.Slots {
		for k := range K - 1 {
			for _, x := range f.CPU[at+k*schemas.Slots : at+k*schemas.Slots+cacheSlots] {
				w.buf = binary.LittleEndian.AppendUint16(w.buf, uint16(min(x, mostMilli)))
			}
		}
	}
	if _, err := w.b.Write(w.buf); err != nil {
		return fmt.Errorf("backtest: keep forecasts of step %d: %w", t, err)
	}
	return nil
}

func (w *writer) close() error {
	if err := errors.Join(w.b.Flush(), w.f.Close()); err != nil {
		return fmt.Errorf("backtest: keep forecasts: %w", err)
	}
	return nil
}

// reader gives frames back.
type reader struct {
	h     *History
	joint ensemble.Joint // for the weights
	f     *os.File
	from  int
	buf   []byte
}

// openCache opens a file of forecasts; ok is false when there is none.
func openCache(h *History, model string, from int, path string) (r *reader, ok bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("backtest: kept forecasts: %w", err)
	}
	var head [cacheHead]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || head != header(h, model, from) {
		return nil, false, errors.Join(fmt.Errorf("backtest: %s holds no forecasts of this history by this model: name another file, or remove it", path), f.Close())
	}
	return &reader{h: h, f: f, from: from, buf: make([]byte, 2*len(h.VMs)*cacheVM)}, true, nil
}

// After implements [Source].
func (r *reader) After(t int, f *Frame) error {
	if _, err := r.f.ReadAt(r.buf, cacheHead+int64(t-r.from)*int64(len(r.buf))); err != nil {
		return fmt.Errorf("backtest: kept forecasts of step %d: %w", t, err)
	}
	b := r.buf
	for v := range r.h.VMs {
		row := f.CPU[v*K*schemas.Slots : (v+1)*K*schemas.Slots]
		for k := range K - 1 {
			for s := range cacheSlots {
				row[k*schemas.Slots+s] = float32(binary.LittleEndian.Uint16(b))
				b = b[2:]
			}
			for s := cacheSlots; s < schemas.Slots; s++ {
				row[k*schemas.Slots+s] = row[k*schemas.Slots+cacheSlots-1]
			}
		}
		now := lately(r.h, v, t)
		for s := range schemas.Slots {
			row[(K-1)*schemas.Slots+s] = now
		}
	}
	r.joint.Begin(epoch+schemas.Step(t), t+1)
	copy(f.Msg.Weight, r.joint.Weight)
	f.seal(t)
	return nil
}

func (r *reader) close() error { return r.f.Close() }

// lately is what the persistence scenario holds: the mean of the last ten minutes.
func lately(h *History, v, t int) float32 {
	return whole((float32(1000*h.At(v, t-1)) + float32(1000*h.At(v, t))) / 2)
}
