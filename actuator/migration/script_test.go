package migration

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/foreshift/foreshift/schemas"
)

// TestScripts plays the stories under testdata/scripts, one move each:
//
//	start deadline=60s            a new move, epoch 100, both hosts seen; "p2p": libvirt leads
//	restart mark=handed-over      the source's actuator comes back
//	tick 5s                       time passes
//	see source=paused ...         what is seen changes; then Next is asked
//	did finish ok                 the act under way has ended (ok, refused, unknown)
//	answer prepare epoch=100 ...  what the destination decides
//	tend ...                      its housekeeping
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		p := &script{now: int64(time.Second)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return p.run(t, d) })
	})
}

type script struct {
	now int64
	s   State
	o   Observation
	rec Record
	h   Here
}

func (p *script) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "start":
		p.s = Start(100, p.now+int64(span(t, d, "deadline", time.Minute)), p.now, DefaultLimits())
		p.s.Peer = d.HasArg("p2p")
		p.o = Observation{Source: Running, Destination: Absent, Fence: 100, Peer: Peer{Asked: p.now}}
		p.see(t, d)
	case "restart":
		mark := ""
		d.ScanArgs(t, "mark", &mark)
		p.s = Recover(Mark(mark), 100, d.HasArg("unknown"), p.now, p.now+int64(time.Minute), p.now, DefaultLimits())
		p.o = Observation{Fence: 100}
		p.see(t, d)
	case "tick":
		v, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		p.now += int64(v)
	case "see":
		p.see(t, d)
	case "did":
		p.o.Did = Did{Verb: p.s.Wait, How: map[string]How{"ok": Done, "refused": Refused, "unknown": Unknown}[d.CmdArgs[1].Key]}
		if got := p.s.Wait.String(); got != d.CmdArgs[0].Key {
			return "waits for " + got
		}
		if p.o.Did.How != Done {
			p.o.Did.Why = schemas.Reason{Code: schemas.ReasonLibvirt, Detail: "script"}
		}
		d.CmdArgs = d.CmdArgs[2:]
		p.see(t, d)
	case "answer", "tend":
		return p.destination(t, d)
	default:
		return "unknown command"
	}
	var acts []Action
	var why schemas.Reason
	p.s, acts, why = Next(p.s, p.o, p.now)
	p.o.Did = Did{}
	var b strings.Builder
	for _, a := range acts {
		fmt.Fprintf(&b, "-> %s", a.Verb)
		if a.Result != "" {
			fmt.Fprintf(&b, " %s (%s)", a.Result, a.Why)
		}
		if a.After > 0 {
			fmt.Fprintf(&b, " after %s", a.After)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s", p.s.Stage)
	if p.s.Unknown && p.s.Stage != Ended {
		b.WriteString(" UNKNOWN")
	}
	if !why.OK() {
		fmt.Fprintf(&b, ": %s", why)
	}
	return b.String() + "\n"
}

func span(t *testing.T, d *datadriven.TestData, key string, or time.Duration) time.Duration {
	s := ""
	if !d.HasArg(key) {
		return or
	}
	d.ScanArgs(t, key, &s)
	v, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func number(t *testing.T, s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// see reads what is seen from the arguments.
func (p *script) see(t *testing.T, d *datadriven.TestData) {
	p.o.Abort, p.o.Resolve = false, NotResolved
	for _, a := range d.CmdArgs {
		v := ""
		if len(a.Vals) > 0 {
			v = a.Vals[0]
		}
		switch a.Key {
		case "source":
			p.o.Source, _ = ParseCopy(v)
		case "destination":
			p.o.Destination, _ = ParseCopy(v)
			if p.o.Destination != Unreachable {
				p.o.Peer.Asked = p.now
			}
		case "released":
			p.o.Peer.Released = number(t, v)
		case "resumed":
			p.o.Peer.Resumed = number(t, v)
		case "fence":
			p.o.Fence = number(t, v)
		case "life":
			p.o.Life = LifeSign(v)
		case "job":
			p.o.Job.Active = v == "yes"
		case "foreign":
			p.o.Foreign = true
		case "post-copy":
			p.o.PostCopy = v == "cut"
		case "abort":
			p.o.Abort = true
		case "resolve":
			p.o.Resolve = map[string]Resolve{"source": RunsAtSource, "destination": RunsAtDestination, "elsewhere": RunsElsewhere}[v]
		case "lock-lost":
			p.o.Lock = schemas.Reason{Code: schemas.ReasonLock, Detail: "script"}
		case "deadline", "mark", "unknown", "p2p":
		default:
			t.Fatalf("%s: argument %q", d.Pos, a.Key)
		}
	}
}

// destination asks the other machine; the record it writes is kept.
func (p *script) destination(t *testing.T, d *datadriven.TestData) string {
	e := uint64(100)
	for _, a := range d.CmdArgs {
		v := ""
		if len(a.Vals) > 0 {
			v = a.Vals[0]
		}
		switch a.Key {
		case "epoch":
			e = number(t, v)
		case "copy":
			p.h.Copy, _ = ParseCopy(v)
			p.h.Incoming = false
			if v == "incoming" {
				p.h.Copy, p.h.Incoming = Paused, true
			}
		case "session":
			p.h.Session = number(t, v)
		}
	}
	var steps []Step
	var why schemas.Reason
	var first []Step // what the look has shown
	if seen := p.rec.Seen(p.h); seen != p.rec {
		first, p.rec = []Step{{Write, seen}}, seen
	}
	if d.Cmd == "tend" {
		e, steps = Tend(p.rec, p.h, p.now, DefaultLimits())
	} else {
		steps, why = Answer(p.rec, Ask{Op: schemas.Op(d.CmdArgs[0].Key), Epoch: e, AfterSeq: e - 1, Expires: p.now + 1e9, Command: p.now + 1e9, Deadline: p.now + 60e9}, p.h, p.now, DefaultLimits())
	}
	steps = append(first, steps...)
	if len(steps) == 0 && why.OK() {
		return "nothing to do\n"
	}
	var b strings.Builder
	crash := d.HasArg("crash-before")
	for _, s := range steps {
		if crash && s.Kind != Write {
			b.WriteString("crash\n")
			break
		}
		if s.Kind == Write {
			p.rec = s.Record
			r := s.Record
			fmt.Fprintf(&b, "write fence=%d prepared=%d asked=%d finished=%d resumed=%d ran=%d released=%d dropped=%d\n",
				r.Fence, r.Prepared, r.Asked, r.Finished, r.Resumed, r.Ran, r.Released, r.Dropped)
			continue
		}
		fmt.Fprintf(&b, "%s (epoch %d)\n", s.Kind, e)
	}
	if !why.OK() {
		fmt.Fprintf(&b, "refused: %s\n", why)
	}
	return b.String()
}
