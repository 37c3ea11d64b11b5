// Package spool is a bounded ring of messages on disk, for an agent whose bus is away.
//
// What comes in: encoded messages with their subjects and ids. What goes out: the same,
// oldest first, once somebody takes them. What is promised:
//
//   - It never takes more than its bound: the oldest messages go, and are counted.
//   - What was put is there after a crash of the agent, up to the segment that was being
//     written; a torn or damaged record ends its segment and is counted, and nothing is
//     handed out that was not put.
//   - A segment goes only when all of it was taken. After a failure in the middle its
//     first messages are handed out again: their ids make them doubles to the bus.
//
// Why: telemetry of an hour without a bus is history that forecasts are made of, and the
// memory of a host belongs to its guests.
package spool

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Record is one message.
type Record struct {
	Subject, ID, Kind string
	Data              []byte
}

// Bounds of what is on disk.
const (
	segmentBytes = 1 << 20
	maxRecord    = 8 << 20
	suffix       = ".seg"
)

// Ring is a spool. One goroutine uses it.
type Ring struct {
	dir     string
	most    int64
	segs    []segment // oldest first; the last may be open
	out     *os.File
	next    uint64
	Dropped uint64 // messages that went at the bound
	Damaged uint64 // segments that ended before their end
}

type segment struct {
	n       uint64
	bytes   int64
	records int // put since the start; of older ones not known
}

// Open opens the spool in a directory, which is made, with a bound in bytes.
func Open(dir string, most int64) (*Ring, error) {
	if most < 2*segmentBytes {
		return nil, fmt.Errorf("spool %s: a bound of %d bytes: want at least %d", dir, most, 2*segmentBytes)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	r := &Ring{dir: dir, most: most}
	for _, name := range names {
		n, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), suffix), 10, 64)
		if err != nil {
			continue // not ours
		}
		st, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
		r.segs = append(r.segs, segment{n: n, bytes: st.Size()})
		r.next = max(r.next, n+1)
	}
	slices.SortFunc(r.segs, func(a, b segment) int { return int(int64(a.n) - int64(b.n)) })
	return r, nil
}

// Empty says whether there is nothing to take.
func (r *Ring) Empty() bool { return len(r.segs) == 0 }

// Bytes is what it takes on disk.
func (r *Ring) Bytes() (n int64) {
	for _, s := range r.segs {
		n += s.bytes
	}
	return n
}

func (r *Ring) path(n uint64) string { return filepath.Join(r.dir, fmt.Sprintf("%016d%s", n, suffix)) }

// Put appends a message, and lets the oldest go when there is no room.
func (r *Ring) Put(m Record) error {
	b := encode(m)
	if len(b) > maxRecord {
		return fmt.Errorf("spool: a message of %d bytes, at most %d", len(b), maxRecord)
	}
	for len(r.segs) > 0 && r.Bytes()+int64(len(b)) > r.most {
		if err := r.dropOldest(); err != nil {
			return err
		}
	}
	if r.out == nil || r.segs[len(r.segs)-1].bytes >= segmentBytes {
		if err := r.rotate(); err != nil {
			return err
		}
	}
	s := &r.segs[len(r.segs)-1]
	if _, err := r.out.Write(b); err != nil { // a full disk: what is torn is found when it is read
		return errors.Join(fmt.Errorf("spool: %w", err), r.shut())
	}
	s.bytes += int64(len(b))
	s.records++
	return nil
}

func (r *Ring) rotate() error {
	if err := r.shut(); err != nil {
		return err
	}
	f, err := os.OpenFile(r.path(r.next), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	r.out = f
	r.segs = append(r.segs, segment{n: r.next})
	r.next++
	return nil
}

// shut closes the segment being written.
func (r *Ring) shut() error {
	if r.out == nil {
		return nil
	}
	err := r.out.Close()
	r.out = nil
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

func (r *Ring) dropOldest() error {
	s := r.segs[0]
	if len(r.segs) == 1 {
		if err := r.shut(); err != nil {
			return err
		}
	}
	n := s.records
	if n == 0 { // of before the start
		if err := r.each(s, func(Record) error { n++; return nil }); err != nil {
			return err
		}
	}
	r.Dropped += uint64(n)
	return r.remove()
}

func (r *Ring) remove() error {
	if err := os.Remove(r.path(r.segs[0].n)); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	r.segs = slices.Delete(r.segs, 0, 1)
	return nil
}

// Take hands out messages, oldest first, until there are none or take fails.
func (r *Ring) Take(take func(Record) error) error {
	if err := r.shut(); err != nil {
		return err
	}
	for len(r.segs) > 0 {
		if err := r.each(r.segs[0], take); err != nil {
			return err
		}
		if err := r.remove(); err != nil {
			return err
		}
	}
	return nil
}

// each reads a segment up to its end or to what is damaged.
func (r *Ring) each(s segment, f func(Record) error) error {
	file, err := os.Open(r.path(s.n))
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	defer file.Close()
	in := bufio.NewReader(file)
	for {
		m, err := decode(in)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errDamaged):
			r.Damaged++
			return nil
		case err != nil:
			return fmt.Errorf("spool: %w", err)
		}
		if err := f(m); err != nil {
			return err
		}
	}
}

// Close ends it; what is on disk stays.
func (r *Ring) Close() error { return r.shut() }

var errDamaged = errors.New("a damaged record")

// encode writes length, xxhash64 of the rest, and the fields each with its length.
func encode(m Record) []byte {
	b := make([]byte, 12, 12+16+len(m.Subject)+len(m.ID)+len(m.Kind)+len(m.Data))
	for _, f := range [][]byte{[]byte(m.Subject), []byte(m.ID), []byte(m.Kind), m.Data} {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-12))
	binary.LittleEndian.PutUint64(b[4:], xxhash.Sum64(b[12:]))
	return b
}

// decode reads one record; io.EOF at the end, errDamaged where it makes no sense.
func decode(in io.Reader) (m Record, err error) {
	var head [12]byte
	switch _, err := io.ReadFull(in, head[:]); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return m, errDamaged
	case err != nil:
		return m, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxRecord {
		return m, errDamaged
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(in, b); err != nil {
		return m, errDamaged
	}
	if xxhash.Sum64(b) != binary.LittleEndian.Uint64(head[4:]) {
		return m, errDamaged
	}
	var fields [4][]byte
	for i := range fields {
		if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
			return m, errDamaged
		}
		n := binary.LittleEndian.Uint32(b)
		fields[i], b = b[4:4+n], b[4+n:]
	}
	return Record{string(fields[0]), string(fields[1]), string(fields[2]), fields[3]}, nil
}
