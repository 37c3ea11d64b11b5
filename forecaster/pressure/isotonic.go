package pressure

import (
	"cmp"
	"slices"
)

// isotonic maps what was said to what came, without ever putting two chances in the
// other order: the pool-adjacent-violators fit (Ayer et al. 1955) to what was said
// before the outcome was known, with lines between the blocks' middles so that
// different chances stay different.
type isotonic struct {
	x, y  []float64 // knots; none: the identity
	pairs []pair    // scratch
}

type pair struct{ p, hit, n float64 }

// minBlock is the number of examples a block stands on at least: smaller ones would
// be learnt by heart.
const minBlock = 200

// trust is how much the fit counts against the identity, in examples: with as many it
// has half the say.
const trust = 12000

// fit takes examples of which share count as one, for their windows overlap.
func (c *isotonic) fit(ring []example, share float64) {
	least := minBlock * share
	total := 0.
	ps := c.pairs[:0]
	for i := range ring {
		x := pair{p: float64(ring[i].p), n: float64(ring[i].weight)}
		if ring[i].hit {
			x.hit = x.n
		}
		total += x.n
		ps = append(ps, x)
	}
	if total < 2*least {
		return
	}
	c.pairs = ps
	slices.SortFunc(ps, func(a, b pair) int {
		if k := cmp.Compare(a.p, b.p); k != 0 {
			return k
		}
		return cmp.Compare(a.hit, b.hit)
	})
	// Groups of minBlock, then pooled where they violate the order; sums in p, hit.
	n, seen := 0, 0.
	for i := 0; i < len(ps); {
		g := pair{}
		for ; i < len(ps) && (g.n < least || ps[i].p == ps[i-1].p || total-seen < least/2); i++ {
			g.p += ps[i].p * ps[i].n
			g.hit += ps[i].hit
			g.n += ps[i].n
			seen += ps[i].n
		}
		ps[n] = g // never ahead of i
		n++
		for n > 1 && ps[n-2].hit*ps[n-1].n >= ps[n-1].hit*ps[n-2].n {
			ps[n-2] = pair{ps[n-2].p + ps[n-1].p, ps[n-2].hit + ps[n-1].hit, ps[n-2].n + ps[n-1].n}
			n--
		}
	}
	c.x, c.y = c.x[:0], c.y[:0]
	part := total / (total + trust*share)
	for _, g := range ps[:n] {
		x := g.p / g.n
		c.x = append(c.x, x)
		c.y = append(c.y, part*g.hit/g.n+(1-part)*x)
	}
}

// at is the calibrated chance.
func (c *isotonic) at(p float64) float64 {
	n := len(c.x)
	if n == 0 {
		return p
	}
	x0, y0, x1, y1 := 0., 0., 1., 1.
	i, _ := slices.BinarySearch(c.x, p)
	if i > 0 {
		x0, y0 = c.x[i-1], c.y[i-1]
	}
	if i < n {
		x1, y1 = c.x[i], c.y[i]
	}
	if x1 <= x0 {
		return y0
	}
	return min(max(y0+(p-x0)/(x1-x0)*(y1-y0), 0), 1)
}
