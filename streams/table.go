package streams

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Account is one of the walls of the bus: nothing passes from one account to
// another, so that who can read telemetry cannot reach commands by any route.
type Account string

// The accounts.
const (
	Tel        Account = "TEL"   // telemetry, forecasts, pressures
	Ctrl       Account = "CTRL"  // commands, plans, acts, policy
	AuditTrail Account = "AUDIT" // the hash-chained copies
	Sys        Account = "SYS"   // the server's own; nobody of Foreshift is in it
)

// Accounts lists those that hold streams.
var Accounts = []Account{Tel, Ctrl, AuditTrail}

// DeadLetters is the stream of dead letters; each account has its own.
const DeadLetters = "DLQ"

// MaxPayload is the largest message of CTRL in bytes: a request of the handover
// carries domain XML and libvirt's cookies.
const MaxPayload = 8 << 20

// maxPlan bounds a plan: its audit record, in base64 and with its headers, must
// still be one message.
const maxPlan = 5 << 20

// Subject is one kind of message of a stream.
type Subject struct {
	Pattern string       // with NATS wildcards
	Kind    schemas.Kind // its payload
	Note    string       // for the generated page
}

// Stream is one row of the table: all there is to know about a stream, a bucket
// or an object store.
type Stream struct {
	Name       string
	Account    Account
	Doc        string
	Subjects   []Subject
	MaxAge     time.Duration // 0: kept until MaxBytes
	MaxBytes   int64         // at scale 1, see ApplyOptions.Scale
	MaxMsg     int32
	Window     time.Duration // in which Nats-Msg-Id drops doubles
	DiscardNew bool          // full: refuse the writer rather than forget the oldest
	NoDelete   bool          // deny_delete and deny_purge
	Direct     bool          // any replica may answer a read; never where a read decides a write
	History    int64         // buckets: revisions kept of a key
	Bucket     string        // KV bucket of that name
	Objects    string        // object store of that name
}

