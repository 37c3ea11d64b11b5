package share

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/foreshift/foreshift/schemas"
)

// TestScripts plays the stories under testdata/scripts. Sizes are MB, rates MB/s, times
// seconds from the story's start:
//
//	host h1 site=private vms=1:1000:5,...   a host tells of its VMs: id:memory:dirty rate
//	link bw=110 free=110 loss=0             the link private-public was measured
//	command c1 vm=1 from=h1 to=h3 deadline=300 expires=60
//	progress c1 vm=1 phase=pre-copy total=1000 left=800 dirty=5 speed=100
//	outcome c1 vm=1 result=succeeded
//	said c1=50 at=3                         another holder of the lease set rates
//	tick 1                                  time passes; what is decided is printed
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		p := &story{now: now, l: NewLedger(Config{By: ByTunnel("private")})}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return p.run(t, d) })
	})
}

type story struct {
	now schemas.Time
	seq uint64
	l   *Ledger
}

func vmid(s string) schemas.VMID { n, _ := strconv.Atoi(s); return schemas.VMID{15: byte(n)} }

func (p *story) run(t *testing.T, d *datadriven.TestData) string {
	text := func(key, or string) string {
		if d.HasArg(key) {
			d.ScanArgs(t, key, &or)
		}
		return or
	}
	num := func(key string, or float64) float64 {
		v, err := strconv.ParseFloat(text(key, fmt.Sprint(or)), 64)
		if err != nil {
			t.Fatalf("%s: %v", d.Pos, err)
		}
		return v
	}
	at := func(key string, or float64) schemas.Time {
		return now.Add(time.Duration(num(key, or) * float64(time.Second)))
	}
	first := ""
	if len(d.CmdArgs) > 0 {
		first = d.CmdArgs[0].Key
	}
	id := schemas.CommandID(first)
	var m any
	switch d.Cmd {
	case "host":
		h := &schemas.CapacityHost{Host: schemas.HostID(first), Site: schemas.SiteID(text("site", ""))}
		for _, s := range strings.Split(text("vms", ""), ",") {
			if f := strings.Split(s, ":"); len(f) == 3 {
				mem, _ := strconv.ParseFloat(f[1], 64)
				dirty, _ := strconv.ParseFloat(f[2], 64)
				h.VMs = append(h.VMs, schemas.InventoryVM{VM: vmid(f[0]), State: schemas.VMRunning, AllocMem: schemas.Bytes(mem * mb), DirtyRate: schemas.BytesPerSecond(dirty * mb)})
			}
		}
		m = h
	case "link":
		bw := num("bw", 110)
		m = &schemas.CapacityLink{A: "private", B: "public", RTT: 20, Bandwidth: schemas.BytesPerSecond(bw * mb), Free: schemas.BytesPerSecond(num("free", bw) * mb), Loss: schemas.Ratio(num("loss", 0)), By: text("by", "a1")}
	case "command":
		m = &schemas.Command{ID: id, VM: vmid(text("vm", "1")), Source: schemas.HostID(text("from", "h1")), Destination: schemas.HostID(text("to", "h3")),
			Deadline: at("deadline", 1000), Expires: at("expires", 60), Run: text("run", "")}
	case "progress":
		var ports []int
		for _, f := range strings.Split(text("ports", ""), ",") {
			if n, err := strconv.Atoi(f); err == nil {
				ports = append(ports, n)
			}
		}
		m = &schemas.Progress{Ports: ports, Command: id, VM: vmid(text("vm", "1")), Phase: schemas.Phase(text("phase", "pre-copy")), Total: schemas.Bytes(num("total", 0) * mb),
			Remaining: schemas.Bytes(num("left", 0) * mb), DirtyRate: schemas.BytesPerSecond(num("dirty", 0) * mb), Speed: schemas.BytesPerSecond(num("speed", 0) * mb)}
	case "outcome":
		m = &schemas.Outcome{Command: id, VM: vmid(text("vm", "1")), Result: schemas.Result(text("result", "succeeded"))}
	case "said":
		x := &schemas.Tunnel{A: "private", B: "public", Time: at("at", 0)}
		for _, a := range d.CmdArgs {
			if rate, err := strconv.ParseFloat(strings.Join(a.Vals, ""), 64); err == nil && a.Key != "at" {
				x.Shares = append(x.Shares, schemas.Share{Command: schemas.CommandID(a.Key), Rate: schemas.BytesPerSecond(rate * mb)})
			}
		}
		m = x
	case "tick":
		after, _ := strconv.ParseFloat(first, 64)
		p.now = p.now.Add(time.Duration(after * float64(time.Second)))
		return p.tick()
	default:
		t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
	p.seq++
	if err := p.l.Apply(Input{Seq: p.seq, Time: p.now, Msg: m}); err != nil {
		return err.Error() + "\n"
	}
	return "ok\n"
}

func (p *story) tick() string {
	var b strings.Builder
	for _, v := range p.l.Decide(p.now) {
		t := v.Tunnel
		fmt.Fprintf(&b, "%s=%s %.0f, reserved %.0f, other %.0f, one more could have %.1f; reported: %d moves, left %.1f, free %.0f\n",
			t.A, t.B, float64(t.Rate)/mb, float64(t.Reserved)/mb, float64(t.Other)/mb, float64(t.Left)/mb, v.Link.Moves, float64(v.Link.Left)/mb, float64(v.Link.Free)/mb)
		for _, s := range t.Shares {
			if s.Waits {
				fmt.Fprintf(&b, "  %s waits: %s\n", s.Command, s.Reason)
				continue
			}
			fmt.Fprintf(&b, "  %s %.1f (floor %.1f, need %.1f)", s.Command, float64(s.Rate)/mb, float64(s.Floor)/mb, float64(s.Need)/mb)
			if !s.Reason.OK() {
				fmt.Fprintf(&b, " %s", s.Reason)
			}
			if len(s.Ports) > 0 {
				fmt.Fprintf(&b, " ports %d", s.Ports)
			}
			fmt.Fprintln(&b)
		}
	}
	if b.Len() == 0 {
		return "nothing new\n"
	}
	return b.String()
}
