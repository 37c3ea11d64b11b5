package placer

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/foreshift/foreshift/placer/internal/fleettest"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// script runs one file of testdata: a fleet, what it is told, and what is decided.
type script struct {
	t    *testing.T
	w    *fleettest.World
	d    *Decider
	plan *schemas.Plan
	gain map[schemas.VMID]*schemas.Benefit
	last map[string]*schemas.Command // by VM name
	acts int
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := &script{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, td *datadriven.TestData) string {
			out, err := s.run(td)
			if err != nil {
				return "error: " + err.Error() + "\n"
			}
			return out
		})
	})
}

func (s *script) run(td *datadriven.TestData) (string, error) {
	args := args(td)
	switch td.Cmd {
	case "fleet":
		return s.begin(td, args)
	case "policy":
		p := s.d.fleet.Policy(s.d.cfg.Policy)
		p.Version++
		if err := set(&p, args); err != nil {
			return "", err
		}
		return "ok\n", s.tell("KV_policy", &p)
	case "change":
		return "ok\n", s.change(td, args)
	case "link":
		free := args.num("free", 0) * 1e6
		m := &schemas.CapacityLink{A: schemas.SiteID(args["a"]), B: schemas.SiteID(args["b"]), Time: s.w.Now, Bandwidth: schemas.BytesPerSecond(free), Free: schemas.BytesPerSecond(free), RTT: schemas.Millis(args.num("rtt", 0))}
		if args.has("left") { // a tunnel role shares it out
			m.Shared, m.By, m.Left, m.Moves = true, "tunnel:s1", schemas.BytesPerSecond(args.num("left", 0)*1e6), int(args.num("moves", 0))
			for i := range m.Moves {
				m.Shares = append(m.Shares, schemas.Share{Command: schemas.CommandID(fmt.Sprint("c", i)), VM: schemas.VMID{byte(i + 1)}, Waits: i < int(args.num("waits", 0)), Reason: schemas.Reason{Code: schemas.ReasonOK}})
			}
		}
		return "ok\n", s.tell("CAPACITY", m)
	case "step":
		var b strings.Builder
		n := int(args.num("n", 1))
		for i := 0; i < n; i++ {
			s.w.Now = (s.w.Step() + 1).Start(s.w.Base).Add(s.w.Base / 10)
			if err := s.round(); err != nil {
				return "", err
			}
			text := s.show(s.d.Tick(s.cut()), args)
			if i == n-1 || strings.Contains(text, "command") {
				fmt.Fprintf(&b, "step %d:\n%s", s.w.Step()-s.w.Begin, text)
			}
		}
		return b.String(), nil
	case "tick":
		s.w.Now = s.w.Now.Add(args.dur("after", time.Second))
		if _, ok := args["capacity"]; ok {
			if err := s.capacity(); err != nil {
				return "", err
			}
		}
		return s.show(s.d.Tick(s.cut()), args), nil
	case "outcome":
		return s.outcome(args)
	case "effect":
		c := s.last[args["vm"]]
		if c == nil {
			return "", fmt.Errorf("no command for %s", args["vm"])
		}
		return "ok\n", s.tell("MIGRATIONS", &schemas.Effect{Command: c.ID, Epoch: s.w.Seq["MIGRATIONS"], VM: c.VM, Time: s.w.Now, Steps: 12, Verdict: "as told",
			Terms: map[string]schemas.Change{args["term"]: {Low: args.num("low", 0), High: args.num("high", 0)}}})
	case "act":
		return s.act(args)
	case "why":
		return s.why(args["vm"])
	}
	return "", fmt.Errorf("unknown command %q", td.Cmd)
}

type argMap map[string]string

func args(td *datadriven.TestData) argMap {
	m := argMap{}
	for _, a := range td.CmdArgs {
		m[a.Key] = strings.Join(a.Vals, ",")
	}
	return m
}

func fields(line string) argMap {
	m := argMap{}
	for i, f := range strings.Fields(line) {
		k, v, _ := strings.Cut(f, "=")
		if i == 0 {
			k, v = "kind", f
		}
		if i == 1 {
			k, v = "name", f
		}
		m[k] = v
	}
	return m
}

