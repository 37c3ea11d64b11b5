package learning

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"math/bits"
	"sort"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Key is one way and one size of move: links differ in what they give, and large moves
// in what they take.
type Key struct {
	From, To schemas.SiteID // in order of their names
	Class    uint8          // of the memory sent: 0 up to 1 GiB, then one more for each doubling, at most 8
}

// KeyOf is the key of a move between two sites that would send so many bytes.
func KeyOf(a, b schemas.SiteID, volume schemas.Bytes) Key {
	if b < a {
		a, b = b, a
	}
	return Key{a, b, uint8(min(bits.Len64(uint64(max(0, volume)/(1<<30))), 8))}
}

// Took is what a move takes or took.
type Took struct {
	Duration time.Duration
	Downtime time.Duration
	Volume   schemas.Bytes
}

const (
	forget   = .97 // weight of what was known before, at each move
	trusted  = 3   // moves of a way and size from which they speak for themselves
	mostKeys = 4096
	// A correction stays within these: what lies beyond is another fault than a wrong model.
	least, most = .05, 20
	// Downtime is judged with this much added, ms: 10 ms instead of 5 is no error of 2.
	floorDowntime = 50
)

// line is a straight line y = a + b x, in units in which x is 1: what is learnt is the
// ratio of what came to what was expected, and how it depends on the size.
type line struct {
	Theta [2]float64
	P     [2][2]float64 // how little is known of Theta
	N     int
}

func newLine(from *line) line {
	l := line{Theta: [2]float64{0, 1}, P: [2][2]float64{{.25, 0}, {0, 1}}}
	if from != nil {
		l.Theta = from.Theta
	}
	return l
}

// learn is one step of recursive least squares on y = Theta . x with noise of a tenth,
// forgetting a little of what was known.
func (l *line) learn(x [2]float64, y float64) {
	px := [2]float64{l.P[0][0]*x[0] + l.P[0][1]*x[1], l.P[1][0]*x[0] + l.P[1][1]*x[1]}
	const noise = .1 * .1
	s := forget*noise + x[0]*px[0] + x[1]*px[1]
	k := [2]float64{px[0] / s, px[1] / s}
	e := y - l.Theta[0]*x[0] - l.Theta[1]*x[1]
	for i := range 2 {
		l.Theta[i] += k[i] * e
		for j := range 2 {
			l.P[i][j] = min((l.P[i][j]-k[i]*px[j])/forget, 4)
		}
	}
	l.N++
}

// at is the corrected value where the plain one is v; unit is where the constant term
// counts as much as the proportional one.
func (l *line) at(v, unit float64) float64 {
	return min(max(l.Theta[1]*v+l.Theta[0]*unit, least*v), most*v+most*unit)
}

func (l *line) see(v, unit, came float64) {
	w := 1 / (v + unit) // relative errors count
	l.learn([2]float64{unit * w, v * w}, min(max(came, least*v), most*(v+unit))*w)
}

// fit is what is known of the moves of a key.
type fit struct {
	Duration, Downtime, Volume line
}

// Units of the constant terms: a second of set-up, so many ms, so many bytes.
const (
	unitDuration = 1.0
	unitDowntime = floorDowntime
	unitVolume   = 64 << 20
)

func newFit(from *fit) *fit {
	if from == nil {
		return &fit{newLine(nil), newLine(nil), newLine(nil)}
	}
	return &fit{newLine(&from.Duration), newLine(&from.Downtime), newLine(&from.Volume)}
}

