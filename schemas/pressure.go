package schemas

// Cause tells apart why a VM will be short.
type Cause string

// The causes of pressure.
const (
	// CauseOwnLimit: the VM's demand above its own allocation. A move does not
	// help; a resize is advised.
	CauseOwnLimit Cause = "own_limit"
	// CauseHostContention: the sum on its host above the host's capacity.
	CauseHostContention Cause = "host_contention"
)

// Horizons are the horizons of a pressure score in base steps: 1 h, 6 h and 24 h
// of 5-minute steps. They scale with the step.
var Horizons = [3]int{12, 72, 288}

// Chance is the probability that demand goes unserved within each horizon, 0..1.
type Chance struct {
	H1  Ratio `json:"h1_ratio" jsonschema_description:"probability within 12 base steps (1 h of 5 min)"`
	H6  Ratio `json:"h6_ratio" jsonschema_description:"probability within 72 base steps"`
	H24 Ratio `json:"h24_ratio" jsonschema_description:"probability within 288 base steps"`
}

// Max is the longest horizon's chance, or the highest where estimates cross.
func (c Chance) Max() Ratio { return max(c.H1, c.H6, c.H24) }

// Why is one part of an explanation.
type Why struct {
	Kind  string `json:"kind" jsonschema_description:"what kind of evidence: model, peak, season, calendar, external, neighbour"`
	Text  string `json:"text" jsonschema_description:"a sentence for a person"`
	Share Ratio  `json:"share_ratio" jsonschema_description:"its weight in the explanation, 0..1"`
}

// PressureVM is the calibrated likelihood that a VM's demand goes unserved:
// subject pressure.vm.<vm>.<cause>, JSON, on change and every 3 base steps.
type PressureVM struct {
	VM       VMID              `json:"vm"`
	Host     HostID            `json:"host"`
	Cause    Cause             `json:"cause"`
	Time     Time              `json:"time" jsonschema_description:"stream time of the decision"`
	Issued   Step              `json:"issued_step" jsonschema_description:"last closed base step it has seen"`
	Resource string            `json:"resource" jsonschema_description:"the resource with the highest chance: cpu, memory, net or disk"`
	Score    Ratio             `json:"score_ratio" jsonschema_description:"pressure score: the highest chance over resources within the longest horizon"`
	Chances  map[string]Chance `json:"chances" jsonschema_description:"by resource"`
	Onset    Time              `json:"onset" jsonschema_description:"when the shortage is expected to begin; empty when none is expected"`
	Peak     float64           `json:"peak" jsonschema_description:"expected highest demand in the horizon, in the resource's unit (mCPU, bytes or bytes/s)"`
	Limit    float64           `json:"limit" jsonschema_description:"what the demand is compared with, same unit"`
	Advice   string            `json:"advice" jsonschema_description:"empty, move or resize_advised"`
	Why      []Why             `json:"why"`
}

// Kind implements [Message].
func (*PressureVM) Kind() Kind { return KindPressureVM }

// PressureHost is the likelihood that a host runs short: subject
// pressure.host.<host>, JSON.
type PressureHost struct {
	Host     HostID            `json:"host"`
	Site     SiteID            `json:"site"`
	Time     Time              `json:"time"`
	Issued   Step              `json:"issued_step" jsonschema_description:"last closed base step it has seen"`
	Resource string            `json:"resource"`
	Score    Ratio             `json:"score_ratio" jsonschema_description:"pressure score: the highest chance over resources within the longest horizon, 0..1"`
	Chances  map[string]Chance `json:"chances"`
	Onset    Time              `json:"onset"`
	Peak     float64           `json:"peak" jsonschema_description:"expected highest sum of demand, in the resource's unit"`
	Limit    float64           `json:"limit" jsonschema_description:"capacity, same unit"`
	Unmet    float64           `json:"unmet_resource_seconds" jsonschema_description:"expected demand above capacity over the grid, in units of the resource times seconds"`
	Why      []Why             `json:"why"`
}

// Kind implements [Message].
func (*PressureHost) Kind() Kind { return KindPressureHost }

// Benefit is the best move of a pressured VM, or why there is none: subject
// benefit.<vm>, JSON.
type Benefit struct {
	VM          VMID      `json:"vm"`
	Host        HostID    `json:"host"`
	Destination HostID    `json:"destination" jsonschema_description:"empty when no move is beneficial"`
	Time        Time      `json:"time"`
	Gain        Gain      `json:"gain"`
	Reason      Reason    `json:"reason" jsonschema_description:"why none, or what holds the move back; code ok when it is planned"`
	WhyNot      []Decline `json:"why_not" jsonschema_description:"the other hosts and why not each"`
}

// Kind implements [Message].
func (*Benefit) Kind() Kind { return KindBenefit }

// Gain is the benefit of a move, term by term.
type Gain struct {
	Before  float64 `json:"before_resource_seconds" jsonschema_description:"expected unmet demand at source and destination without the move, weighted core-seconds"`
	After   float64 `json:"after_resource_seconds" jsonschema_description:"the same with the move"`
	Cost    float64 `json:"cost_resource_seconds" jsonschema_description:"what the move itself costs: pre-copy, downtime, brown-out, chance of failure"`
	Benefit float64 `json:"benefit_resource_seconds" jsonschema_description:"before - after - cost"`
	Ratio   Ratio   `json:"benefit_ratio" jsonschema_description:"benefit as a share of before, 0..1"`
	Terms   []Term  `json:"terms" jsonschema_description:"what the benefit is made of; their amounts add up to it"`
}

// Term is one part of a benefit.
type Term struct {
	Name   string  `json:"name" jsonschema_description:"cpu, near_capacity, memory, net, disk, wishes, distance, sending, downtime, brown_out or failing"`
	Amount float64 `json:"amount_resource_seconds" jsonschema_description:"weighted core-seconds; above 0 speaks for the move"`
}

// Shortfall is what no placement can fix: subject shortfall.<site>, JSON.
type Shortfall struct {
	Site     SiteID  `json:"site"`
	Time     Time    `json:"time"`
	Resource string  `json:"resource"`
	Onset    Time    `json:"onset" jsonschema_description:"empty when the shortfall has ended"`
	Amount   float64 `json:"amount" jsonschema_description:"expected highest demand above the site's total capacity, in the resource's unit"`
	Unmet    float64 `json:"unmet_resource_seconds" jsonschema_description:"expected unmet demand over the grid, in units of the resource times seconds"`
}

// Kind implements [Message].
func (*Shortfall) Kind() Kind { return KindShortfall }