func (a argMap) num(key string, def float64) float64 {
	if v, ok := a[key]; ok {
		x, err := strconv.ParseFloat(v, 64)
		if err != nil {
			panic(err)
		}
		return x
	}
	return def
}

func (a argMap) dur(key string, def time.Duration) time.Duration {
	if v, ok := a[key]; ok {
		d, err := time.ParseDuration(v)
		if err != nil {
			panic(err)
		}
		return d
	}
	return def
}

func (a argMap) has(key string) bool { _, ok := a[key]; return ok }

// set lays arguments over a policy.
func set(p *policy.Policy, a argMap) error {
	for k, v := range a {
		switch k {
		case "mode":
			p.Mode = schemas.Mode(v)
		case "hold":
			p.HoldSteps = int(a.num(k, 0))
		case "per_hour":
			p.MaxPerHour = int(a.num(k, 0))
		case "per_cluster":
			p.MaxPerCluster = int(a.num(k, 0))
		case "per_host":
			p.MaxPerHost = int(a.num(k, 0))
		case "min_benefit":
			p.MinBenefit = a.num(k, 0)
		case "trigger":
			p.Trigger = schemas.Ratio(a.num(k, 0))
		case "real":
			p.AutoOnlySimulated = v != "allowed"
		case "pin":
			p.Pinned = append(p.Pinned, fleettest.ID(v))
		case "cordon":
			p.Cordoned = append(p.Cordoned, schemas.HostID(v))
		case "apart", "together":
			var g []schemas.VMID
			for _, n := range strings.Split(v, ",") {
				g = append(g, fleettest.ID(n))
			}
			if k == "apart" {
				p.Apart = append(p.Apart, g)
			} else {
				p.Together = append(p.Together, g)
			}
		case "auto_after", "right", "demote":
			p.Learning = &schemas.Learning{AutoAfter: int(a.num("auto_after", 0)), AutoRight: schemas.Ratio(a.num("right", .6)), DemoteAfter: int(a.num("demote", 0))}
		case "approval":
			p.ApprovalSteps = int(a.num(k, 0))
		case "freeze": // of the whole fleet, from 2026 on
			p.Windows = nil
			if v != "off" {
				p.Windows = []schemas.Window{{Start: schemas.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), End: schemas.At(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)), Freeze: true, Why: v}}
			}
		case "base":
		default:
			return fmt.Errorf("policy: unknown setting %q", k)
		}
	}
	return policy.Validate(*p)
}

// begin makes the fleet of the block's lines.
func (s *script) begin(td *datadriven.TestData, a argMap) (string, error) {
	s.w = fleettest.New(a.dur("base", 5*time.Minute))
	p := policy.Default()
	p.Mode = schemas.ModeAuto
	if err := set(&p, a); err != nil {
		return "", err
	}
	d, err := NewDecider(Config{Base: s.w.Base, Policy: p})
	if err != nil {
		return "", err
	}
	s.d, s.gain, s.last = d, map[schemas.VMID]*schemas.Benefit{}, map[string]*schemas.Command{}
	if err := s.lines(td.Input); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d hosts, %d VMs\n", len(s.w.Hosts), len(s.w.VMs)), nil
}

func (s *script) lines(text string) error {
	for _, line := range strings.Split(text, "\n") {
		f := fields(line)
		switch f["kind"] {
		case "":
		case "host":
			h := fleettest.Host{ID: schemas.HostID(f["name"]), Site: "s1", Cores: f.num("cpu", 8), GiB: f.num("mem", 32), Net: f.num("net", 0), Overcommit: f.num("over", 1), CPUModel: f["model"], Simulated: !f.has("real")}
			if f.has("site") {
				h.Site = schemas.SiteID(f["site"])
			}
			s.w.Hosts = append(s.w.Hosts, h)
		case "vm":
			v := fleettest.VM{Name: f["name"]}
			s.setVM(&v, f)
			s.w.VMs = append(s.w.VMs, v)
		default:
			return fmt.Errorf("unknown line %q", line)
		}
	}
	return nil
}

