package lstm

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/foreshift/foreshift/schemas"
)

// Generate makes n synthetic series of days days, each a VM of its own: what a fleet
// may show, drawn from a seed. A series is a level times daily and weekly shapes, plus
// batch jobs, bursts and on-off work, through noise of a random memory, with shifts,
// drifts, leaks and resets; then clipped, rounded and with rows missing, as such
// things are measured.
func Generate(seed uint64, n, days int) []Series {
	out := make([]Series, n)
	for i := range out {
		out[i] = synthesise(rand.New(rand.NewPCG(seed, uint64(i)+1)), i, days)
	}
	return out
}

// synth is a series in the making; y is relative to its level.
type synth struct {
	*rand.Rand
	y     []float64
	phase int // row 0 is so many steps into a day of its own, and week
}

func (g *synth) chance(p float64) bool           { return g.Float64() < p }
func (g *synth) between(a, b float64) float64    { return a + (b-a)*g.Float64() }
func (g *synth) log(a, b float64) float64        { return a * math.Pow(b/a, g.Float64()) }
func (g *synth) day(t int) (into float64, d int) { t += g.phase; return float64(t%day) / day, t / day }

func synthesise(r *rand.Rand, id, days int) Series {
	g := &synth{Rand: r, y: make([]float64, days*day), phase: r.IntN(week)}
	s := Series{Resource: schemas.Resource([...]int{0, 0, 0, 0, 1, 1, 2, 2, 3, 3}[r.IntN(10)]), First: schemas.Step(r.IntN(week))}
	binary.LittleEndian.PutUint64(s.VM[:], uint64(id)+1)
	base := g.log(.02, 3)
	switch kind := g.IntN(10); {
	case kind < 4: // something that people or machines use, with noise
		for t := range g.y {
			g.y[t] = base
		}
		if g.chance(.55) {
			g.daily(g.log(.05, 2))
		}
		g.noise(g.log(.01, .6), g.chance(.5))
		g.jobs(g.IntN(3))
		g.bursts(g.IntN(2))
	case kind < 6: // nearly still
		for t := range g.y {
			g.y[t] = base
		}
		g.noise(g.log(1e-4, .05), g.chance(.5))
		if g.chance(.5) {
			g.bursts(1)
		}
		if g.chance(.3) {
			g.jobs(1)
		}
	case kind < 8: // mostly nothing
		if g.chance(.5) {
			for t := range g.y {
				g.y[t] = base * g.log(1e-3, .1)
			}
			if g.chance(.5) {
				g.noise(g.log(.02, 1), false)
			}
		}
		g.bursts(1 + g.IntN(2))
		g.jobs(g.IntN(2))
	case kind < 9: // on and off
		g.onOff()
		g.noise(g.log(.01, .5), g.chance(.5))
	default: // wandering
		for t := range g.y {
			g.y[t] = base
		}
		g.wander()
		if g.chance(.4) {
			g.daily(g.log(.05, .7))
		}
		g.noise(g.log(.005, .2), false)
	}
	if g.chance(.35) {
		g.shifts(g.log(.05, 1))
	}
	if g.chance(.15) {
		g.leak()
	}
	s.Y = g.measure(s.Resource)
	return s
}

// daily multiplies by a shape of the day and of the week.
func (g *synth) daily(amp float64) {
	var shape [day]float64
	if g.chance(.5) { // a few waves
		for k := 1; k <= 3; k++ {
			a, p := g.NormFloat64()/float64(k*k), g.Float64()
			for t := range shape {
				shape[t] += a * math.Sin(2*math.Pi*(float64(k*t)/day+p))
			}
		}
	} else { // hours of work, with ramps; perhaps two of them
		for range 1 + g.IntN(2) {
			mid, wide, ramp := g.Float64(), g.between(.03, .25), g.log(.004, .08)
			for t := range shape {
				d := math.Abs(math.Remainder(float64(t)/day-mid, 1))
				shape[t] += 1 / (1 + math.Exp((d-wide)/ramp))
			}
		}
	}
	weekend, shift := 1., 0
	if g.chance(.5) {
		weekend = g.Float64()
	}
	jitter := 0.
	if g.chance(.4) {
		jitter = g.log(.02, .4)
	}
	today, of := 1., -1
	for t := range g.y {
		into, d := g.day(t)
		if d != of {
			of, today = d, math.Exp(jitter*g.NormFloat64())
			if d%7 >= 5 {
				today *= weekend
			}
			if g.chance(.1) {
				shift = g.IntN(25) - 12
			}
		}
		x := shape[(int(into*day+.5)+shift+day)%day]
		g.y[t] *= max(0, 1+amp*today*x)
	}
}

// noise multiplies by noise of a random memory, or adds it; sometimes it is heavier
// in the tails, sometimes louder at some times of day.
func (g *synth) noise(size float64, add bool) {
	phi := [...]float64{0, .3, .6, .8, .9, .97, .99}[g.IntN(7)]
	tails, loud := g.chance(.3), g.chance(.2)
	slow, share := g.between(.97, .998), 0.
	if g.chance(.4) {
		share = g.Float64()
	}
	var mean float64
	for _, v := range g.y {
		mean += v / float64(len(g.y))
	}
	var a, b float64
	for t := range g.y {
		e := g.NormFloat64()
		if tails {
			e *= math.Exp(.8*g.NormFloat64() - .3)
		}
		if loud {
			into, _ := g.day(t)
			e *= 1 + .9*math.Sin(2*math.Pi*into)
		}
		a = phi*a + math.Sqrt(1-phi*phi)*e
		b = slow*b + math.Sqrt(1-slow*slow)*g.NormFloat64()
		x := size * ((1-share)*a + share*b)
		if add {
			g.y[t] = max(0, g.y[t]+mean*x)
		} else {
			g.y[t] *= math.Exp(min(x, 4))
		}
	}
}

