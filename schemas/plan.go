package schemas

// Mode is how much Foreshift may do by itself.
type Mode string

// The modes, from the default to the boldest.
const (
	ModeObserve   Mode = "observe"   // forecasts and pressures only
	ModeRecommend Mode = "recommend" // plans are published, nothing moves
	ModeApprove   Mode = "approve"   // a move waits for a person's approval
	ModeAuto      Mode = "auto"
)

// Cut is what a decision had seen: the last sequence applied of every stream, and
// the time it was told. Replay folds exactly to it.
type Cut struct {
	Now int64             `json:"now_ns" jsonschema_description:"nanoseconds since the Unix epoch"`
	Seq map[string]uint64 `json:"seq" jsonschema_description:"by stream: sequence number of the last message applied"`
}

// Plan is one decision of the placer with everything it declined: subject
// plans.<plan>, JSON.
type Plan struct {
	ID            PlanID    `json:"id"`
	Time          Time      `json:"time"`
	Cut           Cut       `json:"cut"`
	Mode          Mode      `json:"mode"`
	PolicyVersion uint64    `json:"policy_version" jsonschema_description:"version number of the policy in force"`
	Seed          uint64    `json:"seed" jsonschema_description:"seed of all chance in the search, a plain number"`
	Used          int       `json:"used_evaluations" jsonschema_description:"count of evaluations the search used; replay repeats exactly that many"`
	Hash          string    `json:"hash" jsonschema_description:"xxhash64 of the actions' canonical JSON, hex"`
	Actions       []Action  `json:"actions"`
	Declined      []Decline `json:"declined"`
	Before        float64   `json:"before_resource_seconds" jsonschema_description:"expected unmet demand of the fleet without the plan"`
	After         float64   `json:"after_resource_seconds" jsonschema_description:"the same with it"`
	Basis         PlanBasis `json:"basis"`
}

// Kind implements [Message].
func (*Plan) Kind() Kind { return KindPlan }

// Action is one move of a plan. It becomes a [Command] when it is due, allowed by
// the mode and still right.
type Action struct {
	ID          CommandID   `json:"id"`
	VM          VMID        `json:"vm"`
	Name        string      `json:"name"`
	Source      HostID      `json:"source"`
	Destination HostID      `json:"destination"`
	Due         Time        `json:"due" jsonschema_description:"the cheapest start between now and onset - duration - margin"`
	Latest      Time        `json:"latest" jsonschema_description:"onset - duration - margin"`
	State       ActionState `json:"state"`
	Reason      Reason      `json:"reason" jsonschema_description:"why the VM moves; a sentence"`
	Hold        Reason      `json:"hold" jsonschema_description:"what holds the move back now; ok when nothing"`
	Predicted   Prediction  `json:"predicted"`
	WhyNot      []Decline   `json:"why_not" jsonschema_description:"the other hosts, and why not each"`
	After       CommandID   `json:"after" jsonschema_description:"it starts only once this other move has; empty when it waits for none"`
	Helpers     []Helper    `json:"helpers" jsonschema_description:"moves that make room for this one and follow it; its benefit counts on them"`
}

// Helper is a move that makes room for another.
type Helper struct {
	VM          VMID   `json:"vm"`
	Destination HostID `json:"destination"`
}

// ActionState is where an action of a plan stands when the plan is published.
type ActionState string

// The states of an action.
const (
	ActionPlanned   ActionState = "planned"   // waits for its due time
	ActionWaiting   ActionState = "waiting"   // due, but held back: see hold
	ActionCommanded ActionState = "commanded" // its command goes out with this plan
)

