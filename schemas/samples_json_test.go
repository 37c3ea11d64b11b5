package schemas_test

import (
	"time"

	. "github.com/foreshift/foreshift/schemas"
)

const hash64 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func sampleGain() Gain {
	return Gain{Before: 5400.5, After: 600, Cost: 42.25, Benefit: 4758.25, Ratio: 0.881,
		Terms: []Term{{"cpu", 4800.5}, {"sending", -42.25}}}
}

func samplePrediction() Prediction {
	return Prediction{Onset: sampleTime.Add(time.Hour), Start: sampleTime.Add(10 * time.Minute), Duration: 48.5, Downtime: 120,
		Volume: 5.5e9, Gain: sampleGain(), Plain: &Plain{From: "private", To: "public", Duration: 40.5, Downtime: 100, Volume: 5e9}}
}

func sampleDeclines() []Decline {
	return []Decline{
		{VM: vmOf(1), Host: "host-3", Reason: Reason{Code: ReasonNoRoom, Detail: "memory: 7.1 GiB short at the .99 quantile"}, Score: -12.5},
		{VM: vmOf(1), Host: "host-4", Reason: Reason{Code: ReasonCordoned}},
	}
}

func sampleInventory(n int) []InventoryVM {
	var vs []InventoryVM
	for i := 1; i <= n; i++ {
		vs = append(vs, InventoryVM{VM: vmOf(i), Name: "web-" + string(rune('a'+i%26)), State: VMRunning, VCPUs: 2, AllocCPU: 2000,
			AllocMem: 4 << 30, Resident: 3 << 30, Labels: map[string]string{"slo": "gold", "app": "web"}, Persistent: true, Movable: i != 2,
			WhyPinned: map[bool]string{true: "host device"}[i == 2], Migrating: i == 3, CPUModel: "EPYC-Rome", CPUDigest: "0123456789abcdef", DirtyRate: 2e7, DirtyHigh: 5e7,
			Disks: []VMDisk{{Target: "vda", Path: "/var/lib/libvirt/images/a.qcow2", Size: 10 << 30, Cache: "none", Shared: true}}})
	}
	return vs
}

func samplePolicy() *Policy {
	return &Policy{Version: 3, Mode: ModeAuto, HostModes: map[HostID]Mode{"host-1": ModeObserve}, VMModes: map[VMID]Mode{vmOf(1): ModeApprove, vmOf(2): ModeRecommend},
		AutoOnlySimulated: true, Paused: true, Trigger: 0.3, HoldSteps: 2, MinBenefit: 30, MarginSteps: 0.5, LookAheadSteps: 72, SoftCapacity: 0.9,
		SoftWeight: 0.05, MemQuantile: 0.99, CoolDownSteps: 6, MaxPerHost: 1, MaxPerLink: 2, MaxPerCluster: 5, MaxPerHour: 20, MaxPerVMDay: 2,
		BreakerRow: 2, BreakerShare: 0.2, Weights: map[string]float64{"gold": 2, "silver": 1.5}, Pinned: []VMID{vmOf(9)},
		Apart: [][]VMID{{vmOf(3), vmOf(4)}}, Together: [][]VMID{{vmOf(5), vmOf(6)}, {vmOf(7), vmOf(8)}}, Cordoned: []HostID{"host-2"}, PolicyRules: samplePolicyRules()}
}

func samplePolicyRules() PolicyRules {
	return PolicyRules{TagModes: map[string]Mode{"app=db": ModeApprove}, Excluded: []VMID{vmOf(8)}, Draining: []HostID{"host-4"},
		Windows:   []Window{{Hosts: []HostID{"host-5"}, Start: sampleTime.Add(time.Hour), End: sampleTime.Add(2 * time.Hour), Lead: 12, Freeze: true, Why: "firmware"}},
		Residency: []Residency{{Match: map[string]string{"data": "eu"}, Sites: []SiteID{"private"}}}, Spread: []Spread{{Label: "app", By: SpreadByDomain, Most: 1}},
		SoftApart: [][]VMID{{vmOf(1), vmOf(2)}}, SoftTogether: [][]VMID{{vmOf(3), vmOf(6)}}, RuleWeight: 60, LatencyWeight: 2, RulesOnly: true, PackTarget: .7,
		CopyDisks: true, GateJump: 2, GateVMs: 8, GateStale: .5, ApprovalSteps: 72,
		Learning: &Learning{FixedCosts: true, Settings: true, Bounds: map[string]Range{"trigger_ratio": {.1, .6}}, HoldOut: .01, AutoAfter: 50, AutoRight: .7, DemoteAfter: 3}}
}

