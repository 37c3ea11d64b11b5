package schemas_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/foreshift/foreshift/schemas"
)

// Each line spoils one thing in a valid sample and names what the error must say.
func TestValidateNamesTheField(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	long := strings.Repeat("x", 5000)
	host := func(f func(*CapacityHost)) func() Message { return spoil(KindCapacityHost, f) }
	cmd := func(f func(*Command)) func() Message { return spoil(KindCommand, f) }
	plan := func(f func(*Plan)) func() Message { return spoil(KindPlan, f) }
	act := func(f func(*Act)) func() Message { return spoil(KindAct, f) }
	policy := func(f func(*Policy)) func() Message { return spoil(KindPolicy, f) }
	for _, c := range []struct {
		make func() Message
		word string
	}{
		{host(func(m *CapacityHost) { m.Host = "" }), "host"},
		{host(func(m *CapacityHost) { m.Host = "a.b" }), "host"},
		{host(func(m *CapacityHost) { m.Site = HostIDLong }), "site"},
		{host(func(m *CapacityHost) { m.Time = 0 }), "time: is missing"},
		{host(func(m *CapacityHost) { m.Time = 1 }), "time"},
		{host(func(m *CapacityHost) { m.URI = long }), "uri"},
		{host(func(m *CapacityHost) { m.URI = "\xff" }), "uri: not UTF-8"},
		{host(func(m *CapacityHost) { m.Capacity.CPU = MilliCPU(nan) }), "capacity.cpu_mcpu"},
		{host(func(m *CapacityHost) { m.Used.Net = -1 }), "used.net_bytes_per_second"},
		{host(func(m *CapacityHost) { m.Overcommit.CPU = 0 }), "overcommit.cpu_ratio"},
		{host(func(m *CapacityHost) { m.Speed = Ratio(inf) }), "speed_ratio"},
		{host(func(m *CapacityHost) { m.Labels[""] = "x" }), "labels"},
		{host(func(m *CapacityHost) { m.Pools[0].Free = -1 }), "pools[0].free_bytes"},
		{host(func(m *CapacityHost) { m.VMs[1].VM = VMID{} }), "vms[1].vm: is missing"},
		{host(func(m *CapacityHost) { m.VMs[1].VM = m.VMs[0].VM }), "named twice"},
		{host(func(m *CapacityHost) { m.VMs[0].State = "dreaming" }), "vms[0].state"},
		{host(func(m *CapacityHost) { m.VMs[0].VCPUs = -1 }), "vms[0].vcpus"},
		{host(func(m *CapacityHost) { m.VMs[0].Disks[0].Size = Bytes(nan) }), "vms[0].disks[0].size_bytes"},
		{host(func(m *CapacityHost) { m.VMs = sampleInventory(MaxInventory + 1) }), "vms: 4097 entries"},
		{spoil(KindCapacityLink, func(m *CapacityLink) { m.A, m.B = m.B, m.A }), "site_a"},
		{spoil(KindCapacityLink, func(m *CapacityLink) { m.Loss = 1.5 }), "loss_ratio"},
		{spoil(KindPressureVM, func(m *PressureVM) { m.Score = 1.01 }), "score_ratio"},
		{spoil(KindPressureVM, func(m *PressureVM) { m.Score = Ratio(nan) }), "score_ratio"},
		{spoil(KindPressureVM, func(m *PressureVM) { m.Cause = "bad luck" }), "cause"},
		{spoil(KindPressureVM, func(m *PressureVM) { m.Chances["gpu"] = Chance{} }), "chances key"},
		{spoil(KindPressureVM, func(m *PressureVM) { m.Chances["cpu"] = Chance{H6: -0.1} }), "chances.cpu.h6_ratio"},
		{spoil(KindPressureVM, func(m *PressureVM) { m.Advice = "pray" }), "advice"},
		{spoil(KindPressureHost, func(m *PressureHost) { m.Why[1].Share = 2 }), "why[1].share_ratio"},
		{spoil(KindPressureHost, func(m *PressureHost) { m.Unmet = -1 }), "unmet_resource_seconds"},
		{spoil(KindBenefit, func(m *Benefit) { m.Gain.Ratio = 2 }), "gain.benefit_ratio"},
		{spoil(KindBenefit, func(m *Benefit) { m.WhyNot[1].Score = nan }), "why_not[1].score_resource_seconds"},
		{spoil(KindShortfall, func(m *Shortfall) { m.Resource = "" }), "resource"},
		{spoil(KindCalendar, func(m *Calendar) { m.End = m.Start.Add(-1) }), "start"},
		{spoil(KindCalendar, func(m *Calendar) { m.Removed, m.Start = false, 0 }), "start: is missing"},
		{spoil(KindCalendar, func(m *Calendar) { m.Expected["cpu"] = -2 }), "expected cpu"},
		{spoil(KindExternal, func(m *External) { m.Value[2] = nan }), "value: item 2"},
		{spoil(KindExternal, func(m *External) { m.Every = 0 }), "every_seconds"},
		{spoil(KindModel, func(m *Model) { m.Digest = "0123456789ABCDEF" }), "digest"},
		{spoil(KindModel, func(m *Model) { m.Version = 0 }), "version"},
		{spoil(KindProgress, func(m *Progress) { m.Phase = "" }), "phase"},
		{spoil(KindProgress, func(m *Progress) { m.Epoch = 0 }), "epoch"},
		{cmd(func(m *Command) { m.ID = "" }), "id"},
		{cmd(func(m *Command) { m.VM = VMID{} }), "vm"},
		{cmd(func(m *Command) { m.Destination = m.Source }), "destination"},
		{cmd(func(m *Command) { m.Expires = m.Issued.Add(-1) }), "issued"},
		{cmd(func(m *Command) { m.Deadline = m.Expires.Add(-1) }), "expires"},
		{cmd(func(m *Command) { m.Expires = m.Issued.Add(CommandLife + 1) }), "expires"},
		{cmd(func(m *Command) { m.Predicted.Downtime = -1 }), "predicted.downtime_ms"},
		{cmd(func(m *Command) { m.Reason.Detail = long }), "reason.detail"},
		{spoil(KindOutcome, func(m *Outcome) { m.Result = "fine" }), "result"},
		{spoil(KindOutcome, func(m *Outcome) { m.RunsAt = m.Source }), "runs_at"},
		{spoil(KindOutcome, func(m *Outcome) { m.DestSeen = "maybe" }), "destination_seen"},
		{spoil(KindOutcome, func(m *Outcome) { m.Started = m.Time.Add(1) }), "started"},
		{spoil(KindEffect, func(m *Effect) { m.Terms["vm.steal_mcpu"] = Change{Low: 1, High: 0} }), "terms.vm.steal_mcpu.low"},
		{plan(func(m *Plan) { m.Cut.Now = 0 }), "cut.now_ns"},
		{plan(func(m *Plan) { m.Cut.Seq["a b"] = 1 }), "cut.seq key"},
		{plan(func(m *Plan) { m.Mode = "wild" }), "mode"},
		{plan(func(m *Plan) { m.Used = -1 }), "used_evaluations"},
		{plan(func(m *Plan) { m.Actions = append(m.Actions, m.Actions[0]) }), "used twice"},
		{plan(func(m *Plan) { m.Actions[0].Destination = "host-1" }), "actions[0].destination"},
		{plan(func(m *Plan) { m.Actions[0].State = "" }), "actions[0].state"},
		{plan(func(m *Plan) { m.Declined[0].Host = "*" }), "declined[0].host"},
		{plan(func(m *Plan) { m.After = inf }), "after_resource_seconds"},
		{policy(func(m *Policy) { m.HostModes["host-1"] = "wild" }), "host_modes host-1"},
		{policy(func(m *Policy) { m.VMModes[VMID{}] = ModeAuto }), "vm_modes key"},
		{policy(func(m *Policy) { m.Trigger = -0.1 }), "trigger_ratio"},
		{policy(func(m *Policy) { m.LookAheadSteps = 1000 }), "look_ahead_steps"},
		{policy(func(m *Policy) { m.MaxPerHour = -1 }), "max_per_hour"},
		{policy(func(m *Policy) { m.Weights["gold"] = nan }), "weights gold"},
		{policy(func(m *Policy) { m.Apart[0][1] = VMID{} }), "apart[0]"},
		{policy(func(m *Policy) { m.Cordoned = append(m.Cordoned, "") }), "cordoned"},
		{act(func(m *Act) { m.Act = "dance" }), "act"},
		{act(func(m *Act) { m.Policy = nil }), "policy: is missing"},
		{act(func(m *Act) { m.Policy.MemQuantile = 2 }), "policy.mem_quantile_ratio"},
		{act(func(m *Act) { m.Act, m.Plan = ActApprove, "" }), "plan"},
		{act(func(m *Act) { m.Act, m.Host = ActDrain, "" }), "host"},
		{act(func(m *Act) { m.Act, m.VM, m.Command = ActAbort, VMID{}, "" }), "vm: is missing"},
		{act(func(m *Act) { m.Act, m.VM = ActResolve, VMID{} }), "vm"},
		{act(func(m *Act) { m.Act, m.Mode = ActMode, "" }), "mode"},
		{spoil(KindAudit, func(m *Audit) { m.Hash = "abc" }), "hash"},
		{spoil(KindAudit, func(m *Audit) { m.Sequence = 0 }), "sequence"},
		{spoil(KindDeadLetter, func(m *DeadLetter) { m.Payload = make([]byte, MaxDeadPayload+1); m.Size = 1 << 20 }), "payload"},
		{spoil(KindDeadLetter, func(m *DeadLetter) { m.Size = 3 }), "size_bytes"},
		{spoil(KindDeadLetter, func(m *DeadLetter) { m.Reason = "" }), "reason"},
		{spoil(KindHostEntry, func(m *HostEntry) { m.Labels["x"] = long }), "labels x"},
		{spoil(KindVMEntry, func(m *VMEntry) { m.VM = VMID{} }), "vm"},
		{spoil(KindTunnel, func(m *Tunnel) { m.Shares[0].Rate = -1 }), "shares[0].rate_bytes_per_second"},
		{spoil(KindTunnelPeer, func(m *TunnelPeer) { m.Keys[0].Public = "AAAA" }), "keys[0].public"},
		{spoil(KindTunnelPeer, func(m *TunnelPeer) { m.Peer = m.Site }), "peer"},
		{spoil(KindTunnelPeer, func(m *TunnelPeer) { m.Endpoint = "nowhere" }), "endpoint"},
		{spoil(KindRequest, func(m *Request) { m.Op = "destroy" }), "op"},
		{spoil(KindRequest, func(m *Request) { m.Expires = m.Time.Add(-time.Second) }), "time"},
		{spoil(KindRequest, func(m *Request) { m.Cookie = make([]byte, MaxHandOver+1) }), "cookie"},
		{spoil(KindReply, func(m *Reply) { m.Copy = "two" }), "copy"},
		{spoil(KindReply, func(m *Reply) { m.Volume = Bytes(inf) }), "volume_bytes"},
		{spoil(KindMetrics, func(m *Metrics) { m.Seq = 0 }), "seq"},
		{spoil(KindMetrics, func(m *Metrics) { m.Flags = m.Flags[1:] }), "flags: 6 rows, want 7"},
		{spoil(KindMetrics, func(m *Metrics) { m.Cols[ColSwap] = m.Cols[ColSwap][2:] }), "swap_bytes: 5 rows"},
		{spoil(KindMetrics, func(m *Metrics) { m.Cols[ColCPUMax] = make([]float32, 7) }), "cpu_max_mcpu"},
		{spoil(KindMetrics, func(m *Metrics) { m.Time[3] = 0 }), "column time: row 3"},
		{func() Message { return sampleMetrics(MaxMetricsRows + 1) }, "rows: 8193 entries"},
		{spoil(KindSteps, func(m *Steps) { m.VM[2] = VMID{} }), "column vm: row 2"},
		{spoil(KindSteps, func(m *Steps) { m.Coverage[1] = NaN() }), "column coverage_ratio: row 1"},
		{spoil(KindForecasts, func(m *Forecasts) { m.Q[Net] = m.Q[Net][1:] }), "quantiles_net_bytes_per_second"},
		{spoil(KindForecasts, func(m *Forecasts) { m.D[1] = 1e31 }), "scenarios_mem_bytes"},
		{spoil(KindForecasts, func(m *Forecasts) { m.Weight[5] = 0.9 }), "weights: slot 5 sums"},
		{spoil(KindForecasts, func(m *Forecasts) { m.K = NumScenarios + 1 }), "scenarios"},
		{func() Message { return sampleForecasts(MaxForecastVMs+1, 1) }, "rows: 65 entries"},
	} {
		m := c.make()
		err := m.Validate()
		if err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: error %v does not say %q", m.Kind(), err, c.word)
			continue
		}
		if b, err := Encode(m); err == nil || b != nil {
			t.Errorf("%s: was encoded all the same", m.Kind())
		}
		if again := c.make().Validate(); again == nil || again.Error() != err.Error() {
			t.Errorf("%s: the same fault reads %v, then %v", m.Kind(), err, again)
		}
	}
}