// Policy is what the operator allows and asks for. Versions are kept in bucket
// policy; placer/policy has the default and the checks. Durations marked "steps"
// scale with the base step; those in seconds are real.
type Policy struct {
	Version           uint64             `json:"version" jsonschema_description:"version number, from 1"`
	Mode              Mode               `json:"mode"`
	HostModes         map[HostID]Mode    `json:"host_modes" jsonschema_description:"overrides by host; the more careful of the two hosts holds"`
	VMModes           map[VMID]Mode      `json:"vm_modes" jsonschema_description:"overrides by VM"`
	AutoOnlySimulated bool               `json:"auto_only_simulated" jsonschema_description:"auto applies to simulated hosts only; elsewhere it means recommend"`
	Paused            bool               `json:"paused" jsonschema_description:"the one switch: no new moves"`
	Trigger           Ratio              `json:"trigger_ratio" jsonschema_description:"pressure of a host above which its VMs may move, 0..1"`
	HoldSteps         int                `json:"hold_steps" jsonschema_description:"base steps the pressure must stay above the trigger"`
	MinBenefit        float64            `json:"min_benefit_core_seconds" jsonschema_description:"least benefit of a move, weighted core-seconds of base-step length 5 min; scales with the base step"`
	MarginSteps       float64            `json:"margin_steps" jsonschema_description:"a move should end this long before the onset"`
	LookAheadSteps    int                `json:"look_ahead_steps" jsonschema_description:"horizon of the objective"`
	SoftCapacity      Ratio              `json:"soft_capacity_ratio" jsonschema_description:"load above this share of capacity costs a little"`
	SoftWeight        Ratio              `json:"soft_weight_ratio" jsonschema_description:"how much, relative to unmet demand"`
	MemQuantile       Ratio              `json:"mem_quantile_ratio" jsonschema_description:"memory must fit at this quantile"`
	CoolDownSteps     int                `json:"cool_down_steps" jsonschema_description:"a VM that moved stays at least this long; doubles with each further move in 24 h"`
	MaxPerHost        int                `json:"max_per_host" jsonschema_description:"count of moves in, and of moves out, at a time"`
	MaxPerLink        int                `json:"max_per_link" jsonschema_description:"count of moves over one link at a time"`
	MaxPerCluster     int                `json:"max_per_cluster" jsonschema_description:"count of moves at a time"`
	MaxPerHour        int                `json:"max_per_hour" jsonschema_description:"count of attempts in 12 base steps"`
	MaxPerVMDay       int                `json:"max_per_vm_day" jsonschema_description:"count of attempts in 288 base steps"`
	BreakerRow        int                `json:"breaker_in_a_row" jsonschema_description:"count of failures in a row that stops new moves"`
	BreakerShare      Ratio              `json:"breaker_share_ratio" jsonschema_description:"share of the last 10 that failing stops new moves, 0..1"`
	Weights           map[string]float64 `json:"weights" jsonschema_description:"weight of a VM, a ratio, by the value of its label slo; 1 when absent"`
	Pinned            []VMID             `json:"pinned" jsonschema_description:"never moved"`
	Apart             [][]VMID           `json:"apart" jsonschema_description:"groups no two of which may share a host"`
	Together          [][]VMID           `json:"together" jsonschema_description:"groups that must share a host"`
	Cordoned          []HostID           `json:"cordoned" jsonschema_description:"no VM moves there"`
	PolicyRules
}

// Kind implements [Message].
func (*Policy) Kind() Kind { return KindPolicy }

// ActKind is what an operator does.
type ActKind string

// The acts; each is the last token of its subject.
const (
	ActPause     ActKind = "pause"
	ActResume    ActKind = "resume"
	ActApprove   ActKind = "approve"
	ActSkip      ActKind = "skip"
	ActAbort     ActKind = "abort"
	ActCordon    ActKind = "cordon"
	ActUncordon  ActKind = "uncordon"
	ActDrain     ActKind = "drain"
	ActMode      ActKind = "mode"
	ActPolicy    ActKind = "policy"
	ActRollback  ActKind = "rollback"
	ActResolve   ActKind = "resolve"
	ActHeartbeat ActKind = "heartbeat"
)

// ActKinds lists them all, in subject order.
var ActKinds = []ActKind{ActPause, ActResume, ActApprove, ActSkip, ActAbort, ActCordon, ActUncordon, ActDrain, ActMode, ActPolicy, ActRollback, ActResolve, ActHeartbeat}

// Act is a signed word of an operator, or the active placer's heartbeat: subject
// acts.<act>, JSON. Only the fields of its kind are set.
type Act struct {
	ID       string    `json:"id"`
	Act      ActKind   `json:"act"`
	By       string    `json:"by" jsonschema_description:"who, for people; authority is the signature"`
	Time     Time      `json:"time"`
	Why      string    `json:"why"`
	VM       VMID      `json:"vm" jsonschema_description:"abort, resolve, mode; all zero when none"`
	Host     HostID    `json:"host" jsonschema_description:"cordon, uncordon, drain, mode; empty when none"`
	Plan     PlanID    `json:"plan" jsonschema_description:"approve, skip"`
	Command  CommandID `json:"command" jsonschema_description:"approve, skip, abort, resolve: one action; empty means all of the plan"`
	Mode     Mode      `json:"mode" jsonschema_description:"mode; empty otherwise"`
	RunsAt   HostID    `json:"runs_at" jsonschema_description:"resolve: where the operator has found the VM running"`
	Policy   *Policy   `json:"policy,omitempty" jsonschema_description:"policy: the whole new policy"`
	Version  uint64    `json:"version" jsonschema_description:"rollback: the version number of the policy to return to"`
	Evidence *Evidence `json:"evidence,omitempty" jsonschema_description:"policy: why, when it was learnt and not set by a person"`
}

// Kind implements [Message].
func (*Act) Kind() Kind { return KindAct }