const (
	day = 24 * time.Hour
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// table is the one table. Its order is the order of Apply and of the page.
var table = []Stream{
	{Name: Metrics, Account: Tel, Doc: "samples of the agents, one message per host and flush",
		Subjects: []Subject{{"metrics.*", schemas.KindMetrics, "metrics.<host>"}},
		MaxAge:   2 * day, MaxBytes: 64 * gib, MaxMsg: 1 * mib, Direct: true},
	{Name: Steps, Account: Tel, Doc: "closed base steps: the durable history",
		Subjects: []Subject{{"steps.*", schemas.KindSteps, "steps.<partition>"}},
		MaxAge:   90 * day, MaxBytes: 128 * gib, MaxMsg: 4 * mib, Direct: false},
	{Name: Capacity, Account: Tel, Doc: "what hosts and links have, and whom hosts carry",
		Subjects: []Subject{{"capacity.host.*", schemas.KindCapacityHost, "capacity.host.<host>"}, {"capacity.link.*.*", schemas.KindCapacityLink, "capacity.link.<site-a>.<site-b>, sites in order"}},
		MaxAge:   2 * day, MaxBytes: 8 * gib, MaxMsg: 1 * mib, Direct: true},
	{Name: Forecasts, Account: Tel, Doc: "quantiles and joint scenarios, chunks of up to 64 VMs",
		Subjects: []Subject{{"forecasts.*", schemas.KindForecasts, "forecasts.<partition>"}},
		MaxAge:   6 * time.Hour, MaxBytes: 16 * gib, MaxMsg: 1 * mib, Direct: true},
	{Name: Pressure, Account: Tel, Doc: "who will be short, what a move would bring, what no move can mend",
		Subjects: []Subject{{"pressure.vm.*.*", schemas.KindPressureVM, "pressure.vm.<vm>.{own_limit,host_contention}"}, {"pressure.host.*", schemas.KindPressureHost, "pressure.host.<host>"},
			{"benefit.*", schemas.KindBenefit, "benefit.<vm>"}, {"shortfall.*", schemas.KindShortfall, "shortfall.<site>"}},
		MaxAge: 30 * day, MaxBytes: 8 * gib, MaxMsg: 1 * mib, Direct: true},
	{Name: External, Account: Tel, Doc: "what is known of the future: calendar entries and external series",
		Subjects: []Subject{{"calendar.*", schemas.KindCalendar, "calendar.<id>"}, {"external.*", schemas.KindExternal, "external.<id>"}},
		MaxAge:   365 * day, MaxBytes: 1 * gib, MaxMsg: 4 * mib, Direct: true},
	{Name: Models, Account: Tel, Doc: "versions of learnt state; the bytes are in the object store models",
		Subjects: []Subject{{"models.*.*", schemas.KindModel, "models.<name>.<version>"}},
		MaxBytes: 64 * mib, MaxMsg: 256 * kib, Direct: true},
	{Name: Progress, Account: Tel, Doc: "moves under way",
		Subjects: []Subject{{"progress.*", schemas.KindProgress, "progress.<vm>"}},
		MaxAge:   7 * day, MaxBytes: 1 * gib, MaxMsg: 64 * kib, Direct: true},
	{Name: DeadLetters, Account: Tel, Doc: "telemetry that could not be used, with the reason",
		Subjects: []Subject{{"dlq.*", schemas.KindDeadLetter, "dlq.<stream>"}},
		MaxAge:   30 * day, MaxBytes: 1 * gib, MaxMsg: 1 * mib, Direct: true},
	{Name: "KV_" + BucketLeases, Account: Tel, Bucket: BucketLeases, Doc: "who does what now: liveness, never safety", MaxAge: day, MaxBytes: 64 * mib, MaxMsg: 4 * kib, History: 1},
	{Name: "KV_" + BucketHosts, Account: Tel, Bucket: BucketHosts, Doc: "host id to name, site and labels", MaxBytes: 256 * mib, MaxMsg: 64 * kib, History: 1, Direct: true,
		Subjects: []Subject{{"$KV.hosts.*", schemas.KindHostEntry, "key <host>"}}},
	{Name: "KV_" + BucketVMs, Account: Tel, Bucket: BucketVMs, Doc: "VM id to name and labels", MaxBytes: 1 * gib, MaxMsg: 64 * kib, History: 1, Direct: true,
		Subjects: []Subject{{"$KV.vms.*", schemas.KindVMEntry, "key <vm>"}}},
	{Name: "OBJ_" + ObjectSnapshots, Account: Tel, Objects: ObjectSnapshots, Doc: "state of the services with its cut", MaxBytes: 32 * gib, Direct: true},
	{Name: "OBJ_" + ObjectModels, Account: Tel, Objects: ObjectModels, Doc: "weights, priors, calibration maps", MaxBytes: 8 * gib, Direct: true},

	{Name: Migrations, Account: Ctrl, Doc: "the record of every VM's moves: commands, outcomes, effects",
		Subjects: []Subject{{"migrations.*.command.*.*", schemas.KindCommand, "migrations.<vm>.command.<source>.<destination>, signed"}, {"migrations.*.outcome.*", schemas.KindOutcome, "migrations.<vm>.outcome.<host>, signed"},
			{"migrations.*.effect", schemas.KindEffect, "migrations.<vm>.effect"}},
		MaxAge: 365 * day, MaxBytes: 8 * gib, MaxMsg: 1 * mib, NoDelete: true, DiscardNew: true},
	{Name: Plans, Account: Ctrl, Doc: "decisions with everything they declined, and their cut",
		Subjects: []Subject{{"plans.*", schemas.KindPlan, "plans.<plan>"}},
		MaxAge:   365 * day, MaxBytes: 32 * gib, MaxMsg: maxPlan, NoDelete: true},
	{Name: Acts, Account: Ctrl, Doc: "words of operators, and the active placer's heartbeat",
		Subjects: []Subject{{"acts.*", schemas.KindAct, "acts.<act>, signed"}},
		MaxAge:   365 * day, MaxBytes: 8 * gib, MaxMsg: 1 * mib, NoDelete: true},
	{Name: DeadLetters, Account: Ctrl, Doc: "commands, plans and acts that could not be used, with the reason",
		Subjects: []Subject{{"dlq.*", schemas.KindDeadLetter, "dlq.<stream>"}},
		MaxAge:   365 * day, MaxBytes: 1 * gib, MaxMsg: 1 * mib},
	{Name: "KV_" + BucketPolicy, Account: Ctrl, Bucket: BucketPolicy, Doc: "versions of the policy", MaxBytes: 256 * mib, MaxMsg: 1 * mib, History: 64,
		Subjects: []Subject{{"$KV.policy.*", schemas.KindPolicy, "key current"}}},
	{Name: "KV_" + BucketTunnels, Account: Ctrl, Bucket: BucketTunnels, Doc: "share-out of each link between sites", MaxBytes: 64 * mib, MaxMsg: 256 * kib, History: 1,
		Subjects: []Subject{{"$KV.tunnels.*", schemas.KindTunnel, "key <site-a>=<site-b>, sites in order, signed"}, {"$KV.tunnels.*.*", schemas.KindTunnelPeer, "key <site-a>=<site-b>.<site>, signed"}}},

	{Name: Audit, Account: AuditTrail, Doc: "hash-chained copies of MIGRATIONS, PLANS, ACTS and the revisions of the policy",
		Subjects: []Subject{{"audit.*", schemas.KindAudit, "audit.<stream>"}},
		MaxBytes: 128 * gib, MaxMsg: MaxPayload, NoDelete: true, DiscardNew: true},
	{Name: DeadLetters, Account: AuditTrail, Doc: "audit records that could not be read",
		Subjects: []Subject{{"dlq.*", schemas.KindDeadLetter, "dlq.<stream>"}},
		MaxAge:   365 * day, MaxBytes: 256 * mib, MaxMsg: 1 * mib},
}

// handover are the request/reply subjects between actuators; no stream keeps them.
var handover = []Subject{{"actuator.*.*", schemas.KindRequest, "actuator.<host>.{observe,prepare,finish,resume,release}, signed; answered by a signed " + string(schemas.KindReply)}}

// Table gives a copy of the whole table.
func Table() []Stream { return slices.Clone(table) }

// StreamOf gives the row of a stream: buckets are KV_<bucket>, object stores
// OBJ_<name>. DLQ is in every account: the one of TEL is given.
func StreamOf(name string) (Stream, error) {
	for i := range table {
		if table[i].Name == name {
			return table[i], nil
		}
	}
	return Stream{}, fmt.Errorf("stream %q: not in the table of streams", name)
}

// StreamFor gives the row of the stream that keeps a subject.
func StreamFor(subject string) (Stream, error) {
	r, err := routeOf(subject)
	if err != nil {
		return Stream{}, err
	}
	return *r.stream, nil
}

// route is where a subject belongs.
type route struct {
	stream *Stream
	kind   schemas.Kind
}

// name is the stream's, "none" when the subject belongs to none.
func (r route) name() string {
	if r.stream == nil {
		return "none"
	}
	return r.stream.Name
}

// routeOf finds the stream of a message's subject. Dead letters go to the account
// of the stream they name.
func routeOf(subject string) (route, error) {
	head, rest, _ := strings.Cut(subject, ".")
	if head == "dlq" {
		of, err := StreamOf(rest)
		if err != nil {
			return route{}, fmt.Errorf("subject %q: %w", subject, err)
		}
		for i := range table {
			if table[i].Name == DeadLetters && table[i].Account == of.Account {
				return route{&table[i], schemas.KindDeadLetter}, nil
			}
		}
	}
	for i := range table {
		s := &table[i]
		for j := range s.Subjects {
			if matches(s.Subjects[j].Pattern, subject) {
				return route{s, s.Subjects[j].Kind}, nil
			}
		}
	}
	return route{}, fmt.Errorf("subject %q: belongs to no stream", subject)
}

// matches reports whether a subject without wildcards falls under a pattern. It
// allocates nothing: it runs for every message.
func matches(pattern, subject string) bool {
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		if p == ">" {
			return subject != ""
		}
		s, srest, smore := strings.Cut(subject, ".")
		if s == "" || p != "*" && p != s {
			return false
		}
		if !pmore || !smore {
			return pmore == smore
		}
		pattern, subject = prest, srest
	}
}

