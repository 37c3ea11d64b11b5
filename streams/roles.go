package streams

import (
	"fmt"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// The roles. "agent-<host>" and "actuator-<host>" are the same bound to one host;
// the bare names serve all hosts of a machine that simulates them.
const (
	RoleAgent      = "agent"
	RoleForecaster = "forecaster"
	RolePlacer     = "placer"
	RoleActuatorID = "actuator"
	RoleTunnel     = "tunnel"
	RoleRecorder   = "recorder"
	RoleImporter   = "importer"
	RoleOperator   = "operator"
	RoleInspector  = "inspector"
	RoleViewer     = "viewer"
	RoleAdmin      = "admin"
)

// RoleActuator is the role of a host's own actuator.
func RoleActuator(h schemas.HostID) string { return RoleActuatorID + "-" + string(h) }

// RoleAgentOf is the role of a host's own agent.
func RoleAgentOf(h schemas.HostID) string { return RoleAgent + "-" + string(h) }

// access is what a role may do in one account.
type access struct {
	writes   []string // subjects it publishes to, dead letters apart
	reads    []string // streams it reads with ephemeral ordered consumers
	gets     []string // streams of which it reads single messages only
	objects  []string // object stores it reads and writes
	hears    []string // subjects it subscribes to without a stream
	asks     []string // subjects of requests
	found    bool     // answers `nats micro` of an inspector
	durables bool     // works through its durable consumers of MIGRATIONS
	api      []string // further subjects of the JetStream API
	admin    bool     // makes and changes streams
}

// role is one row of the table of roles.
type role struct {
	name  string
	doc   string
	signs bool
	in    map[Account]access
}

// people reports a role of people, who write no dead letters: what they cannot
// read, a service has refused already.
func (r *role) people() bool {
	switch r.name {
	case RoleOperator, RoleInspector, RoleViewer, RoleAdmin:
		return true
	}
	return false
}

// telemetry are the streams of TEL that people look at.
var telemetry = []string{Metrics, Steps, Capacity, Forecasts, Pressure, External, Models, Progress, DeadLetters, "KV_" + BucketLeases, "KV_" + BucketHosts, "KV_" + BucketVMs}

// recorded are the streams whose copies are in AUDIT.
var recorded = []string{Migrations, Plans, Acts, "KV_" + BucketPolicy}

var leases = []string{"KV_" + BucketLeases}

// roles is the table of roles. "%h" stands for the host; it is "*" for the roles
// that serve all hosts.
var roles = []role{
	{RoleAgent, "measures one host, or the simulated ones", false, map[Account]access{
		Tel: {writes: []string{"metrics.%h", "capacity.host.%h", "capacity.link.*.*", "$KV.hosts.%h", "$KV.vms.*", "$KV.leases.>"}, gets: leases}}},
	{RoleForecaster, "forecasts, and tells who outgrows its own allocation", false, map[Account]access{
		Tel: {writes: []string{"steps.*", "forecasts.*", "pressure.vm.*.own_limit", "models.*.*", "$KV.leases.>"},
			reads: []string{Metrics, Steps, External, Models, "KV_" + BucketVMs, "KV_" + BucketLeases}, objects: []string{ObjectSnapshots, ObjectModels}, found: true},
		Ctrl: {writes: []string{"migrations.*.effect"}, reads: []string{Migrations}}}},
	{RolePlacer, "decides what moves", true, map[Account]access{
		Tel: {writes: []string{"pressure.vm.*.host_contention", "pressure.host.*", "benefit.*", "shortfall.*", "$KV.leases.>"},
			reads: []string{Forecasts, Pressure, Capacity, Steps}, gets: leases, objects: []string{ObjectSnapshots}, found: true},
		Ctrl: {writes: []string{"migrations.*.command.*.*", "plans.*", "acts.heartbeat", "acts.policy", "$KV.policy.>"},
			reads: []string{Migrations, Acts, Plans, "KV_" + BucketPolicy, "KV_" + BucketTunnels}}}},
	{RoleActuatorID, "carries moves out on its host", true, map[Account]access{
		Tel: {writes: []string{"progress.*"}},
		Ctrl: {writes: []string{"migrations.*.outcome.%h"}, asks: []string{"actuator.*.*"}, hears: []string{"actuator.%h.*"},
			reads: []string{Acts, "KV_" + BucketTunnels}, gets: []string{Migrations}, durables: true}}},
	{RoleTunnel, "serves the tunnels of a site", true, map[Account]access{
		Tel:  {writes: []string{"capacity.link.*.*", "$KV.leases.>"}, reads: []string{Progress, Capacity}, gets: leases},
		Ctrl: {writes: []string{"$KV.tunnels.*", "$KV.tunnels.*.*"}, reads: []string{Migrations, "KV_" + BucketTunnels}}}},
	{RoleRecorder, "copies what matters into the audit trail", true, map[Account]access{
		Ctrl:       {reads: []string{Migrations, Plans, Acts, "KV_" + BucketPolicy, "KV_" + BucketTunnels}},
		AuditTrail: {writes: []string{"audit.*"}, reads: []string{Audit}}}},
	{RoleImporter, "fills the history from elsewhere", false, map[Account]access{
		Tel: {writes: []string{"steps.*"}, gets: []string{Steps}}}},
	{RoleOperator, "people and the console: acts, the calendar, external series", true, map[Account]access{
		Tel:        {writes: []string{"calendar.*", "external.*"}, reads: telemetry},
		Ctrl:       {writes: []string{"acts.*"}},
		AuditTrail: {reads: []string{Audit}}}},
	{RoleInspector, "the nats CLI on telemetry; can inject telemetry, so for operators only", false, map[Account]access{
		Tel: {reads: telemetry, hears: subjectsOf(Tel), api: []string{"$JS.API.INFO", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.CONSUMER.LIST.*", "$JS.API.CONSUMER.NAMES.*", "$SRV.>"}}}},
	{RoleViewer, "looks on", false, map[Account]access{
		Tel:        {hears: subjectsOf(Tel)},
		AuditTrail: {reads: []string{Audit}}}},
	{RoleAdmin, "`foreshift streams apply`: makes and changes streams", false, map[Account]access{
		Tel: {admin: true, writes: []string{"$KV.>"}}, Ctrl: {admin: true, writes: []string{"$KV.>"}}, AuditTrail: {admin: true}}},
}

// subjectsOf are the message subjects of an account, by their first word, as a
// person subscribes to them: "pressure.>".
func subjectsOf(a Account) []string {
	out := []string{}
	for i := range table {
		if table[i].Account != a || table[i].Bucket == BucketLeases {
			continue
		}
		for _, sub := range table[i].Subjects {
			head, rest, _ := strings.Cut(sub.Pattern, ".")
			if head == "$KV" {
				key, _, _ := strings.Cut(rest, ".")
				head += "." + key
			}
			if !slices.Contains(out, head+".>") {
				out = append(out, head+".>")
			}
		}
	}
	return out
}

// boundRole is a role with its host, "*" for all.
type boundRole struct {
	role
	host string
}

// roleOf finds a role by the name of its credentials.
func roleOf(name string) (boundRole, error) {
	for _, r := range roles {
		if r.name == name {
			return boundRole{r, "*"}, nil
		}
	}
	for _, base := range []string{RoleAgent, RoleActuatorID} {
		if host, ok := strings.CutPrefix(name, base+"-"); ok {
			if err := schemas.CheckToken("host", host); err != nil {
				return boundRole{}, fmt.Errorf("role %s: %w", name, err)
			}
			r, err := roleOf(base)
			r.host = host
			return r, err
		}
	}
	return boundRole{}, fmt.Errorf("role %q: not one of %s, agent-<host>, actuator-<host>", name, strings.Join(RoleNames(), ", "))
}

// RoleNames are the names of the roles that are not bound to a host.
func RoleNames() []string {
	out := make([]string, len(roles))
	for i := range roles {
		out[i] = roles[i].name
	}
	return out
}

// AccountsOf are the accounts in which a role has a user.
func AccountsOf(name string) []Account {
	r, err := roleOf(name)
	if err != nil {
		return nil
	}
	var out []Account
	for _, a := range Accounts {
		if _, ok := r.in[a]; ok {
			out = append(out, a)
		}
	}
	return out
}

// Signs reports whether a role holds a signing key.
func Signs(name string) bool {
	r, err := roleOf(name)
	return err == nil && r.signs
}

// InboxPrefix is where a role is answered; no other role can listen there.
func InboxPrefix(name string) string { return "_INBOX_" + name }

// replyPrefix is where an actuator's requests are answered, apart from its inbox.
func replyPrefix(name string) string {
	host, ok := strings.CutPrefix(name, RoleActuatorID+"-")
	if !ok {
		host = "all"
	}
	return "_INBOX_actuator." + host
}

// mayRead reports whether a role reads a stream with consumers of its own.
func mayRead(name string, a Account, stream string) bool {
	r, err := roleOf(name)
	if err != nil {
		return false
	}
	in := r.in[a]
	return in.admin || slices.Contains(in.reads, stream)
}

// MayWrite reports whether a role publishes to a subject of the table.
func MayWrite(name, subject string) bool {
	rt, err := routeOf(subject)
	if err != nil {
		return false
	}
	p, err := PermissionsOf(name, rt.stream.Account, nil)
	return err == nil && slices.ContainsFunc(p.Publish, func(f string) bool { return matches(f, subject) })
}
