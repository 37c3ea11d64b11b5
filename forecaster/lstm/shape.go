package lstm

import (
	"math"
	"math/rand/v2"

	"github.com/foreshift/foreshift/schemas"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
)

// Sizes of the network.
const (
	Hidden     = 32
	inputs     = 17
	columns    = inputs + Hidden + 1 // what a step reads: inputs, memory, 1
	gates      = 4 * Hidden          // input, forget, output gates and candidate
	candidates = 6
	levels     = schemas.NumLevels
	perTarget  = candidates + levels // a logit each, then a bend each
	targets    = len(horizons) + len(maxima)
	outputs    = targets * perTarget
	headRows   = Hidden + 1
	recSize    = columns * gates
	headSize   = headRows * outputs
	day        = schemas.StepsPerDay
	week       = 7 * day
)

// horizons are the leads, in steps, that the network is asked for directly: 5 and 15
// minutes, 1, 3, 6, 12 and 24 hours. Leads between them are interpolated.
var horizons = [...]int{1, 3, 12, 36, 72, 144, 288}

// maxima are the windows, in steps, whose maximum it is asked for.
var maxima = [...]int{12, 72, 288}

// Weights are the parameters of the network: a matrix [columns x gates] of the
// recurrent cell and one [Hidden+1 x outputs] of the head, row by row.
type Weights struct{ p []float32 }

// Size is the number of parameters.
const Size = recSize + headSize

// NewWeights draws first weights from a seed. Each target begins as a sensible mix of
// its candidates, so that training starts from a forecast and not from noise.
func NewWeights(seed uint64) *Weights {
	r := rand.New(rand.NewPCG(seed, 0x6c73746d))
	w := &Weights{p: make([]float32, Size)}
	rec, head := w.rec(), w.head()
	for i := range rec[:(columns-1)*gates] {
		rec[i] = float32(r.NormFloat64() / math.Sqrt(columns))
	}
	for g := Hidden; g < 2*Hidden; g++ {
		rec[(columns-1)*gates+g] = 1 // remember at first (Gers et al.)
	}
	for i := range head[:Hidden*outputs] {
		head[i] = float32(r.NormFloat64() * .02)
	}
	bias := head[Hidden*outputs:]
	for t := range targets {
		far := float32(t) / float32(len(horizons)-1) // 0 the next step, 1 a day ahead
		if t >= len(horizons) {
			copy(bias[t*perTarget:], []float32{-1, .5, 1, 0, 0, 0})
			continue
		}
		copy(bias[t*perTarget:], []float32{2 - 4*far, 1 - 2*far, far, far, -1, -1})
	}
	return w
}

// Clone copies the weights.
func (w *Weights) Clone() *Weights {
	return &Weights{p: append([]float32(nil), w.p...)}
}

func (w *Weights) rec() []float32  { return w.p[:recSize] }
func (w *Weights) head() []float32 { return w.p[recSize:] }

var kernel gonum.Implementation

// step moves one series on: v is inputs, memory h and 1 in a row, c the cell. It
// writes the new memory to v and c; z [gates] is scratch.
//
//	i, f, o = sigma(W v), g = tanh(W v), c = f c + i g, h = o tanh(c)
func (w *Weights) step(v, c, z []float32) {
	kernel.Sgemv(blas.Trans, columns, gates, 1, w.rec(), gates, v, 1, 0, z, 1)
	h := v[inputs : inputs+Hidden]
	zi, zf, zo, zg := z[:Hidden], z[Hidden:2*Hidden], z[2*Hidden:3*Hidden], z[3*Hidden:4*Hidden]
	c = c[:Hidden]
	for j := range zg { // tanh(x) is 2 sigma(2x) - 1
		zg[j] *= 2
	}
	sigmoids(z[:gates])
	for j := range h {
		c[j] = zf[j]*c[j] + zi[j]*(2*zg[j]-1)
		zg[j] = 2 * c[j]
	}
	sigmoids(zg)
	for j := range h {
		h[j] = zo[j] * (2*zg[j] - 1)
	}
}

// ask writes what the head says of a memory h to out [outputs].
func (w *Weights) ask(h, out []float32) {
	head := w.head()
	copy(out, head[Hidden*outputs:])
	kernel.Sgemv(blas.Trans, Hidden, outputs, 1, head, outputs, h, 1, 1, out, 1)
}

// exp is e^x, right to 2 in 10^7: the fraction of x/ln 2 by its Taylor series, the
// whole part straight into the exponent.
func exp(x float32) float32 {
	x = min(max(x, -80), 80)
	k := int32(x*1.44269504+128.5) - 128 // rounded: the sum is above zero
	n := float32(k)
	r := x - n*.693145752
	r -= n * 1.42860677e-6
	y := 1 + r*(1+r*(1./2+r*(1./6+r*(1./24+r*(1./120+r*(1./720))))))
	return y * math.Float32frombits(uint32(k+127)<<23)
}

// sigmoids is sigmoid of every value, in place, right to 2 in 10^6: the line between
// two entries of a table. A step takes 160 of them, and a division each would be half
// of what it costs. Beyond +-16 it is what it is there.
func sigmoids(x []float32) {
	for i, v := range x {
		at := (v + sigmaEnd) * sigmaEach
		if !(at > 0) {
			at = 0
		}
		if at > sigmaSize-.01 {
			at = sigmaSize - .01
		}
		k := int32(at)
		a, b := sigma[k&(sigmaSize-1)], sigma[k&(sigmaSize-1)+1]
		x[i] = a + (at-float32(k))*(b-a)
	}
}

const (
	sigmaEnd  = 16
	sigmaEach = 128
	sigmaSize = 2 * sigmaEnd * sigmaEach // a power of two
)

// sigma is sigmoid at -sigmaEnd and every 1/sigmaEach on.
var sigma = func() (t [sigmaSize + 1]float32) {
	for k := range t {
		t[k] = float32(1 / (1 + math.Exp(sigmaEnd-float64(k)/sigmaEach)))
	}
	return t
}()

func sigmoid(x float32) float32 { return 1 / (1 + exp(-x)) }
func tanh(x float32) float32    { return 2/(1+exp(-2*x)) - 1 }
