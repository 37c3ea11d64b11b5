package model

import (
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// roster knows which series a bank has and up to which step they were observed. Every bank has one.
type roster struct {
	keys []Key
	used []bool
	free []int
	last schemas.Step
	any  bool
}

func (r *roster) add(k Key) int {
	if n := len(r.free); n > 0 {
		i := r.free[n-1]
		r.free = r.free[:n-1]
		r.keys[i], r.used[i] = k, true
		return i
	}
	r.keys, r.used = append(r.keys, k), append(r.used, true)
	return len(r.keys) - 1
}

// Remove implements [Bank].
func (r *roster) Remove(i int) {
	if i < 0 || i >= len(r.used) || !r.used[i] {
		return
	}
	r.used[i] = false
	r.keys[i] = Key{}
	r.free = append(r.free, i)
}

// has reports whether i is a series of the bank.
func (r *roster) has(i int) bool { return i >= 0 && i < len(r.used) && r.used[i] }

// mostValue is the largest demand that is believed, in any unit.
const mostValue = 1e15

// measured says whether v is a demand: known, finite and not negative. All banks take
// anything else for missing.
func measured(v float32) bool { return v >= 0 && v <= mostValue }

// history is series i of its VM's window, in dst, with what is no demand missing.
func (r *roster) history(i int, w *window.View, dst []float32) []float32 {
	x := w.Series(r.keys[i].Resource, dst)
	for k, v := range x {
		if !measured(v) {
			x[k] = schemas.NaN()
		}
	}
	return x
}

// maxSkip is the number of steps left out that are told one by one as missing; what
// lies further back has no say in a forecast.
const maxSkip = day

// arrive moves the roster on to step s and gives the number of steps left out before
// it; false when s is not news.
func (r *roster) arrive(s schemas.Step) (skipped int, ok bool) {
	if s < 0 || r.any && s <= r.last {
		return 0, false
	}
	if r.any {
		skipped = int(min(s-r.last-1, maxSkip))
	}
	r.last, r.any = s, true
	return skipped, true
}

// Grown gives table t, with n values a series, room for series i and clears its part.
// Tables grow by a sixteenth: they are most of a bank's memory, and append would leave
// a quarter of it unused.
func Grown[T any](t []T, i, n int) []T {
	if need := (i + 1) * n; need > len(t) {
		if need > cap(t) {
			room := make([]T, len(t), need+need/16)
			copy(room, t)
			t = room
		}
		t = t[:need]
	}
	clear(t[i*n : (i+1)*n])
	return t
}

// row is series i's part of a table with n values a series.
func row[T any](t []T, i, n int) []T { return t[i*n : (i+1)*n : (i+1)*n] }
