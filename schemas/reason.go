package schemas

// ReasonCode is why something was not done, or why it ended as it did. Codes are
// counted as metrics; [Reason.Detail] says the particulars to a person.
type ReasonCode string

// Reasons of the placer.
const (
	ReasonOK             ReasonCode = "ok"
	ReasonNoPressure     ReasonCode = "no_pressure"
	ReasonHold           ReasonCode = "hold"               // pressure not yet sustained
	ReasonNoBenefit      ReasonCode = "no_beneficial_move" // every move costs more than it saves
	ReasonBelowMinimum   ReasonCode = "benefit_below_minimum"
	ReasonStale          ReasonCode = "stale_telemetry"
	ReasonNoForecast     ReasonCode = "no_forecast"
	ReasonLag            ReasonCode = "forecasts_lag" // forecasts come, but so late after their step that the forecaster is overloaded
	ReasonNoRoom         ReasonCode = "no_room"
	ReasonCoolDown       ReasonCode = "cool_down"
	ReasonBudgetHost     ReasonCode = "budget_host"
	ReasonBudgetLink     ReasonCode = "budget_link"
	ReasonBudgetCluster  ReasonCode = "budget_cluster"
	ReasonBudgetHour     ReasonCode = "budget_hour"
	ReasonBudgetVM       ReasonCode = "budget_vm"
	ReasonPinned         ReasonCode = "pinned"
	ReasonExcluded       ReasonCode = "excluded"
	ReasonAntiAffinity   ReasonCode = "anti_affinity"
	ReasonAffinity       ReasonCode = "affinity"
	ReasonSite           ReasonCode = "site_rule"
	ReasonCordoned       ReasonCode = "cordoned"
	ReasonCPUModel       ReasonCode = "cpu_model"
	ReasonSelf           ReasonCode = "same_host"
	ReasonNotRunning     ReasonCode = "not_running"
	ReasonForeignJob     ReasonCode = "foreign_job"
	ReasonMoving         ReasonCode = "already_moving"
	ReasonDuplicate      ReasonCode = "duplicate_uuid" // seen running on two hosts: frozen
	ReasonNotDue         ReasonCode = "not_due"
	ReasonTooLate        ReasonCode = "too_late"
	ReasonMode           ReasonCode = "mode"
	ReasonNeedsApproval  ReasonCode = "needs_approval"
	ReasonPaused         ReasonCode = "paused"
	ReasonBreaker        ReasonCode = "breaker"
	ReasonUnknownMove    ReasonCode = "unknown_move" // a move whose end nobody knows holds all others
	ReasonCannotConverge ReasonCode = "cannot_converge"
	ReasonWorse          ReasonCode = "worse"
	ReasonSanity         ReasonCode = "sanity_gate"
	ReasonSkipped        ReasonCode = "skipped"
	ReasonResizeAdvised  ReasonCode = "resize_advised"
	ReasonStorage        ReasonCode = "storage"
	ReasonLostRace       ReasonCode = "lost_race" // another writer was first on the VM's record
	ReasonSuperseded     ReasonCode = "superseded"
	ReasonSpread         ReasonCode = "spread"       // too many of its group share the host, failure domain or site
	ReasonResidency      ReasonCode = "residency"    // its data may not be at that site
	ReasonDraining       ReasonCode = "draining"     // the host is being emptied
	ReasonMaintenance    ReasonCode = "maintenance"  // a maintenance window of the host is open or near
	ReasonFrozen         ReasonCode = "frozen"       // a window in which nothing moves by itself
	ReasonRulesOnly      ReasonCode = "rules_only"   // the policy moves for rules only
	ReasonApprovalOld    ReasonCode = "approval_old" // approved, but too long ago
	ReasonHeldOut        ReasonCode = "held_out"     // left out by lot, so that what moves achieve can be compared with it
	ReasonNotCertain     ReasonCode = "not_certain"  // of a setting: no other value is certainly better
	ReasonPoorData       ReasonCode = "poor_data"    // too little, or too much is missing, to learn from
	ReasonNoBounds       ReasonCode = "no_bounds"    // the operator lets nothing, or nothing more, be changed
	ReasonNotEarned      ReasonCode = "not_earned"   // auto asks for more decisions in shadow that came true
	ReasonDemoted        ReasonCode = "demoted"      // moves of the class ended badly: they are only recommended
)

