package jetstream

import (
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// hostState is what the output knows of one host: what the bus has acknowledged,
// and the gathers that wait.
type hostState struct {
	id      schemas.HostID
	seq     uint64 // of the last message acknowledged
	at      int64  // its gather
	last    map[schemas.VMID]before
	busy    uint64 // CPU time of the host at that gather, ns
	hasBusy bool
	spacing spacing
	entry   string // hash of what bucket hosts holds
	waiting []*gather
}

// find gives the gather of that time, making it where it fits; nil when it has
// been published already.
func (h *hostState) find(at int64, fresh func() *gather) *gather {
	if at <= h.at {
		return nil
	}
	i, found := slices.BinarySearchFunc(h.waiting, at, func(g *gather, at int64) int {
		switch {
		case g.at < at:
			return -1
		case g.at > at:
			return 1
		}
		return 0
	})
	if !found {
		g := fresh()
		g.at = at
		h.waiting = slices.Insert(h.waiting, i, g)
	}
	return h.waiting[i]
}

// due gives the oldest gather if it is ready: complete, or overtaken by a newer
// one, or the last call.
func (h *hostState) due(all bool) *gather {
	if len(h.waiting) == 0 {
		return nil
	}
	if g := h.waiting[0]; all || len(h.waiting) > 1 || g.complete() {
		return g
	}
	return nil
}

// draft is what one gather becomes: messages, and the state that holds once they
// are acknowledged.
type draft struct {
	host     *hostState
	g        *gather
	outs     []streams.Out
	metrics  schemas.Metrics
	capacity *schemas.CapacityHost
	busy     uint64
	hasBusy  bool
	entry    string
	entries  map[schemas.VMID]string
	fault    error // part of the gather could not be used
}

// builder makes drafts; what it is told of the surroundings does not change while
// it does.
type builder struct {
	agent    string
	interval time.Duration // nominal, as configured; 0 = learn it
	ownHost  schemas.HostID
	own      *own
	probes   *probes
	vmHash   func(schemas.VMID) string // of what bucket vms holds, "" = nothing
}

// nominal is the interval of the host's gathers as far as it is known, and the
// longest gap over which rates are made.
func (b *builder) nominal(h *hostState, g *gather) (interval, longest time.Duration) {
	interval = b.interval
	if interval == 0 {
		interval = h.spacing.nominal()
	}
	if interval == 0 && h.at > 0 {
		interval = time.Duration(g.at - h.at) // the first two gathers say it
	}
	if interval == 0 {
		return 10 * time.Second, time.Hour
	}
	// Half a gather more, for the jitter of clocks and of slow calls.
	return interval, maxGaps*interval + interval/2
}

// make turns a gather into messages, given the state of its host. It changes
// neither, so that it can be made again when the bus did not take it.
func (b *builder) make(h *hostState, g *gather) *draft {
	d := &draft{host: h, g: g}
	nominal, longest := b.nominal(h, g)
	age := max(longest, 30*time.Second)
	n := len(g.vms) + 1
	m := &d.metrics
	*m = schemas.Metrics{
		Host: h.id, Site: g.site, Agent: b.agent, Seq: h.seq + 1,
		Time: make([]schemas.Time, n), VM: make([]schemas.VMID, n), IntervalS: make([]float32, n), Flags: make([]schemas.Flags, n),
		AllocCPU: make([]float32, n), AllocMem: make([]float32, n),
	}
	cols := make([]float32, n*schemas.NumColumns)
	for c := range m.Cols {
		m.Cols[c], cols = cols[:n:n], cols[n:]
	}
	total := newTotals()
	for i := range g.vms {
		s := &g.vms[i]
		var prev *before
		if p, ok := h.last[s.vm]; ok {
			prev = &p
		}
		r := s.rates(g.at, prev, nominal, longest)
		r.cols[schemas.ColAppMs] = b.probes.of(s.vm, g.at, age)
		total.add(&r)
		d.put(i, s.vm, &r, s.allocCPU, s.allocMem)
	}
	b.inventory(d)
	r := b.hostRow(h, g, &total, nominal, longest, age, d)
	allocCPU, allocMem := schemas.NaN(), schemas.NaN()
	if c := d.capacity; c != nil {
		allocCPU, allocMem = float32(c.Capacity.CPU), float32(c.Capacity.Mem)
	}
	d.put(n-1, schemas.VMID{}, &r, allocCPU, allocMem)
	for c := range m.Cols { // a column that nobody has does not travel
		if !slices.ContainsFunc(m.Cols[c], func(v float32) bool { return v == v }) {
			m.Cols[c] = nil
		}
	}
	id := string(h.id) + "." + b.agent + "." + strconv.FormatUint(m.Seq, 10)
	d.outs = append(d.outs, streams.Out{Subject: streams.SubjectMetrics(h.id), ID: id, Msg: m})
	if c := d.capacity; c != nil {
		use(c, &r)
		d.outs = append(d.outs, streams.Out{Subject: streams.SubjectCapacityHost(h.id), ID: "capacity." + id, Msg: c})
		b.entries(d, id)
	}
	return d
}

func (d *draft) put(i int, vm schemas.VMID, r *row, allocCPU, allocMem float32) {
	m := &d.metrics
	m.Time[i], m.VM[i], m.IntervalS[i], m.Flags[i] = schemas.Time(d.g.at), vm, r.interval, r.flags
	m.AllocCPU[i], m.AllocMem[i] = allocCPU, allocMem
	for c := range m.Cols {
		m.Cols[c][i] = r.cols[c]
	}
}

// totals sums the VMs of a host: what is NaN in all of them stays NaN.
type totals struct {
	row row
}

func newTotals() (t totals) {
	nan := schemas.NaN()
	t.row.run = nan
	for c := range t.row.cols {
		t.row.cols[c] = nan
	}
	return t
}

func (t *totals) add(r *row) {
	sum := func(to *float32, v float32) {
		if v == v {
			if *to != *to {
				*to = 0
			}
			*to += v
		}
	}
	sum(&t.row.run, r.run)
	for _, c := range [...]schemas.Column{schemas.ColMem, schemas.ColNetRx, schemas.ColNetTx, schemas.ColDiskRd, schemas.ColDiskWr, schemas.ColSteal, schemas.ColSwap} {
		sum(&t.row.cols[c], r.cols[c])
	}
}

// hostRow is the row of the host itself: the sum of its VMs, corrected by its own
// counters where those speak for it, and by Telegraf's where the agent runs on it.
func (b *builder) hostRow(h *hostState, g *gather, t *totals, nominal, longest, age time.Duration, d *draft) row {
	r := t.row
	r.interval = float32(nominal.Seconds())
	gap := time.Duration(g.at - h.at)
	linked := h.at > 0 && gap <= longest
	if linked {
		r.interval = float32(gap.Seconds())
	}
	s := &g.host
	d.busy, d.hasBusy = s.cpuBusy, s.hasCPU
	if g.done && s.byNode {
		if linked && s.hasCPU && h.hasBusy {
			if s.cpuBusy < h.busy {
				r.flags |= schemas.FlagReset
				r.run = schemas.NaN()
			} else {
				r.run = float32(float64(s.cpuBusy-h.busy) / gap.Seconds() / 1e6 * s.speed)
			}
		}
		if !math.IsNaN(s.memUsed) {
			r.cols[schemas.ColMem] = float32(s.memUsed)
		}
		if b.ownHost == h.id && d.capacity != nil {
			b.own.fold(&r, g.at, age, float64(d.capacity.Capacity.CPU)/1000)
		}
	} else if len(g.vms) == 0 && g.done { // a host without VMs uses nothing
		r.run = 0
		for _, c := range [...]schemas.Column{schemas.ColMem, schemas.ColNetRx, schemas.ColNetTx, schemas.ColDiskRd, schemas.ColDiskWr, schemas.ColSteal} {
			r.cols[c] = 0
		}
	}
	r.cols[schemas.ColCPU] = r.run
	if w := r.cols[schemas.ColSteal]; w == w {
		r.cols[schemas.ColCPU] += w
	}
	return r
}

// inventory reads the host's capacity and VMs.
func (b *builder) inventory(d *draft) {
	if !d.g.done || d.g.host.inventory == "" {
		return
	}
	msg, err := schemas.Decode(schemas.KindCapacityHost, []byte(d.g.host.inventory))
	if err != nil {
		d.fault = err
		return
	}
	c, ok := msg.(*schemas.CapacityHost)
	if ok && c.Host == d.host.id {
		d.capacity = c
	}
}

// use tells what of the host is in use; what is not known yet stays 0.
func use(c *schemas.CapacityHost, r *row) {
	val := func(vs ...float32) (sum float64) {
		for _, v := range vs {
			if v == v {
				sum += float64(v)
			}
		}
		return sum
	}
	c.Used = schemas.Amounts{
		CPU: schemas.MilliCPU(val(r.run)), Mem: schemas.Bytes(val(r.cols[schemas.ColMem])),
		Net:  schemas.BytesPerSecond(val(r.cols[schemas.ColNetRx], r.cols[schemas.ColNetTx])),
		Disk: schemas.BytesPerSecond(val(r.cols[schemas.ColDiskRd], r.cols[schemas.ColDiskWr])),
	}
}

// entries adds what has changed in the buckets hosts and vms.
func (b *builder) entries(d *draft, id string) {
	c := d.capacity
	e := &schemas.HostEntry{Host: c.Host, Name: string(c.Host), Site: c.Site, Labels: c.Labels}
	d.entry = schemas.HashJSON(e)
	if d.entry != d.host.entry {
		e.Time = c.Time
		d.outs = append(d.outs, streams.Out{Subject: "$KV." + streams.BucketHosts + "." + string(c.Host), ID: "host." + id, Msg: e})
	}
	for i := range c.VMs {
		v := &c.VMs[i]
		e := &schemas.VMEntry{VM: v.VM, Name: v.Name, Labels: v.Labels}
		hash := schemas.HashJSON(e)
		if hash == b.vmHash(v.VM) {
			continue
		}
		if d.entries == nil {
			d.entries = map[schemas.VMID]string{}
		}
		d.entries[v.VM] = hash
		e.Time = c.Time
		d.outs = append(d.outs, streams.Out{Subject: "$KV." + streams.BucketVMs + "." + v.VM.String(), ID: "vm." + v.VM.String() + "." + id, Msg: e})
	}
}

// commit makes the draft the host's state: the bus has it.
func (d *draft) commit(longest time.Duration) {
	h, g := d.host, d.g
	if h.at > 0 {
		h.spacing.note(time.Duration(g.at - h.at))
	}
	h.seq, h.at = d.metrics.Seq, g.at
	if d.entry != "" {
		h.entry = d.entry
	}
	h.busy, h.hasBusy = d.busy, d.hasBusy
	for i := range g.vms {
		h.last[g.vms[i].vm] = before{at: g.at, count: g.vms[i].count}
	}
	if len(h.last) > len(g.vms) { // VMs that are gone are forgotten, so that they start anew
		for vm, p := range h.last {
			if time.Duration(g.at-p.at) > longest {
				delete(h.last, vm)
			}
		}
	}
	if len(h.waiting) > 0 && h.waiting[0] == g {
		h.waiting = slices.Delete(h.waiting, 0, 1)
	}
}