func (s *script) setVM(v *fleettest.VM, f argMap) {
	if f.has("on") {
		v.Host = schemas.HostID(f["on"])
	}
	if f.has("also") {
		v.Also = schemas.HostID(f["also"])
	}
	v.Cores, v.GiB, v.Net = f.num("cpu", v.Cores), f.num("mem", v.GiB), f.num("net", v.Net)
	if f.has("peak") {
		v.Peak = fleettest.Peak{From: s.w.Step() + schemas.Step(f.num("in", 0)), Len: int(f.num("for", 48)), Cores: f.num("peak", 0), GiB: f.num("peakmem", 0), In: int(f.num("of12", 12))}
	}
	if f.has("site") {
		v.Labels = map[string]string{"foreshift.site": f["site"]}
	}
	v.Local, v.Fixed = v.Local || f.has("local"), v.Fixed || f.has("fixed")
	v.Dark, v.Late = v.Dark || f.has("dark"), f.has("late")
	if f.has("state") {
		v.State = schemas.VMState(f["state"])
	}
}

func (s *script) change(td *datadriven.TestData, a argMap) error {
	for _, line := range strings.Split(td.Input, "\n") {
		f := fields(line)
		switch f["kind"] {
		case "vm":
			v, err := s.w.VM(f["name"])
			if err != nil {
				return err
			}
			s.setVM(v, f)
		case "forecaster":
			s.w.Behind = schemas.Step(f.num("behind", 0))
		case "host":
			for i := range s.w.Hosts {
				if h := &s.w.Hosts[i]; string(h.ID) == f["name"] {
					h.Silent = f.has("silent")
				}
			}
		}
	}
	return nil
}

func (s *script) tell(stream string, m any) error {
	in := s.w.Input(stream, m)
	if v, ok := m.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return fmt.Errorf("the test's own message: %w", err)
		}
	}
	return s.d.Apply(streams.Event{Stream: stream, Seq: in.Seq, Time: int64(in.Time), Lease: 1, Msg: m})
}

func (s *script) capacity() error {
	for _, m := range s.w.Capacity() {
		if err := s.tell("CAPACITY", m); err != nil {
			return err
		}
	}
	return nil
}

// round is what a step brings: reports of all hosts and forecasts of all VMs.
func (s *script) round() error {
	if err := s.capacity(); err != nil {
		return err
	}
	for _, m := range s.w.Forecasts() {
		if err := s.tell("FORECASTS", m); err != nil {
			return err
		}
	}
	return nil
}

func (s *script) cut() streams.Cut {
	c := streams.Cut{Now: int64(s.w.Now), Seq: map[string]uint64{}}
	for k, v := range s.w.Seq {
		c.Seq[k] = v
	}
	return c
}

// show prints what goes out, for people. Commands come back on the bus at once.
func (s *script) show(outs []streams.Out, a argMap) string {
	var b strings.Builder
	for _, o := range outs {
		if err := o.Msg.Validate(); err != nil {
			fmt.Fprintf(&b, "INVALID %s: %v\n", o.Subject, err)
		}
		switch m := o.Msg.(type) {
		case *schemas.PressureHost:
			if m.Score > 0 {
				fmt.Fprintf(&b, "  pressure %s %s %.2f onset %s peak %.0f of %.0f", m.Host, m.Resource, float64(m.Score), s.when(m.Onset), m.Peak, m.Limit)
				for _, w := range m.Why {
					fmt.Fprintf(&b, "; %s", w.Text)
				}
				b.WriteString("\n")
			}
		case *schemas.Benefit:
			s.gain[m.VM] = m
		case *schemas.Shortfall:
			fmt.Fprintf(&b, "  shortfall %s %s %.0f onset %s\n", m.Site, m.Resource, m.Amount, s.when(m.Onset))
		case *schemas.Plan:
			s.plan = m
			fmt.Fprintf(&b, "  plan %.0f -> %.0f core-seconds\n", m.Before, m.After)
			for i := range m.Actions {
				x := &m.Actions[i]
				fmt.Fprintf(&b, "    move %s %s -> %s %s due %s latest %s hold %s\n      %s\n", x.Name, x.Source, x.Destination, x.State, s.when(x.Due), s.when(x.Latest), x.Hold, x.Reason.Detail)
				if a.has("times") {
					fmt.Fprintf(&b, "      takes %.0f s, stands still %.0f ms, sends %.1f GB\n", float64(x.Predicted.Duration), float64(x.Predicted.Downtime), float64(x.Predicted.Volume)/1e9)
				}
			}
			for _, x := range m.Declined {
				name := strings.TrimRight(string(x.VM[:]), "\x00")
				if name == "" {
					name = "nothing moves"
				}
				fmt.Fprintf(&b, "    stays: %s: %s\n", name, x.Reason)
			}
		case *schemas.Command:
			s.last[m.Name] = m
			fmt.Fprintf(&b, "  command %s %s -> %s after %d expires %s deadline %s expect %d under %s\n", m.Name, m.Source, m.Destination, m.AfterSeq, s.when(m.Expires), s.when(m.Deadline), o.Expect.Seq, strings.TrimPrefix(o.Expect.Filter, "migrations."+m.VM.String()))
			if !a.has("lost") {
				if err := s.tell("MIGRATIONS", m); err != nil {
					fmt.Fprintf(&b, "  %v\n", err)
				}
			}
		}
	}
	return b.String()
}