func samplePlanBasis() PlanBasis {
	return PlanBasis{Kept: true, Base: 300, SiteBandwidth: 1.25e9, Evaluations: 20000, Policy: samplePolicy(), Step: sampleStep, Load: 512.5, VMs: 60, Persistence: []float64{0.35, -1, 0.1}, Rungs: []Rung{{Class: "private/public", Right: 40, Wrong: 12, Earned: sampleTime, Fell: sampleTime, Why: "3 of its last 10 moves ended badly"}},
		Held: map[HostID]Held{"host-1": {Steps: 2, Last: sampleStep}}, Skipped: map[VMID]Time{vmOf(4): sampleTime}, From: map[string]uint64{"CAPACITY": 5}, Sent: []Command{*sampleCommand()},
		Planned: []Action{{ID: "c-2", VM: vmOf(2), Name: "web-c", Source: "host-1", Destination: "host-3", Due: sampleTime, Latest: sampleTime.Add(time.Hour),
			State: ActionPlanned, Reason: Reason{Code: ReasonOK, Detail: "x"}, Hold: Reason{Code: ReasonNotDue, Detail: "y"}, Predicted: samplePrediction(), WhyNot: sampleDeclines(), After: "c-1", Helpers: []Helper{{vmOf(4), "host-2"}}}}}
}

func sampleCommand() *Command {
	return &Command{ID: "c-1", Plan: "p-20260314-1", PlanHash: "0123456789abcdef", VM: vmOf(1), Name: "web-b", Source: "host-1", Destination: "host-2",
		Issued: sampleTime, Expires: sampleTime.Add(time.Minute), Deadline: sampleTime.Add(10 * time.Minute), AfterSeq: 41, Run: "r1",
		Reason:    Reason{Code: ReasonOK, Detail: "host-1 runs short of CPU at 10:26: 38 % chance; \"host-2\" has room <for 6 h> & \t more"},
		Predicted: samplePrediction(), Bandwidth: 1.25e8, MaxDowntime: 300, CPUDigest: "0123456789abcdef"}
}

