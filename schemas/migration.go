package schemas

// Command orders one live migration: subject
// migrations.<vm>.command.<source>.<destination>, JSON, signed. It is published
// only when due and expires 60 s later. Its epoch is its sequence in MIGRATIONS,
// which the writer cannot choose.
type Command struct {
	ID          CommandID      `json:"id"`
	Plan        PlanID         `json:"plan"`
	PlanHash    string         `json:"plan_hash" jsonschema_description:"xxhash64 of the plan's canonical JSON, hex"`
	VM          VMID           `json:"vm"`
	Name        string         `json:"name" jsonschema_description:"the VM's name, for people"`
	Source      HostID         `json:"source"`
	Destination HostID         `json:"destination"`
	Issued      Time           `json:"issued"`
	Expires     Time           `json:"expires" jsonschema_description:"not started after this: 60 s after issue"`
	Deadline    Time           `json:"deadline" jsonschema_description:"the move is aborted when it has not switched over by then"`
	AfterSeq    uint64         `json:"after_seq" jsonschema_description:"sequence number in MIGRATIONS up to which the placer had folded everything"`
	Run         string         `json:"run" jsonschema_description:"empty when live; the id of a replay otherwise, which every actuator refuses"`
	Reason      Reason         `json:"reason"`
	Predicted   Prediction     `json:"predicted"`
	Bandwidth   BytesPerSecond `json:"bandwidth_bytes_per_second" jsonschema_description:"bytes/s, ceiling of the pre-copy; 0 = none"`
	MaxDowntime Millis         `json:"max_downtime_ms" jsonschema_description:"ms; switchover is attempted when the rest fits in it; raised in steps towards it"`
	// Since 1.2.
	CPUDigest string `json:"cpu_digest,omitempty" jsonschema_description:"of the guest's CPU, as in capacity.host: what a destination's refusal of it is about; empty when unknown"`
}

// Kind implements [Message].
func (*Command) Kind() Kind { return KindCommand }

// Prediction is what the placer expected of a move; outcomes are paired with it.
type Prediction struct {
	Onset    Time    `json:"onset" jsonschema_description:"when the shortage is expected without the move"`
	Start    Time    `json:"start"`
	Duration Seconds `json:"duration_seconds" jsonschema_description:"seconds"`
	Downtime Millis  `json:"downtime_ms" jsonschema_description:"ms the guest stands still"`
	Volume   Bytes   `json:"volume_bytes" jsonschema_description:"bytes sent, all rounds"`
	Gain     Gain    `json:"gain"`
	Plain    *Plain  `json:"plain,omitempty" jsonschema_description:"the same by arithmetic alone, and between which sites; absent where the placer is older"`
}

// Phase is where a move stands, in order.
type Phase string

// The phases of a move.
const (
	PhaseAccepted   Phase = "accepted"
	PhasePrepare    Phase = "prepare"
	PhaseDisk       Phase = "disk"
	PhasePreCopy    Phase = "pre-copy"
	PhaseSwitchover Phase = "switchover"
	PhaseHandOver   Phase = "handed-over" // source has durably given the VM away
	PhaseFinish     Phase = "finish"
	PhaseResume     Phase = "resume"
	PhaseConfirm    Phase = "confirm"
	PhaseRollback   Phase = "rollback"
	PhaseDone       Phase = "done"
	PhaseUnknown    Phase = "unknown"
)

// Progress is a move under way: subject progress.<vm>, JSON, on each change of
// phase and at most twice a second.
type Progress struct {
	Command   CommandID      `json:"command"`
	Epoch     uint64         `json:"epoch" jsonschema_description:"the command's sequence number in MIGRATIONS"`
	VM        VMID           `json:"vm"`
	Host      HostID         `json:"host" jsonschema_description:"who reports"`
	Time      Time           `json:"time"`
	Phase     Phase          `json:"phase"`
	Round     int            `json:"round" jsonschema_description:"count of pre-copy iterations, from 1"`
	Total     Bytes          `json:"total_bytes" jsonschema_description:"bytes to send in all, as far as known"`
	Processed Bytes          `json:"processed_bytes" jsonschema_description:"bytes sent so far"`
	Remaining Bytes          `json:"remaining_bytes" jsonschema_description:"bytes still to send"`
	Speed     BytesPerSecond `json:"speed_bytes_per_second" jsonschema_description:"bytes/s being sent"`
	DirtyRate BytesPerSecond `json:"dirty_rate_bytes_per_second" jsonschema_description:"bytes/s of memory dirtied"`
	Limit     BytesPerSecond `json:"limit_bytes_per_second" jsonschema_description:"bytes/s, ceiling in force; 0 = none"`
	Elapsed   Seconds        `json:"elapsed_seconds" jsonschema_description:"seconds since the start"`
	Ports     []int          `json:"ports,omitempty" jsonschema_description:"number of each TCP port of the destination that the move alone sends to; absent until it has prepared them, or where libvirt leads"`
}

