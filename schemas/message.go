package schemas

// Kind names a message type. With the major version it is the message's schema:
// the header Foreshift-Schema holds "kind/major.minor".
type Kind string

// The kinds of message.
const (
	KindMetrics      Kind = "metrics"
	KindSteps        Kind = "steps"
	KindForecasts    Kind = "forecasts"
	KindCapacityHost Kind = "capacity.host"
	KindCapacityLink Kind = "capacity.link"
	KindPressureVM   Kind = "pressure.vm"
	KindPressureHost Kind = "pressure.host"
	KindBenefit      Kind = "benefit"
	KindShortfall    Kind = "shortfall"
	KindCalendar     Kind = "calendar"
	KindExternal     Kind = "external"
	KindModel        Kind = "model"
	KindProgress     Kind = "progress"
	KindCommand      Kind = "command"
	KindOutcome      Kind = "outcome"
	KindEffect       Kind = "effect"
	KindPlan         Kind = "plan"
	KindAct          Kind = "act"
	KindAudit        Kind = "audit"
	KindDeadLetter   Kind = "deadletter"
	KindHostEntry    Kind = "host"
	KindVMEntry      Kind = "vm"
	KindPolicy       Kind = "policy"
	KindTunnel       Kind = "tunnel"
	KindTunnelPeer   Kind = "tunnel.peer"
	KindRequest      Kind = "actuator.request"
	KindReply        Kind = "actuator.reply"
)

// Message is a value that travels on the bus. Validate reports the first field
// that is out of range, by its wire name; it is called before sending and after
// receiving.
type Message interface {
	Kind() Kind
	Validate() error
}

// Headers of every message.
const (
	HeaderSchema    = "Foreshift-Schema"    // kind/major.minor
	HeaderLease     = "Foreshift-Lease"     // revision of the writer's lease, decimal
	HeaderSignature = "Foreshift-Signature" // nkeys signature over subject and payload, see streams
	HeaderSigner    = "Foreshift-Signer"    // public nkey of the signer
	HeaderTrace     = "traceparent"         // W3C trace context
	HeaderSeen      = "Foreshift-Seen"      // what the decision behind it had read last: STREAM=sequence, by commas
)
