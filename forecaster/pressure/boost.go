package pressure

import "math/rand/v2"

// boost is an additive model of small trees over coded features: gradient boosting of
// the logistic likelihood with second-order steps over histograms (Friedman 2001;
// Chen and Guestrin 2016, equations 6 and 7). It adds what bends and crosses, which no
// line over features can say.
type boost struct {
	trees []tree
	hist  [][numFeatures][buckets]cell // scratch, a leaf each
	grad  []cell                       // scratch, an example each
	node  []uint8                      // scratch: leaf of each example
}

// Shape of the model. Rate and number of trees balance: many small steps.
const (
	numTrees = 80
	depth    = 3
	leaves   = 1 << depth
	rate     = .05
	buckets  = 64  // of a feature: its byte / 4
	leaf     = 100 // examples on either side of a split at least
	shrink   = 10. // added to a leaf's curvature
	taken    = .5  // share of the features a tree may use
)

// tree is complete: the node after k is 2k+1 if the bucket is at most at, else 2k+2.
type tree struct {
	feature [leaves - 1]uint8
	at      [leaves - 1]uint8
	out     [leaves]float32
}

// cell sums examples: slope, curvature, number.
type cell struct{ g, h, n float32 }

func (t *tree) leaf(c *codes) int {
	k := 0
	for k < leaves-1 {
		if c[t.feature[k]]>>2 <= t.at[k] {
			k = 2*k + 1
		} else {
			k = 2*k + 2
		}
	}
	return k - (leaves - 1)
}

// score is the log odds it adds.
func (b *boost) score(c *codes) (z float64) {
	for i := range b.trees {
		z += float64(b.trees[i].out[b.trees[i].leaf(c)])
	}
	return z
}

// fit grows all trees anew; from is what is said of each example before them; share
// examples count as one. Chance chooses the features of each tree, from a fixed seed.
func (b *boost) fit(ring []example, from []float64, share float64) {
	rng := rand.New(rand.NewPCG(41, uint64(len(ring))))
	if cap(b.grad) < len(ring) {
		b.grad, b.node = make([]cell, len(ring)), make([]uint8, len(ring))
	}
	if b.hist == nil {
		b.hist = make([][numFeatures][buckets]cell, leaves/2)
	}
	b.trees = b.trees[:0]
	grad, node := b.grad[:len(ring)], b.node[:len(ring)]
	var use [numFeatures]bool
	for range numTrees {
		for i := range ring {
			p, w := float32(sigmoid(from[i])), ring[i].weight
			g := -p
			if ring[i].hit {
				g = 1 - p
			}
			grad[i] = cell{g * w, p * (1 - p) * w, w}
			node[i] = 0
		}
		for i := range use {
			use[i] = rng.Float64() < taken
		}
		var t tree
		for level := range depth {
			b.level(&t, ring, level, &use, share)
		}
		var sum [leaves]struct{ g, h float64 }
		for i := range ring {
			l := node[i]
			sum[l].g += float64(grad[i].g)
			sum[l].h += float64(grad[i].h)
		}
		for l, s := range sum {
			t.out[l] = float32(rate * s.g / (s.h + shrink*share))
		}
		for i := range ring {
			from[i] += float64(t.out[node[i]])
		}
		b.trees = append(b.trees, t)
	}
}

// level splits every node of a level where it gains most, and sends the examples on.
func (b *boost) level(t *tree, ring []example, level int, use *[numFeatures]bool, share float64) {
	width := 1 << level
	var list [numFeatures]int
	n := 0
	for f, ok := range use {
		if ok {
			list[n] = f
			n++
		}
	}
	for k := range width {
		b.hist[k] = [numFeatures][buckets]cell{}
	}
	for i := range ring {
		g, k := b.grad[i], b.node[i]
		hist := &b.hist[k]
		for _, f := range list[:n] {
			c := &hist[f][ring[i].x[f]>>2]
			c.g += g.g
			c.h += g.h
			c.n += g.n
		}
	}
	for k := range width {
		t.split(width-1+k, &b.hist[k], list[:n], share)
	}
	for i := range ring {
		k := int(b.node[i])
		at := width - 1 + k
		if ring[i].x[t.feature[at]]>>2 <= t.at[at] {
			b.node[i] = uint8(2 * k)
		} else {
			b.node[i] = uint8(2*k + 1)
		}
	}
}

// split finds the node's best feature and bucket; without a gain all go left.
func (t *tree) split(k int, hist *[numFeatures][buckets]cell, list []int, share float64) {
	t.feature[k], t.at[k] = 0, buckets-1
	if len(list) == 0 {
		return
	}
	var g, h, n float64
	for _, c := range hist[list[0]] {
		g, h, n = g+float64(c.g), h+float64(c.h), n+float64(c.n)
	}
	l2 := shrink * share
	least := leaf * share
	best := g*g/(h+l2) + 1e-6
	for _, f := range list {
		var lg, lh, ln float64
		for at := range buckets - 1 {
			c := hist[f][at]
			lg, lh, ln = lg+float64(c.g), lh+float64(c.h), ln+float64(c.n)
			if ln < least {
				continue
			}
			if n-ln < least {
				break
			}
			if gain := lg*lg/(lh+l2) + (g-lg)*(g-lg)/(h-lh+l2); gain > best {
				best, t.feature[k], t.at[k] = gain, uint8(f), uint8(at)
			}
		}
	}
}
