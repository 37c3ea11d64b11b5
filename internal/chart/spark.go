package chart

import (
	"bytes"
	"fmt"
	"math"
)

// Spark is a line without axes for the cell of a table: what was, then, paler, what is
// expected, over its last value. A limit, where one is given above 0, is drawn when the
// values come near it. It has the classes was, will and limit, for the page to colour.
func Spark(label string, width, height int, was, will []float64, limit float64) []byte {
	n := len(was) + len(will)
	lo, hi := 0., 0.
	for _, s := range [][]float64{was, will} {
		for _, v := range s {
			if finite(v) {
				hi = max(hi, v)
			}
		}
	}
	near := limit > 0 && hi > .6*limit
	if near {
		hi = max(hi, limit)
	}
	if hi <= lo {
		hi = lo + 1
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg class="spark" role="img" aria-label="%s" viewBox="0 0 %d %d" width="%d" height="%d">`, escape(label), width, height, width, height)
	w, h := float64(width), float64(height)-2
	y := func(v float64) float64 { return 1 + h*(1-(v-lo)/(hi-lo)) }
	x := func(i int) float64 { return w * float64(i) / float64(max(1, n-1)) }
	path := func(class string, from int, vs []float64) {
		open := false
		var d bytes.Buffer
		for i, v := range vs {
			if !finite(v) || math.IsNaN(v) {
				open = false
				continue
			}
			c := byte('L')
			if !open {
				c, open = 'M', true
			}
			fmt.Fprintf(&d, "%c%s %s", c, num(x(from+i)), num(y(v)))
		}
		if d.Len() > 0 {
			fmt.Fprintf(&b, `<path class="%s" d="%s"/>`, class, d.Bytes())
		}
	}
	if near {
		fmt.Fprintf(&b, `<path class="limit" d="M0 %sh%d"/>`, num(y(limit)), width)
	}
	path("was", 0, was)
	path("will", len(was), will)
	b.WriteString("</svg>")
	return b.Bytes()
}