// HostIDLong is a name of one character too many.
var HostIDLong = SiteID(strings.Repeat("a", 65))

// spoil changes a sample.
func spoil[M Message](k Kind, f func(M)) func() Message {
	return func() Message {
		m := sampleOf(k).(M)
		f(m)
		return m
	}
}

// A dead letter can be written whatever the foreign message held.
func TestDeadLetterTakesGarbage(t *testing.T) {
	garbage := string([]byte{0xff, 0xfe, 0, '"', '\\', 0x7f})
	m := &DeadLetter{Stream: "METRICS", Service: "placer", Reason: "row " + garbage, Subject: garbage, Header: map[string][]string{garbage: {garbage, ""}},
		Payload: []byte(garbage), Size: 6}
	got := decoded(t, KindDeadLetter, encoded(t, m)).(*DeadLetter)
	if !slices.Equal(got.Payload, m.Payload) || !strings.HasPrefix(got.Reason, "row ") {
		t.Errorf("came back as %+v", got)
	}
}

func TestCheckToken(t *testing.T) {
	for s, good := range map[string]bool{"a": true, "A-z_9": true, strings.Repeat("a", 64): true, "": false, strings.Repeat("a", 65): false, "a.b": false, "a b": false,
		"*": false, ">": false, "é": false, "a\n": false} {
		if err := CheckToken("host", s); (err == nil) != good {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestSpecOf(t *testing.T) {
	if _, err := SpecOf("nonsense"); !errors.Is(err, ErrUnknownKind) {
		t.Error(err)
	}
	if s, err := SpecOf(KindSteps); err != nil || s.Encoding != Arrow || s.Encoding.String() != "arrow" || JSON.String() != "json" {
		t.Errorf("%+v, %v", s, err)
	}
	Specs()[0].Kind = "changed"
	if Specs()[0].Kind != KindMetrics {
		t.Error("the registry can be changed from outside")
	}
}