// sampleOf gives the sample of a kind.
func sampleOf(k Kind) Message {
	at := sampleTime
	chances := map[string]Chance{"cpu": {H1: 0.1, H6: 0.38, H24: 0.4}, "memory": {}}
	whys := []Why{{Kind: "peak", Text: "reaches 7.2 cores every weekday at 10:30", Share: 0.75}, {Kind: "model", Text: "", Share: 0.25}}
	switch k {
	case KindMetrics:
		return sampleMetrics(7)
	case KindSteps:
		return sampleSteps(6)
	case KindForecasts:
		return sampleForecasts(2, 3)
	case KindCapacityHost:
		return &CapacityHost{Host: "host-1", Site: "private", Time: at, URI: "qemu:///system", Capacity: Amounts{16000, 64 << 30, 1.25e9, 5e8},
			Used: Amounts{7200.5, 30 << 30, 1e6, 2.5e5}, Overcommit: Overcommit{CPU: 2, Mem: 1}, Speed: 1.1, CPUModel: "EPYC-Rome", Domain: "rack-3",
			Labels: map[string]string{"zone": "a"}, Simulated: true, Libvirt: 9000000, QEMU: 7002000, CPUModels: []string{"EPYC", "EPYC-Rome"},
			Pools: []StoragePool{{Name: "default", Type: "dir", Path: "/var/lib/libvirt/images", Capacity: 1 << 40, Free: 1 << 39, Shared: true}},
			VMs:   sampleInventory(3), CPUDigest: "8c3f0d1e5a7b9c21"}
	case KindCapacityLink:
		return &CapacityLink{A: "private", B: "public", Time: at, RTT: 22.4, Bandwidth: 1.25e7, Free: 1e7, Loss: 0.001, By: "host-1", Shared: true, Left: 4e6, Moves: 1, Reserved: 1.25e6,
			Shares: []Share{{Command: "c-1", VM: vmOf(1), Rate: 1e7, Floor: 5e6, Need: 8e6, Source: "host-1", Destination: "host-4", Waits: true, Reason: Reason{Code: ReasonTurn, Detail: "after c-0"}, Ports: []int{49152, 49153}}}}
	case KindPressureVM:
		return &PressureVM{VM: vmOf(1), Host: "host-1", Cause: CauseHostContention, Time: at, Issued: sampleStep, Resource: "cpu", Score: 0.4, Chances: chances,
			Onset: at.Add(time.Hour), Peak: 7200, Limit: 8000, Advice: "move", Why: whys}
	case KindPressureHost:
		return &PressureHost{Host: "host-1", Site: "private", Time: at, Issued: sampleStep, Resource: "cpu", Score: 0.4, Chances: chances, Onset: at.Add(time.Hour),
			Peak: 17000, Limit: 16000, Unmet: 3600000, Why: whys}
	case KindBenefit:
		return &Benefit{VM: vmOf(1), Host: "host-1", Destination: "host-2", Time: at, Gain: sampleGain(), Reason: Reason{Code: ReasonOK}, WhyNot: sampleDeclines()}
	case KindShortfall:
		return &Shortfall{Site: "private", Time: at, Resource: "memory", Onset: at.Add(time.Hour), Amount: 1 << 34, Unmet: 1e15}
	case KindCalendar:
		return &Calendar{ID: "black-friday", Name: "Black Friday", Class: "campaign", Start: at, End: at.Add(24 * time.Hour), Repeat: "FREQ=YEARLY",
			Zone: "Europe/Vienna", Match: map[string]string{"app": "shop"}, Expected: map[string]Ratio{"cpu": 0.4, "net": -0.1}, Removed: true}
	case KindExternal:
		return &External{ID: "orders", Name: "expected orders", Match: map[string]string{"app": "shop"}, Start: at, Every: 300, Value: []float64{1, 2.5, -1e-9, 1e22}}
	case KindModel:
		return &Model{Name: "prior", Version: 12, Time: at, Step: sampleStep, Digest: "0123456789abcdef", Size: 65536, Scores: map[string]float64{"mase_ratio": 0.81}}
	case KindProgress:
		return &Progress{Command: "c-1", Epoch: 42, VM: vmOf(1), Host: "host-1", Time: at, Phase: PhasePreCopy, Round: 3, Total: 4 << 30, Processed: 5 << 30,
			Remaining: 1 << 20, Speed: 1.1e8, DirtyRate: 2e7, Limit: 1.25e8, Elapsed: 44.5, Ports: []int{49152}}
	case KindCommand:
		return sampleCommand()
	case KindOutcome:
		return &Outcome{Command: "c-1", Epoch: 42, VM: vmOf(1), Host: "host-1", Source: "host-1", Destination: "host-2", Time: at.Add(time.Minute),
			Result: ResultSucceeded, Reason: Reason{Code: ReasonOK}, RunsAt: "host-2", SourceSeen: "absent", DestSeen: "running", LifeSign: "cpu",
			Started: at, Duration: 46.25, Downtime: 88, Volume: 5.1e9, Rounds: 4, Predicted: samplePrediction()}
	case KindEffect:
		return &Effect{Command: "c-1", Epoch: 42, VM: vmOf(1), Time: at, Steps: 12, Verdict: "avoided 1.2 core hours",
			Terms: map[string]Change{"vm.steal_mcpu": {Before: 400, After: 0, Without: 900, Low: -1000, High: -700}}}
	case KindPlan:
		return &Plan{ID: "p-20260314-1", Time: at, Cut: Cut{Now: int64(at), Seq: map[string]uint64{"FORECASTS": 7, "MIGRATIONS": 41}}, Mode: ModeAuto,
			PolicyVersion: 3, Seed: 18446744073709551615, Used: 4096, Hash: "0123456789abcdef", Declined: sampleDeclines(), Before: 5400.5, After: 600, Basis: samplePlanBasis(),
			Actions: []Action{{ID: "c-1", VM: vmOf(1), Name: "web-b", Source: "host-1", Destination: "host-2", Due: at, Latest: at.Add(time.Hour),
				State: ActionCommanded, Reason: Reason{Code: ReasonOK, Detail: "before the peak"}, Hold: Reason{Code: ReasonOK},
				Predicted: samplePrediction(), WhyNot: sampleDeclines(), After: "c-0", Helpers: []Helper{{vmOf(3), "host-4"}}}}}
	case KindAct:
		return &Act{ID: "a-1", Act: ActPolicy, By: "alice", Time: at, Why: "wider budgets for the weekend", VM: vmOf(1), Host: "host-1", Plan: "p-20260314-1",
			Command: "c-1", Mode: ModeApprove, RunsAt: "host-2", Policy: samplePolicy(), Version: 2,
			Evidence: &Evidence{Changed: Changed{Setting: "trigger_ratio", From: .3, To: .33, Tried: .45}, With: []Changed{{"hold_steps", 1, 2, 2}}, Saved: 900.5, Low: 100, High: 1700, Samples: 56}}
	case KindAudit:
		return &Audit{Stream: "MIGRATIONS", Sequence: 42, Subject: "migrations.x.command.a.b", Time: at, Header: map[string][]string{"Nats-Msg-Id": {"c-1"}, "X": {"1", "2"}},
			Payload: []byte(`{"id":"c-1"}`), Previous: hash64, Hash: hash64}
	case KindDeadLetter:
		return &DeadLetter{Stream: "METRICS", Sequence: 42, Subject: "metrics.host-1", Time: at, Service: "forecaster", Reason: "column cpu_mcpu: row 3 is NaN",
			Header: map[string][]string{HeaderSchema: {"metrics/1.0"}}, Payload: []byte{0, 1, 2, 255}, Size: 4}
	case KindHostEntry:
		return &HostEntry{Host: "host-1", Name: "h1.example", Site: "private", Labels: map[string]string{"zone": "a"}, Time: at}
	case KindVMEntry:
		return &VMEntry{VM: vmOf(1), Name: "web-b", Labels: map[string]string{"app": "web"}, Time: at}
	case KindPolicy:
		return samplePolicy()
	case KindTunnel:
		return &Tunnel{A: "private", B: "public", Time: at, Lease: 5, Rate: 1.25e7, Reserved: 1.25e6, Other: 1e6, Left: 2e6,
			Shares: []Share{{Command: "c-1", VM: vmOf(1), Rate: 1e7, Floor: 5e6, Need: 8e6, Source: "host-1", Destination: "host-4", Waits: true, Reason: Reason{Code: ReasonTurn, Detail: "after c-0"}, Ports: []int{49152, 49153}}}}
	case KindTunnelPeer:
		return &TunnelPeer{Site: "private", Peer: "public", Time: at, Endpoint: "192.0.2.1:51820",
			Keys: []TunnelKey{{Epoch: 3, Public: "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", Address: "10.88.0.1", Port: 51821}}}
	case KindRequest:
		return &Request{Op: OpPrepare, Command: "c-1", Epoch: 42, VM: vmOf(1), From: "host-1", To: "host-2", Time: at, Expires: at.Add(time.Minute),
			Order: Signed{Subject: "migrations.x.command.a.b", Payload: []byte(`{"id":"c-1"}`), Signature: "c2ln", Signer: "UABC", Sequence: 42},
			XML:   "<domain type='kvm'>\n</domain>", Cookie: []byte("<qemu-migration/>"), Cancelled: true,
			Disks: []DiskCopy{{Target: "vda", Path: "/var/lib/libvirt/images/a.raw", Format: "raw", Capacity: 10 << 30}}, Peer: &PeerLead{Lease: "/srv/leases/probe", Site: "private"}}
	case KindReply:
		return &Reply{Command: "c-1", Epoch: 42, VM: vmOf(1), From: "host-2", Nonce: "n-1", Time: at, Reason: Reason{Code: ReasonOK}, Copy: "paused", Fence: 42,
			Released: 40, Resumed: 39, LifeSign: "cpu", Cookie: []byte("<qemu-migration/>"), URI: "tcp:127.0.0.2:49152", Downtime: 88, Volume: 5.1e9,
			PeerURI: "qemu+tls://host-2/system", Lock: "virtlockd has ended", NoPostCopy: "between sites"}
	}
	return nil
}