// Kind implements [Message].
func (*Progress) Kind() Kind { return KindProgress }

// Result is how a command ended.
type Result string

// The results of a command. Unknown is not an end: it holds until a person or
// later evidence resolves it.
const (
	ResultSucceeded Result = "succeeded"
	ResultFailed    Result = "failed"  // the VM is where it was
	ResultRefused   Result = "refused" // never started
	ResultUnknown   Result = "unknown"
)

// Outcome is how a command ended, by the host that led it: subject
// migrations.<vm>.outcome.<host>, JSON.
type Outcome struct {
	Command     CommandID  `json:"command"`
	Epoch       uint64     `json:"epoch" jsonschema_description:"the command's sequence in MIGRATIONS"`
	VM          VMID       `json:"vm"`
	Host        HostID     `json:"host" jsonschema_description:"who writes"`
	Source      HostID     `json:"source"`
	Destination HostID     `json:"destination"`
	Time        Time       `json:"time"`
	Result      Result     `json:"result"`
	Reason      Reason     `json:"reason"`
	RunsAt      HostID     `json:"runs_at" jsonschema_description:"where the VM was last seen running; empty when unknown"`
	SourceSeen  string     `json:"source_seen" jsonschema_description:"last state seen at the source: unreachable, absent, shut-off, paused, running"`
	DestSeen    string     `json:"destination_seen" jsonschema_description:"the same at the destination"`
	LifeSign    string     `json:"life_sign" jsonschema_description:"what showed that the guest lives: cpu, balloon, agent, net; empty when none"`
	Started     Time       `json:"started"`
	Duration    Seconds    `json:"duration_seconds" jsonschema_description:"seconds"`
	Downtime    Millis     `json:"downtime_ms" jsonschema_description:"ms, as libvirt measured it; 0 when not told"`
	Volume      Bytes      `json:"volume_bytes" jsonschema_description:"bytes sent, all rounds"`
	Rounds      int        `json:"rounds" jsonschema_description:"count of pre-copy iterations"`
	Predicted   Prediction `json:"predicted"`
}

// Kind implements [Message].
func (*Outcome) Kind() Kind { return KindOutcome }

// Effect is what a move achieved, against what would have happened without it:
// subject migrations.<vm>.effect, JSON.
type Effect struct {
	Command CommandID         `json:"command"`
	Epoch   uint64            `json:"epoch" jsonschema_description:"the command's sequence number in MIGRATIONS"`
	VM      VMID              `json:"vm"`
	Time    Time              `json:"time"`
	Steps   int               `json:"steps" jsonschema_description:"base steps compared after the move"`
	Terms   map[string]Change `json:"terms" jsonschema_description:"by <who>.<what>: vm.cpu, source.steal, ..."`
	Verdict string            `json:"verdict"`
}

// Change is one before/after with its counterfactual; unit by the term's name.
type Change struct {
	Before  float64 `json:"before" jsonschema_description:"before the move, in the term's unit"`
	After   float64 `json:"after" jsonschema_description:"after the move, in the term's unit"`
	Without float64 `json:"without" jsonschema_description:"expected without the move, in the term's unit"`
	Low     float64 `json:"low" jsonschema_description:"5 % bound of after - without, same unit"`
	High    float64 `json:"high" jsonschema_description:"95 % bound, same unit"`
}

// Kind implements [Message].
func (*Effect) Kind() Kind { return KindEffect }

// Op is what one actuator asks of another.
type Op string

// The requests of the handover. Each is idempotent for its (VM, epoch).
const (
	OpObserve Op = "observe"
	OpPrepare Op = "prepare"
	OpFinish  Op = "finish"
	OpResume  Op = "resume"
	OpRelease Op = "release"
)

