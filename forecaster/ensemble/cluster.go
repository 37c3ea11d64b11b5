package ensemble

// Clusters are series alike in three things: how daily they are, how often they are
// zero, and how rough. 3 x 3 x 2.
const (
	dailies     = 3
	zeroes      = 3
	roughs      = 2
	numClusters = dailies * zeroes * roughs
)

// clusterDaily is how much of the daily prior a cluster starts with.
func clusterDaily(c int) float32 { return float32(c/(zeroes*roughs)) / (dailies - 1) }

// clusterOf places a series by the strength of its daily rhythm and its values, of
// which every third is looked at.
func clusterOf(strength float32, x []float32) uint8 {
	d := 0
	if strength > FullyDaily/4 {
		d = 1
	}
	if strength > 3*FullyDaily/4 {
		d = 2
	}
	var n, none, pairs float64
	var sum, moved, away float64
	for t := 0; t < len(x); t += 3 {
		v := x[t]
		if v != v {
			continue
		}
		n++
		sum += float64(v)
		if v == 0 {
			none++
		}
	}
	if n == 0 {
		return uint8(d * zeroes * roughs)
	}
	mean := float32(sum / n)
	for t := 3; t < len(x); t += 3 {
		if a := abs32(x[t] - x[t-1]); a == a {
			moved += float64(a)
			away += float64(abs32(x[t] - mean))
			pairs++
		}
	}
	z := 0
	if none > .05*n {
		z = 1
	}
	if none > .6*n {
		z = 2
	}
	r := 0
	if moved > .5*away {
		r = 1
	}
	return uint8((d*zeroes+z)*roughs + r)
}