// when is a time relative to now.
func (s *script) when(t schemas.Time) string {
	if t == 0 {
		return "none"
	}
	return t.Sub(s.w.Now).Round(time.Second).String()
}

func (s *script) outcome(a argMap) (string, error) {
	c := s.last[a["vm"]]
	if c == nil {
		return "", fmt.Errorf("no command for %s", a["vm"])
	}
	o := &schemas.Outcome{Command: c.ID, Epoch: s.w.Seq["MIGRATIONS"], VM: c.VM, Host: c.Source, Source: c.Source, Destination: c.Destination, Time: s.w.Now, Result: schemas.Result(a["result"]),
		Reason: schemas.Reason{Code: schemas.ReasonOK}, Started: c.Issued, Predicted: c.Predicted}
	v, err := s.w.VM(a["vm"])
	if err != nil {
		return "", err
	}
	switch o.Result {
	case schemas.ResultSucceeded:
		o.RunsAt, v.Host = c.Destination, c.Destination
	case schemas.ResultFailed, schemas.ResultRefused:
		o.RunsAt, o.Reason.Code = c.Source, schemas.ReasonStalled
	case schemas.ResultUnknown:
		o.Reason.Code = schemas.ReasonUnreachable
	}
	s.w.Now = s.w.Now.Add(time.Second)
	o.Time = s.w.Now
	return "ok\n", s.tell("MIGRATIONS", o)
}

func (s *script) act(a argMap) (string, error) {
	s.acts++
	m := &schemas.Act{ID: fmt.Sprintf("act-%d", s.acts), Act: schemas.ActKind(a["kind"]), By: "test", Time: s.w.Now, Host: schemas.HostID(a["host"]), Mode: schemas.Mode(a["mode"]), RunsAt: schemas.HostID(a["runs_at"])}
	if n := a["vm"]; n != "" {
		switch m.Act {
		case schemas.ActApprove, schemas.ActSkip:
			for i := range s.plan.Actions {
				if s.plan.Actions[i].Name == n {
					m.Plan, m.Command = s.plan.ID, s.plan.Actions[i].ID
				}
			}
		default:
			m.VM = fleettest.ID(n)
		}
	} else if m.Act == schemas.ActApprove || m.Act == schemas.ActSkip {
		m.Plan = s.plan.ID
	}
	s.w.Now = s.w.Now.Add(time.Second)
	return "ok\n", s.tell("ACTS", m)
}

// why prints the ranking of a VM as last told.
func (s *script) why(name string) (string, error) {
	g := s.gain[fleettest.ID(name)]
	if g == nil {
		return "", fmt.Errorf("nothing was told of %s", name)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s: %s\n", name, g.Host, g.Reason)
	if g.Destination != "" {
		fmt.Fprintf(&b, "  best %s: %.0f before, %.0f after, %.0f cost, benefit %.0f (%.2f)\n", g.Destination, g.Gain.Before, g.Gain.After, g.Gain.Cost, g.Gain.Benefit, float64(g.Gain.Ratio))
	}
	for _, w := range g.WhyNot {
		fmt.Fprintf(&b, "  not %s: %s\n", w.Host, w.Reason)
	}
	return b.String(), nil
}
