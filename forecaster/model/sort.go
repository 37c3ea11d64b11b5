package model

import (
	"math"
	"slices"
)

// sorter sorts values. Quantiles are sorted for more than anything else here, and a
// radix sort of 32-bit keys takes a few nanoseconds a value whatever their order,
// where comparing takes ten times as long; it needs room for the keys twice. Each
// bank has one.
type sorter struct {
	a, b  []uint32
	c     []uint64
	count [4][256]uint32
}

// fewest is the number of values from which a radix sort pays.
const fewest = 64

// sort sorts x, in which no value is missing.
func (s *sorter) sort(x []float32) {
	if len(x) < fewest {
		slices.Sort(x)
		return
	}
	if cap(s.a) < len(x) {
		s.a, s.b = make([]uint32, 2*len(x)), make([]uint32, 2*len(x))
	}
	a, b := s.a[:len(x)], s.b[:len(x)]
	s.count = [4][256]uint32{}
	for i, v := range x {
		k := orderedBits(v)
		a[i] = k
		s.count[0][k&255]++
		s.count[1][k>>8&255]++
		s.count[2][k>>16&255]++
		s.count[3][k>>24]++
	}
	for d := range s.count {
		n, shift := &s.count[d], 8*uint(d)
		if n[a[0]>>shift&255] == uint32(len(x)) {
			continue // all alike in this byte
		}
		var at uint32
		for i, c := range n {
			n[i] = at
			at += c
		}
		for _, k := range a {
			i := k >> shift & 255
			b[n[i]] = k
			n[i]++
		}
		a, b = b, a
	}
	for i, k := range a {
		x[i] = fromOrdered(k)
	}
}

// pairs sorts by the upper half of the keys; those alike in it stay in their order.
func (s *sorter) pairs(x []uint64) {
	if cap(s.c) < len(x) {
		s.c = make([]uint64, 2*len(x))
	}
	from, to := x, s.c[:len(x)]
	s.count = [4][256]uint32{}
	for _, k := range x {
		s.count[0][k>>32&255]++
		s.count[1][k>>40&255]++
		s.count[2][k>>48&255]++
		s.count[3][k>>56]++
	}
	for d := range s.count {
		n, shift := &s.count[d], 32+8*uint(d)
		if n[from[0]>>shift&255] == uint32(len(x)) {
			continue
		}
		var at uint32
		for i, c := range n {
			n[i] = at
			at += c
		}
		for _, k := range from {
			i := k >> shift & 255
			to[n[i]] = k
			n[i]++
		}
		from, to = to, from
	}
	if &from[0] != &x[0] {
		copy(x, from)
	}
}

// quantiles sorts x and takes its quantiles, see [quantiles].
func (s *sorter) quantiles(x []float32, dst []float32) {
	s.sort(x)
	quantiles(x, dst)
}

// orderedBits is a number that is ordered as v is.
func orderedBits(v float32) uint32 {
	b := math.Float32bits(v)
	return b ^ (uint32(int32(b)>>31) | 1<<31)
}

// fromOrdered is the value of [orderedBits].
func fromOrdered(k uint32) float32 {
	return math.Float32frombits(k ^ (^uint32(int32(k)>>31) | 1<<31))
}
