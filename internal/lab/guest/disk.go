package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// disk is the guest's record on its disk: a number that only rises, with the time of
// its writing. Whoever runs reads it back before writing the next. A record that is
// not the one last written from here was written by somebody else: by a second
// running copy of this very guest, which shares the disk and the memory's past but
// not the clock.
type disk struct {
	f      *os.File
	page   []byte // aligned, as O_DIRECT wants it
	n      uint64
	stamp  int64
	writes int64
	alien  int64  // records found that were not ours
	slots  uint64 // on a larger disk: places that hold the records of the past, in turn
}

// keptSlots bounds the records of the past; a disk of less than smallDisk holds none.
const (
	keptSlots = 512
	smallDisk = 4 << 20
)

// openDisk waits for the device, which appears a little after its module is loaded.
func openDisk(path string) (*disk, error) {
	for i := 0; ; i++ {
		if _, err := os.Stat(path); err == nil {
			break
		}
		if i == 500 {
			return nil, fmt.Errorf("disk: no device %s after 10 s", path)
		}
		time.Sleep(20 * time.Millisecond)
	}
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	page, err := syscall.Mmap(-1, 0, pageSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("disk: a page: %w", err)
	}
	d := &disk{f: f, page: page}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("disk: its size: %w", err)
	}
	if size >= smallDisk {
		d.slots = keptSlots
	}
	return d, nil
}

// write checks the record and writes the next one.
func (d *disk) write(now int64) error {
	if d.n > 0 {
		if _, err := d.f.ReadAt(d.page, 0); err != nil {
			return fmt.Errorf("disk: %w", err)
		}
		if !d.ours() {
			d.alien++
		}
	}
	if d.slots > 0 {
		if err := d.keep(); err != nil {
			return fmt.Errorf("disk: %w", err)
		}
	}
	d.n++
	d.stamp = now
	binary.LittleEndian.PutUint64(d.page, d.n)
	binary.LittleEndian.PutUint64(d.page[8:], uint64(d.stamp))
	if _, err := d.f.WriteAt(d.page, 0); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	d.writes++
	return nil
}

// keep writes the present number over that of a whole turn ago, which must still be
// there: a copy of the disk that lost a write shows by it.
func (d *disk) keep() error {
	at := int64(1+d.n%d.slots) * pageSize
	if d.n >= d.slots {
		if _, err := d.f.ReadAt(d.page, at); err != nil {
			return err
		}
		if binary.LittleEndian.Uint64(d.page) != d.n-d.slots {
			d.alien++
		}
	}
	binary.LittleEndian.PutUint64(d.page, d.n)
	_, err := d.f.WriteAt(d.page, at)
	return err
}

func (d *disk) ours() bool {
	return binary.LittleEndian.Uint64(d.page) == d.n && binary.LittleEndian.Uint64(d.page[8:]) == uint64(d.stamp)
}