func (f *fit) learn(p, came Took) {
	f.Duration.see(p.Duration.Seconds(), unitDuration, came.Duration.Seconds())
	if came.Downtime > 0 {
		f.Downtime.see(ms(p.Downtime), unitDowntime, ms(came.Downtime))
	}
	if came.Volume > 0 {
		f.Volume.see(float64(p.Volume), unitVolume, float64(came.Volume))
	}
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

func (f *fit) correct(p Took) Took {
	out := p
	out.Duration = time.Duration(f.Duration.at(p.Duration.Seconds(), unitDuration) * float64(time.Second))
	if f.Downtime.N > 0 {
		out.Downtime = time.Duration(f.Downtime.at(ms(p.Downtime), unitDowntime) * float64(time.Millisecond))
	}
	if f.Volume.N > 0 {
		out.Volume = schemas.Bytes(f.Volume.at(float64(p.Volume), unitVolume))
	}
	return out
}

// Costs is the model of what moves take. The zero value has learnt nothing and corrects
// nothing. All moves together speak until those of a link, and then those of a link and
// size, are enough.
type Costs struct {
	all   *fit
	links map[Key]*fit // Class 0
	keys  map[Key]*fit
	errs  [2]ring // relative errors of the last durations: arithmetic alone, and corrected
}

// Learn folds one outcome. Moves that did not succeed, or of which the placer had not
// said what it expects, teach nothing.
func (c *Costs) Learn(o *schemas.Outcome) {
	p := o.Predicted.Plain
	if o.Result != schemas.ResultSucceeded || p == nil || p.Duration <= 0 || o.Duration <= 0 {
		return
	}
	if c.all == nil {
		c.all, c.links, c.keys = newFit(nil), map[Key]*fit{}, map[Key]*fit{}
	}
	key := KeyOf(p.From, p.To, p.Volume)
	link := key
	link.Class = 0
	plain := Took{seconds(float64(p.Duration)), seconds(float64(p.Downtime) / 1000), p.Volume}
	came := Took{seconds(float64(o.Duration)), seconds(float64(o.Downtime) / 1000), o.Volume}
	now := c.Correct(p.From, p.To, plain)
	c.errs[0].add(off(plain.Duration, came.Duration))
	c.errs[1].add(off(now.Duration, came.Duration))
	c.all.learn(plain, came)
	c.of(c.links, link, c.all).learn(plain, came)
	c.of(c.keys, key, c.links[link]).learn(plain, came)
}

func off(expected, came time.Duration) float64 {
	return max(expected.Seconds()-came.Seconds(), came.Seconds()-expected.Seconds()) / came.Seconds()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (c *Costs) of(m map[Key]*fit, k Key, from *fit) *fit {
	f := m[k]
	if f == nil {
		f = newFit(from)
		if len(m) < mostKeys {
			m[k] = f
		}
	}
	return f
}

// Correct gives what a move that arithmetic expects to take p will take.
func (c *Costs) Correct(from, to schemas.SiteID, p Took) Took {
	if c == nil || c.all == nil || p.Duration <= 0 {
		return p
	}
	key := KeyOf(from, to, p.Volume)
	if f := c.keys[key]; f != nil && f.Duration.N >= trusted {
		return f.correct(p)
	}
	key.Class = 0
	if f := c.links[key]; f != nil && f.Duration.N >= trusted {
		return f.correct(p)
	}
	return c.all.correct(p)
}

// Known is what is shown of one key.
type Known struct {
	From     schemas.SiteID `json:"from_site"`
	To       schemas.SiteID `json:"to_site"`
	Class    uint8          `json:"class"` // up to 2^class GiB
	Moves    int            `json:"moves"`
	Duration float64        `json:"duration_ratio"` // to the arithmetic's, of what is typical of the class
	Downtime float64        `json:"downtime_ratio"`
	Volume   float64        `json:"volume_ratio"`
}

// Summary is what has been learnt, in order of the keys.
func (c *Costs) Summary() []Known {
	out := []Known{}
	for k, f := range c.keys {
		gib := float64(uint64(1)<<k.Class) * .75
		sec := max(1, gib) // at about 8 Gbit/s
		out = append(out, Known{k.From, k.To, k.Class, f.Duration.N, f.Duration.at(sec, unitDuration) / sec,
			f.Downtime.at(300, unitDowntime) / 300, f.Volume.at(gib*(1<<30), unitVolume) / (gib * (1 << 30))})
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.From != b.From {
			return a.From < b.From
		}
		if a.To != b.To {
			return a.To < b.To
		}
		return a.Class < b.Class
	})
	return out
}

// Errors are the median relative errors of the durations of the last moves: of
// arithmetic alone, and of what was learnt by then. n is over how many.
func (c *Costs) Errors() (plain, learnt float64, n int) {
	return c.errs[0].median(), c.errs[1].median(), len(c.errs[0].X)
}

// ring keeps the last values.
type ring struct {
	X  []float64
	At int
}

const ringSize = 32

func (r *ring) add(x float64) {
	if len(r.X) < ringSize {
		r.X = append(r.X, x)
		return
	}
	r.X[r.At] = x
	r.At = (r.At + 1) % ringSize
}

func (r *ring) median() float64 {
	if len(r.X) == 0 {
		return 0
	}
	s := append([]float64(nil), r.X...)
	sort.Float64s(s)
	return s[len(s)/2]
}

// savedCosts is the state of Costs in a snapshot.
type savedCosts struct {
	All   *fit
	Links []savedFit
	Keys  []savedFit
	Errs  [2]ring
}

type savedFit struct {
	Key Key
	Fit fit
}

// GobEncode implements gob.GobEncoder: the same state gives the same bytes.
func (c *Costs) GobEncode() ([]byte, error) {
	s := savedCosts{All: c.all, Errs: c.errs, Links: sorted(c.links), Keys: sorted(c.keys)}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(&s); err != nil {
		return nil, fmt.Errorf("learnt costs: %w", err)
	}
	return b.Bytes(), nil
}

// GobDecode implements gob.GobDecoder.
func (c *Costs) GobDecode(b []byte) error {
	var s savedCosts
	if err := gob.NewDecoder(bytes.NewReader(b)).Decode(&s); err != nil {
		return fmt.Errorf("learnt costs: %w", err)
	}
	*c = Costs{all: s.All, errs: s.Errs}
	if s.All == nil {
		return nil
	}
	c.links, c.keys = map[Key]*fit{}, map[Key]*fit{}
	for i := range s.Links {
		c.links[s.Links[i].Key] = &s.Links[i].Fit
	}
	for i := range s.Keys {
		c.keys[s.Keys[i].Key] = &s.Keys[i].Fit
	}
	return nil
}

func sorted(m map[Key]*fit) []savedFit {
	out := make([]savedFit, 0, len(m))
	for k, f := range m {
		out = append(out, savedFit{k, *f})
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i].Key, out[j].Key
		if a.From != b.From {
			return a.From < b.From
		}
		if a.To != b.To {
			return a.To < b.To
		}
		return a.Class < b.Class
	})
	return out
}
