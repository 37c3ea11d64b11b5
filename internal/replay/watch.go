package replay

import "github.com/foreshift/foreshift/schemas"

// alarm is the chance to run short within an hour from which a host counts as warned of.
const alarm = .25

// watch scores the pressure of hosts on a placement that stays as it is, on which what
// was foreseen can be compared with what came.
type watch struct {
	h      *History
	f      Fleet
	at     []int32
	sums   []float32
	warned [][]bool // by host: of the last hour's steps
	short  [][]bool // by host: did the step run short
	from   int      // the first step looked at
	Pressure
}

// Pressure is how good warnings of hosts' shortages were.
type Pressure struct {
	Right, False, Missed int     // warnings followed by a shortage within the hour or not; shortages within the hour without
	Onsets, Warned       int     // shortages that began after half an hour without, and those of them warned of
	Lead                 float64 // sum over onsets of the steps since which the warning had stood
	Brier                float64 // sum of squared errors of the chance
	N                    int
	chances              []pending
}

type pending struct {
	t    int
	host int
	p    float64
}

func newWatch(h *History, f Fleet, at []int32) *watch {
	return &watch{h: h, f: f, at: at, sums: make([]float32, f.H*K*perHour), warned: make([][]bool, f.H), short: make([][]bool, f.H), from: f.Start}
}

// step looks at what step t was, and at what is foreseen after it.
func (w *watch) step(t int, fr *Frame) {
	load := make([]float64, w.f.H)
	for v, b := range w.at {
		load[b] += w.h.At(v, t)
	}
	for b := range load {
		short := load[b] > w.f.C
		if short && w.quiet(b) {
			w.Onsets++
			lead := 0
			for i := len(w.warned[b]) - 1; i >= 0 && lead < perHour && w.warned[b][i]; i-- {
				lead++
			}
			w.Lead += float64(lead)
			if lead > 0 {
				w.Warned++
			}
		}
		w.short[b] = append(w.short[b], short)
	}
	w.judge(t)
	clear(w.sums)
	const size = K * perHour
	for v, b := range w.at {
		sum, row := w.sums[int(b)*size:(int(b)+1)*size], fr.CPU[v*K*schemas.Slots:(v+1)*K*schemas.Slots]
		for k := range K {
			for s := range perHour {
				sum[k*perHour+s] += row[k*schemas.Slots+s]
			}
		}
	}
	for b := range load {
		p := 0.0
		for k := range K {
			for _, x := range w.sums[b*size+k*perHour : b*size+(k+1)*perHour] {
				if x > float32(1000*w.f.C) {
					p += float64(fr.Msg.Weight[k*schemas.Slots])
					break
				}
			}
		}
		w.warned[b] = append(w.warned[b], p >= alarm)
		w.chances = append(w.chances, pending{t, b, p})
	}
}

// quiet says whether a host was not short for the last half hour.
func (w *watch) quiet(b int) bool {
	past := w.short[b]
	for _, s := range past[max(0, len(past)-perHour/2):] {
		if s {
			return false
		}
	}
	return len(past) >= perHour/2
}

// judge scores the chances whose hour has passed with step t.
func (w *watch) judge(t int) {
	n := 0
	for _, c := range w.chances {
		if c.t+perHour > t {
			break
		}
		n++
		came := 0.0
		at := c.t + 1 - w.from
		for _, s := range w.short[c.host][at : at+perHour] {
			if s {
				came = 1
			}
		}
		w.N++
		w.Brier += (c.p - came) * (c.p - came)
		switch {
		case c.p >= alarm && came > 0:
			w.Right++
		case c.p >= alarm:
			w.False++
		case came > 0:
			w.Missed++
		}
	}
	w.chances = append(w.chances[:0], w.chances[n:]...)
}