// jobs adds n batch jobs: at a time of day, or every so many minutes.
func (g *synth) jobs(n int) {
	for range n {
		height, lasts := g.log(.1, 6), max(1, int(g.log(1, 60)))
		every := day
		if g.chance(.6) {
			every = []int{3, 6, 12, 12, 12, 24, 36, 48, 72, 144}[g.IntN(10)]
		}
		if every == day && g.chance(.2) {
			every = week
		}
		lasts = min(lasts, every/2+1)
		late, wild, skip := int(g.log(1, 8))-1, g.chance(.5), g.between(-.2, .2)
		for t := g.IntN(every); t < len(g.y); t += every {
			if g.Float64() < skip {
				continue
			}
			at, h, l := t, height, lasts
			if late > 0 {
				at += g.IntN(late + 1)
			}
			if wild {
				h *= math.Exp(.4 * g.NormFloat64())
				l = max(1, int(float64(l)*math.Exp(.3*g.NormFloat64())))
			}
			for k := at; k < min(at+l, len(g.y)); k++ {
				g.y[k] += h
			}
		}
	}
}

// bursts adds n kinds of bursts that come when they like.
func (g *synth) bursts(n int) {
	for range n {
		each, lasts, height := g.log(6, 600), g.log(1, 40), g.log(.1, 8)
		herd := g.chance(.3) // one brings others
		for t := int(g.ExpFloat64() * each); t < len(g.y); {
			l := 1 + int(g.ExpFloat64()*(lasts-1))
			h := height * math.Pow(1-g.Float64(), -1/2.5) / 1.7
			fade := g.chance(.3)
			for k := t; k < min(t+l, len(g.y)); k++ {
				x := h
				if fade {
					x *= 1 - float64(k-t)/float64(l)
				}
				g.y[k] += x
			}
			gap := g.ExpFloat64() * each
			if herd && g.chance(.7) {
				gap /= 12
			}
			t += l + int(gap)
		}
	}
}

// onOff alternates between two levels.
func (g *synth) onOff() {
	low, high := 0., g.log(.1, 5)
	if g.chance(.5) {
		low = high * g.log(.01, .6)
	}
	on, off := g.log(2, 300), g.log(2, 300)
	state := g.chance(.5)
	left := 0.
	level := low
	for t := range g.y {
		if left--; left < 0 {
			state = !state
			if level = low; state {
				level = high * math.Exp(.2*g.NormFloat64())
			}
			if left = g.ExpFloat64() * off; state {
				left = g.ExpFloat64() * on
			}
		}
		g.y[t] = level
	}
}

// wander multiplies by a slow random walk that is drawn home.
func (g *synth) wander() {
	step, home, x := g.log(.002, .06), g.log(.0005, .02), 0.
	for t := range g.y {
		x += step*g.NormFloat64() - home*x
		g.y[t] *= math.Exp(max(-4, min(4, x)))
	}
}

// shifts changes the level now and then, for good or until the next time.
func (g *synth) shifts(aDay float64) {
	f := 1.
	back := g.chance(.4)
	for t := range g.y {
		if g.Float64() < aDay/day {
			if back && f != 1 {
				f = 1
			} else {
				f = math.Exp(.9 * g.NormFloat64())
			}
		}
		g.y[t] *= f
	}
}

// leak adds a slow rise that falls back, by the clock or when full.
func (g *synth) leak() {
	full := int(g.log(36, 3*day))
	rise, x := g.log(.1, 2), g.Float64()
	sharp := g.chance(.7)
	for t := range g.y {
		x += 1 / float64(full)
		if x >= 1 && (sharp || g.chance(.05)) {
			x = g.between(0, .1)
		}
		g.y[t] += rise * min(x, 1.3)
	}
}

// measure gives the series its unit, ceiling, rounding and gaps.
func (g *synth) measure(r schemas.Resource) []float32 {
	unit := g.log(10, 4000)
	if r != schemas.CPU {
		unit = g.log(1e3, 1e9)
	}
	ceiling := math.Inf(1)
	if g.chance(.5) {
		ceiling = g.log(.8, 8)
	}
	grain := 0.
	if g.chance(.35) {
		grain = g.log(.002, .2)
	}
	missing := 0.
	if g.chance(.3) {
		missing = g.log(.001, .05)
	}
	out := make([]float32, len(g.y))
	gap := 0
	for t, v := range g.y {
		v = min(max(v, 0), ceiling)
		if grain > 0 {
			v = math.Round(v/grain) * grain
		}
		out[t] = float32(v * unit)
		if gap == 0 && g.chance(missing) {
			if gap = 1; g.chance(.02) {
				gap = 1 + g.IntN(40)
			}
		}
		if gap > 0 {
			gap--
			out[t] = schemas.NaN()
		}
	}
	return out
}