// Reasons of the actuator.
const (
	ReasonExpired        ReasonCode = "expired"
	ReasonBadSignature   ReasonCode = "bad_signature"
	ReasonUnknownSigner  ReasonCode = "unknown_signer"
	ReasonEpoch          ReasonCode = "stale_epoch"
	ReasonSeen           ReasonCode = "already_seen"
	ReasonReplay         ReasonCode = "replay_run"
	ReasonWrongHost      ReasonCode = "wrong_host"
	ReasonNotHere        ReasonCode = "vm_not_here"
	ReasonAlreadyThere   ReasonCode = "already_at_destination"
	ReasonUnreachable    ReasonCode = "unreachable"
	ReasonLibvirt        ReasonCode = "libvirt_error"
	ReasonDeadline       ReasonCode = "deadline"
	ReasonStalled        ReasonCode = "stalled"
	ReasonAborted        ReasonCode = "aborted"
	ReasonNoLifeSign     ReasonCode = "no_life_sign"
	ReasonLock           ReasonCode = "disk_lock"    // peer to peer without a disk lock that has been proven
	ReasonPostCopy       ReasonCode = "no_post_copy" // post-copy was asked for where it could lose the VM
	ReasonTwoRunning     ReasonCode = "two_running"
	ReasonNoneLeft       ReasonCode = "no_copy"
	ReasonConnectionLost ReasonCode = "connection_lost"
	ReasonReleased       ReasonCode = "released"
	ReasonHandedOver     ReasonCode = "handed_over"
	ReasonHeartbeat      ReasonCode = "no_heartbeat"
	ReasonTooLarge       ReasonCode = "message_too_large"
	ReasonUnsafe         ReasonCode = "unsafe"
	ReasonJournal        ReasonCode = "journal_error"
	ReasonRolledBack     ReasonCode = "rolled_back"
	ReasonInvalid        ReasonCode = "invalid"
	ReasonRestarted      ReasonCode = "restarted"
)

// Reasons of the tunnels.
const (
	ReasonTurn     ReasonCode = "waits_turn"    // it could start, but would only slow the others down
	ReasonLinkDown ReasonCode = "link_down"     // the other site does not answer
	ReasonRotation ReasonCode = "key_rotation"  // keys are being changed
	ReasonUnderWay ReasonCode = "moves_cross"   // moves cross the link: keys are not changed now
	ReasonNoPeer   ReasonCode = "no_peer_key"   // the other site has announced no key yet
	ReasonNotOurs  ReasonCode = "not_this_site" // another site's gateway has to do it
)

// Reason is a typed answer to "why" that a person understands.
type Reason struct {
	Code   ReasonCode `json:"code"`
	Detail string     `json:"detail" jsonschema_description:"a sentence with the particulars; may be empty"`
}

func (r Reason) String() string {
	if r.Detail == "" {
		return string(r.Code)
	}
	return string(r.Code) + ": " + r.Detail
}

// OK reports whether nothing stood in the way.
func (r Reason) OK() bool { return r.Code == ReasonOK || r.Code == "" }

// Decline is one thing that was not done, and why: a VM in a plan, or a host in
// the ranking of a VM.
type Decline struct {
	VM     VMID    `json:"vm"`
	Host   HostID  `json:"host" jsonschema_description:"the host it speaks of: destination in a ranking, source in a plan"`
	Reason Reason  `json:"reason"`
	Score  float64 `json:"score_resource_seconds" jsonschema_description:"benefit had it been done, where that could be told"`
}
