package schemas

// PolicyRules is the part of a [Policy] that says where VMs may be and what goes
// before balance. A value that is absent or 0 takes the default that placer/policy
// documents, so that a policy written before a field existed keeps its meaning.
type PolicyRules struct {
	TagModes      map[string]Mode `json:"tag_modes" jsonschema_description:"overrides by tag of a VM, key=value of a label; the more careful of several holds"`
	Excluded      []VMID          `json:"excluded" jsonschema_description:"neither planned nor judged"`
	Draining      []HostID        `json:"draining" jsonschema_description:"cordoned, and emptied before anything is balanced"`
	Windows       []Window        `json:"windows" jsonschema_description:"maintenance of hosts, and times in which nothing moves by itself"`
	Residency     []Residency     `json:"residency" jsonschema_description:"which VMs may be at which sites only"`
	Spread        []Spread        `json:"spread" jsonschema_description:"how many VMs of one group may share a host, a failure domain or a site"`
	SoftApart     [][]VMID        `json:"soft_apart" jsonschema_description:"groups that should not share a host"`
	SoftTogether  [][]VMID        `json:"soft_together" jsonschema_description:"groups that should share a host"`
	RuleWeight    float64         `json:"rule_weight_core_seconds" jsonschema_description:"what each broken soft rule costs, weighted core-seconds at a base step of 5 min"`
	LatencyWeight float64         `json:"latency_weight_core_seconds_per_ms" jsonschema_description:"what each ms of round trip between two VMs that talk costs, weighted core-seconds at a base step of 5 min"`
	RulesOnly     bool            `json:"rules_only" jsonschema_description:"move only for drains, maintenance and broken hard rules, with the fewest moves"`
	PackTarget    Ratio           `json:"pack_target_ratio" jsonschema_description:"0 = off; else hosts are filled up to this share of capacity so that others become empty"`
	CopyDisks     bool            `json:"copy_disks" jsonschema_description:"VMs with disks on local storage may move, the disks copied along"`
	GateJump      float64         `json:"gate_jump_ratio" jsonschema_description:"sanity gate: nothing moves when the mean demand of a VM changes by this factor in one step"`
	GateVMs       int             `json:"gate_vms" jsonschema_description:"sanity gate: count of VMs from which that is judged"`
	GateStale     Ratio           `json:"gate_stale_ratio" jsonschema_description:"sanity gate: nothing moves when more than this share of hosts or VMs is without fresh input"`
	ApprovalSteps int             `json:"approval_steps" jsonschema_description:"base steps after which an approval has expired"`
	Learning      *Learning       `json:"learning,omitempty" jsonschema_description:"what may be learnt"`
}

// Window is a stretch of time for some hosts, all of them when none is named.
type Window struct {
	Hosts  []HostID `json:"hosts" jsonschema_description:"empty means all"`
	Start  Time     `json:"start"`
	End    Time     `json:"end"`
	Lead   int      `json:"lead_steps" jsonschema_description:"maintenance: base steps before the start from which the hosts are drained"`
	Freeze bool     `json:"freeze" jsonschema_description:"true: no move starts from or to these hosts; false: maintenance, the hosts are to be empty"`
	Why    string   `json:"why"`
}

// Residency binds VMs to sites.
type Residency struct {
	Match map[string]string `json:"match" jsonschema_description:"labels a VM must all have for the rule to speak of it; empty means every VM"`
	Sites []SiteID          `json:"sites" jsonschema_description:"where such a VM may be"`
}

// Spread limits how many VMs of one group share a place. VMs with the same value
// of the label are one group; VMs without the label are in none.
type Spread struct {
	Label string `json:"label"`
	By    string `json:"by" jsonschema_description:"host, failure_domain or site"`
	Most  int    `json:"most" jsonschema_description:"count of VMs of a group in one place"`
}

// The places of [Spread.By].
const (
	SpreadByHost   = "host"
	SpreadByDomain = "failure_domain"
	SpreadBySite   = "site"
)

// PlanBasis is what a decision stood on besides its cut and the policy: the
// placer's settings, and what its earlier decisions had left behind. With it and
// with the streams up to the cut a decision is derived again.
type PlanBasis struct {
	Kept          bool              `json:"kept" jsonschema_description:"true: no new decision, only actions of the one before that had become due"`
	Base          Seconds           `json:"base_step_seconds" jsonschema_description:"length of the base step"`
	SiteBandwidth BytesPerSecond    `json:"site_bandwidth_bytes_per_second" jsonschema_description:"what one move gets within a site"`
	Evaluations   int               `json:"budget_evaluations" jsonschema_description:"count of evaluations the search was allowed"`
	Policy        *Policy           `json:"policy,omitempty" jsonschema_description:"the policy of the configuration, where none has come over the bus"`
	Persistence   []float64         `json:"persistence_ratio,omitempty" jsonschema_description:"learned weights of the scenario in which what is now persists, for slots within 15 minutes, an hour and three hours of 5-minute steps; -1 or absent: the forecast's own"`
	Rungs         []Rung            `json:"rungs,omitempty" jsonschema_description:"how far auto is trusted, by class of moves"`
	Step          Step              `json:"step" jsonschema_description:"last step decided on before"`
	Load          float64           `json:"load_mcpu" jsonschema_description:"mean CPU demand of a VM then"`
	VMs           int               `json:"vms" jsonschema_description:"count of VMs it is the mean of"`
	Held          map[HostID]Held   `json:"held" jsonschema_description:"hosts above the trigger"`
	Skipped       map[VMID]Time     `json:"skipped" jsonschema_description:"VMs whose move an operator skipped, and when"`
	Planned       []Action          `json:"planned" jsonschema_description:"actions planned before and not commanded; where a new decision is made, without their why_not"`
	From          map[string]uint64 `json:"from_seq" jsonschema_description:"by stream: sequence number from which on it has to be read to derive the decision again; absent: from its beginning"`
	Sent          []Command         `json:"sent" jsonschema_description:"commands decided that had not come back on the bus"`
}

// Held is how long the pressure of a host has been above the trigger.
type Held struct {
	Steps int  `json:"steps" jsonschema_description:"count of consecutive decided steps"`
	Last  Step `json:"last_step" jsonschema_description:"the last of them"`
}
