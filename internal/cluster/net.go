package cluster

import "time"

// network joins the nodes with the servers of NATS, and the hosts with each other.
// Whatever goes over it may be lost, come twice, late, or out of order.
type network struct {
	w      *world
	up     []int64 // by node: nothing reaches NATS from it until then
	down   []int64 // by node: nothing reaches it from NATS until then
	clocks []int64 // by node: how far its clock is ahead, ns
	pairs  []int64 // by host*hosts+host: the link that memory travels is cut until then
	hosts  int
}

func newNetwork(w *world, nodes, hosts int) *network {
	return &network{w: w, up: make([]int64, nodes), down: make([]int64, nodes), clocks: make([]int64, nodes), pairs: make([]int64, hosts*hosts), hosts: hosts}
}

// lag is how long one way takes: mostly a fraction of a millisecond, at times long.
func (n *network) lag() time.Duration {
	w := n.w
	d := w.net.between(200*time.Microsecond, 2*time.Millisecond)
	if !w.calm && w.net.odds(w.mix.late) {
		w.counts.fault(1)
		switch w.net.IntN(4) {
		case 0:
			d += w.net.between(0, 200*time.Millisecond)
		case 1, 2:
			d += w.net.between(0, 8*time.Second)
		default:
			d += w.net.between(0, 70*time.Second)
		}
	}
	return d
}

// carry brings something over one way that is open now, perhaps twice or never.
func (n *network) carry(cut int64, do func()) {
	w := n.w
	if w.now < cut {
		return
	}
	if !w.calm && w.net.odds(w.mix.lose) {
		w.counts.fault(1)
		return
	}
	w.after(n.lag(), do)
	if !w.calm && w.net.odds(w.mix.double) {
		w.counts.fault(1)
		w.after(n.lag(), do)
	}
}

// toNATS and fromNATS are the two ways between a node and the servers.
func (n *network) toNATS(node int, do func())   { n.carry(n.up[node], do) }
func (n *network) fromNATS(node int, do func()) { n.carry(n.down[node], do) }

// reaches reports whether a node hears and is heard.
func (n *network) reaches(node int) bool {
	return n.w.now >= n.up[node] && n.w.now >= n.down[node]
}

// open reports whether memory can travel between two hosts.
func (n *network) open(a, b int) bool { return n.w.now >= n.pairs[a*n.hosts+b] }

func (n *network) cut(a, b int, until int64) {
	n.pairs[a*n.hosts+b], n.pairs[b*n.hosts+a] = until, until
}