// Request goes from the leading (source) actuator to the destination's: subject
// actuator.<host>.<op>, JSON, signed. It carries the signed command itself, so
// that the destination checks the authority with its own eyes.
type Request struct {
	Op        Op        `json:"op"`
	Command   CommandID `json:"command"`
	Epoch     uint64    `json:"epoch" jsonschema_description:"the command's sequence number in MIGRATIONS"`
	VM        VMID      `json:"vm"`
	From      HostID    `json:"from"`
	To        HostID    `json:"to"`
	Time      Time      `json:"time"`
	Expires   Time      `json:"expires" jsonschema_description:"not acted on after this"`
	Order     Signed    `json:"order" jsonschema_description:"the command as it was published, with its signature"`
	XML       string    `json:"xml" jsonschema_description:"prepare: domain XML from Begin3"`
	Cookie    []byte    `json:"cookie" jsonschema_description:"libvirt migration cookie of the phase"`
	Cancelled bool      `json:"cancelled" jsonschema_description:"finish: the transfer failed, drop the incoming guest"`

	Disks []DiskCopy `json:"disks,omitempty" jsonschema_description:"prepare: disks on the source's local storage, copied along"`
	Peer  *PeerLead  `json:"peer,omitempty" jsonschema_description:"prepare: libvirt itself shall lead the migration, peer to peer; absent in a handover"`
}

// DiskCopy is a disk that is copied along with its VM.
type DiskCopy struct {
	Target   string `json:"target" jsonschema_description:"as the guest sees it: vda"`
	Path     string `json:"path" jsonschema_description:"of its file, the same on both hosts"`
	Format   string `json:"format" jsonschema_description:"raw or qcow2"`
	Capacity Bytes  `json:"capacity_bytes" jsonschema_description:"bytes, as the guest sees it"`
}

// PeerLead asks for a peer-to-peer migration. The source holds the lease while it
// asks: a destination whose disk lock works cannot take it too, and that is the
// proof of it.
type PeerLead struct {
	Lease string `json:"lease" jsonschema_description:"file of the lease that the source holds, on storage that both hosts see"`
	Site  SiteID `json:"site" jsonschema_description:"of the source; empty when it does not know"`
}

// Kind implements [Message].
func (*Request) Kind() Kind { return KindRequest }

// Signed is a message as it stood on its subject, with its proof.
type Signed struct {
	Subject   string `json:"subject"`
	Payload   []byte `json:"payload"`
	Signature string `json:"signature"`
	Signer    string `json:"signer"`
	Sequence  uint64 `json:"sequence" jsonschema_description:"its sequence number in MIGRATIONS"`
}

// Reply answers a [Request], signed by the replying host.
type Reply struct {
	Command  CommandID `json:"command"`
	Epoch    uint64    `json:"epoch" jsonschema_description:"the command's sequence number in MIGRATIONS"`
	VM       VMID      `json:"vm"`
	From     HostID    `json:"from"`
	Nonce    string    `json:"nonce" jsonschema_description:"hash of the request it answers, so that an old reply cannot be passed off as new"`
	Time     Time      `json:"time"`
	Reason   Reason    `json:"reason" jsonschema_description:"ok, or why not"`
	Copy     string    `json:"copy" jsonschema_description:"state of this host's copy: absent, shut-off, paused, running"`
	Fence    uint64    `json:"fence" jsonschema_description:"highest epoch this host has durably seen for the VM"`
	Released uint64    `json:"released" jsonschema_description:"highest epoch this host has durably released; it refuses prepare, finish and resume up to it"`
	Resumed  uint64    `json:"resumed" jsonschema_description:"highest epoch with a durable resume intent: from then on this host alone may run the VM"`
	LifeSign string    `json:"life_sign"`
	Cookie   []byte    `json:"cookie"`
	URI      string    `json:"uri" jsonschema_description:"prepare: where the source's QEMU connects"`
	Downtime Millis    `json:"downtime_ms" jsonschema_description:"ms the guest stands still"`
	Volume   Bytes     `json:"volume_bytes" jsonschema_description:"bytes sent, all rounds"`

	PeerURI    string `json:"peer_uri,omitempty" jsonschema_description:"prepare, peer to peer: where the source's libvirt connects"`
	Lock       string `json:"lock,omitempty" jsonschema_description:"peer to peer: why this host's disk lock does not hold any more"`
	NoPostCopy string `json:"no_post_copy,omitempty" jsonschema_description:"prepare, peer to peer: why the move may not use post-copy"`
}

// Kind implements [Message].
func (*Reply) Kind() Kind { return KindReply }
