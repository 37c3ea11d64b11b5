// Command guest is the whole user space of a lab guest: a static binary that runs
// as PID 1 under a bare kernel.
//
// It loads the virtio modules that lie beside it, brings the network up by plain
// ioctls (there is nothing else in the initial RAM disk), and then does what a
// tenant would: burns CPU by a schedule that recurs every "day", dirties a working
// set at a steady rate and checks every page before it overwrites it, prints ticks
// to the serial console, and sends a heartbeat, every 10 ms unless told otherwise. The heartbeat carries
// its name, a counter, the pages checked, the bad pages found, the level of its
// load in percent, whether its clock is set, and the records on its disk written and
// found to be somebody else's; the gaps between heartbeats, seen
// from outside, are the downtime of a migration as a tenant's client would see it.
//
// The host answers some heartbeats with its own time, so that the load's day is in
// step with the world whatever a guest without hardware clock support believes;
// until the first answer the guest trusts its own clock.
//
// Only the standard library is used: the source is embedded in the lab and built
// where the lab runs.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// slot is one stretch of work and rest: the load's level is met over each of them.
const slot = 50 * time.Millisecond

// clock is the offset of the host's clock from ours.
type clock struct {
	offset atomic.Int64 // ns
	synced atomic.Bool
}

func main() {
	console := boot()
	if w, err := prepare(console); err != nil {
		fmt.Fprintf(console, "GUEST-FAILED %v\r\n", err)
	} else {
		w.run()
	}
	for { // PID 1 must not end: that would be a kernel panic
		time.Sleep(time.Hour)
	}
}

// prepare reads the parameters, and sets up the network and the working set.
func prepare(console io.Writer) (*worker, error) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, fmt.Errorf("read the kernel command line: %w", err)
	}
	p := parseParameters(string(cmdline))
	wss, err1 := p.number("wss", 16, 0, 1024)
	rate, err2 := p.number("rate", 2, 0, 1024)
	period, err3 := p.number("period", 72, 1, 1e6)
	phase, err4 := p.number("phase", 0, 0, 1e6)
	every, err5 := p.number("beat", 10, 1, 1000) // ms
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			return nil, err
		}
	}
	load := p["load"]
	if load == "" {
		load = "0:0"
	}
	schedule, err := ParseSchedule(load, time.Duration(period*float64(time.Second)))
	if err != nil {
		return nil, err
	}
	if err := network("eth0", p["ip"]); err != nil {
		return nil, err
	}
	go echo(console)
	w := &worker{name: p["name"], console: console, schedule: schedule, phase: time.Duration(phase * float64(time.Second)), every: time.Duration(every * float64(time.Millisecond))}
	if to := p["heartbeat"]; to != "" {
		conn, err := net.Dial("udp", to)
		if err != nil {
			return nil, fmt.Errorf("heartbeat to %s: %w", to, err)
		}
		w.beat = conn
		go follow(conn, &w.clock)
	}
	if p["disk"] != "" {
		if w.disk, err = openDisk(p["disk"]); err != nil {
			return nil, err
		}
	}
	if pages := int(wss * (1 << 20) / pageSize); pages > 0 {
		raw, err := syscall.Mmap(-1, 0, pages*pageSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			return nil, fmt.Errorf("map the working set of %d pages: %w", pages, err)
		}
		w.memory = newMemory(raw)
		w.perBeat = rate * (1 << 20) / pageSize * w.every.Seconds()
	}
	fmt.Fprintf(console, "GUEST-READY %s\r\n", w.name)
	return w, nil
}

// worker is all that the guest does, in one goroutine: under emulation every
// wake-up costs as much as hundreds of pages, so there is one per beat and no more.
type worker struct {
	name     string
	console  io.Writer
	schedule Schedule
	phase    time.Duration
	clock    clock
	every    time.Duration // between beats
	beat     io.Writer     // nil: no network
	memory   *memory       // nil: no working set
	disk     *disk         // nil: no disk
	perBeat  float64       // pages to touch
}

// run beats, dirties, burns and rests for ever. What is dirtied counts as burning.
// The burning of a slot is done in one go unless a beat comes in between.
func (w *worker) run() {
	buf := make([]byte, 0, 128)
	next := time.Now()
	var due float64 // pages
	var busy time.Time
	level := 0.0
	perSlot := max(1, int64(slot/w.every))
	perTick := max(1, int64(time.Second/w.every))
	perWrite := max(1, int64(2*slot/w.every))
	for n := int64(0); ; n++ {
		now := time.Now()
		if n%perSlot == 0 {
			level = w.schedule.Level(time.Duration(now.UnixNano()+w.clock.offset.Load()) - w.phase)
			busy = next.Add(time.Duration(level * float64(perSlot) * float64(w.every)))
		}
		var pages, bad, written, alien int64
		if m := w.memory; m != nil {
			for due += w.perBeat; due >= 1; due-- {
				m.touch()
			}
			pages, bad = m.pages, m.bad
		}
		if w.beat != nil {
			buf = append(append(buf[:0], w.name...), ' ')
			for _, v := range [...]int64{n, pages, bad, int64(level*100 + .5)} {
				buf = append(strconv.AppendInt(buf, v, 10), ' ')
			}
			synced := byte('0')
			if w.clock.synced.Load() {
				synced = '1'
			}
			buf = append(buf, synced, ' ')
			if w.disk != nil {
				written, alien = w.disk.writes, w.disk.alien
			}
			buf = append(strconv.AppendInt(buf, written, 10), ' ')
			_, _ = w.beat.Write(strconv.AppendInt(buf, alien, 10)) // a lost packet is what is being measured
		}
		if w.disk != nil && n%perWrite == 0 {
			if err := w.disk.write(time.Now().UnixNano()); err != nil {
				fmt.Fprintf(w.console, "GUEST-FAULT %v\r\n", err)
			}
		}
		if n%perTick == 0 {
			fmt.Fprintf(w.console, "TICK %s %d pages=%d bad=%d load=%.0f\r\n", w.name, n/perTick, pages, bad, level*100)
		}
		next = next.Add(w.every)
		if now := time.Now(); next.Before(now.Add(-slot - w.every)) {
			next = now // the machine stood still: what was missed is not made up for
		}
		for end := earlier(busy, next); time.Now().Before(end); {
			spin()
		}
		if rest := time.Until(next); rest > 0 {
			time.Sleep(rest)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

var sink uint64

// spin is some microseconds of arithmetic, so that the loop is not all clock reads.
func spin() {
	x := sink | 1
	for range 200 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	sink = x
}

// follow sets the clock offset from the host's answers ("T" and nanoseconds since
// the Unix epoch). The way takes a millisecond or so, which a load's day does not
// notice.
func follow(conn net.Conn, c *clock) {
	buf := make([]byte, 64)
	for {
		n, err := conn.Read(buf)
		if err != nil { // nobody listens there yet
			time.Sleep(slot)
			continue
		}
		text, ok := strings.CutPrefix(string(buf[:n]), "T ")
		if !ok {
			continue
		}
		if ns, err := strconv.ParseInt(text, 10, 64); err == nil {
			c.offset.Store(ns - time.Now().UnixNano())
			c.synced.Store(true)
		}
	}
}