// patterns are the subjects of the stream.
func (s *Stream) patterns() []string {
	switch {
	case s.Bucket != "":
		return []string{"$KV." + s.Bucket + ".>"}
	case s.Objects != "":
		return []string{"$O." + s.Objects + ".C.>", "$O." + s.Objects + ".M.>"}
	}
	out := make([]string, len(s.Subjects))
	for i := range s.Subjects {
		out[i] = s.Subjects[i].Pattern
	}
	return out
}

// SubjectKV is the subject of a key of a bucket: publishing to it sets the key.
func SubjectKV(bucket, key string) string { return "$KV." + bucket + "." + key }

// Durable is a consumer that Apply makes and a service works through.
type Durable struct {
	Name, Stream, Filter string
	Role                 string // who works through it
}

// DurableActuator is the name of a host's durable consumer of commands.
func DurableActuator(h schemas.HostID) string { return "actuator-" + string(h) }

// Durables are those of a fleet of hosts.
func Durables(hosts []schemas.HostID) []Durable {
	out := make([]Durable, 0, len(hosts))
	for _, h := range hosts {
		out = append(out, Durable{Name: DurableActuator(h), Stream: Migrations, Filter: "migrations.*.command." + string(h) + ".*", Role: RoleActuator(h)})
	}
	return out
}
