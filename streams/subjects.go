package streams

import (
	"strconv"

	"github.com/foreshift/foreshift/schemas"
)

// Names of the streams.
const (
	Metrics    = "METRICS"
	Steps      = "STEPS"
	Capacity   = "CAPACITY"
	Forecasts  = "FORECASTS"
	Pressure   = "PRESSURE"
	External   = "EXTERNAL"
	Models     = "MODELS"
	Progress   = "PROGRESS"
	Migrations = "MIGRATIONS"
	Plans      = "PLANS"
	Acts       = "ACTS"
	Audit      = "AUDIT"
)

// Names of the buckets and object stores.
const (
	BucketLeases    = "leases"
	BucketHosts     = "hosts"
	BucketVMs       = "vms"
	BucketPolicy    = "policy"
	BucketTunnels   = "tunnels"
	ObjectSnapshots = "snapshots"
	ObjectModels    = "models"
)

// Subjects are built here and nowhere else, from typed ids that are valid tokens.

func SubjectMetrics(h schemas.HostID) string      { return "metrics." + string(h) }
func SubjectSteps(partition int) string           { return "steps." + strconv.Itoa(partition) }
func SubjectCapacityHost(h schemas.HostID) string { return "capacity.host." + string(h) }

// SubjectCapacityLink orders the two sites, so that a link has one subject.
func SubjectCapacityLink(a, b schemas.SiteID) string {
	if b < a {
		a, b = b, a
	}
	return "capacity.link." + string(a) + "." + string(b)
}
func SubjectForecasts(partition int) string { return "forecasts." + strconv.Itoa(partition) }
func SubjectPressureVM(v schemas.VMID, c schemas.Cause) string {
	return "pressure.vm." + v.String() + "." + string(c)
}
func SubjectPressureHost(h schemas.HostID) string { return "pressure.host." + string(h) }
func SubjectBenefit(v schemas.VMID) string        { return "benefit." + v.String() }
func SubjectShortfall(s schemas.SiteID) string    { return "shortfall." + string(s) }
func SubjectCalendar(id string) string            { return "calendar." + id }
func SubjectExternal(id string) string            { return "external." + id }
func SubjectModel(name string, version uint64) string {
	return "models." + name + "." + strconv.FormatUint(version, 10)
}
func SubjectProgress(v schemas.VMID) string { return "progress." + v.String() }
func SubjectCommand(v schemas.VMID, source, destination schemas.HostID) string {
	return "migrations." + v.String() + ".command." + string(source) + "." + string(destination)
}
func SubjectOutcome(v schemas.VMID, h schemas.HostID) string {
	return "migrations." + v.String() + ".outcome." + string(h)
}
func SubjectEffect(v schemas.VMID) string    { return "migrations." + v.String() + ".effect" }
func SubjectPlan(p schemas.PlanID) string    { return "plans." + string(p) }
func SubjectAct(k schemas.ActKind) string    { return "acts." + string(k) }
func SubjectAudit(stream string) string      { return "audit." + stream }
func SubjectDeadLetter(stream string) string { return "dlq." + stream }
func SubjectActuator(h schemas.HostID, op schemas.Op) string {
	return "actuator." + string(h) + "." + string(op)
}

// LinkKey names the link between two sites: the key of its share-out in bucket
// tunnels and of the lease of who shares it out.
func LinkKey(a, b schemas.SiteID) string {
	if b < a {
		a, b = b, a
	}
	return string(a) + "=" + string(b)
}

// SubjectTunnel is where the share-out of a link is kept.
func SubjectTunnel(a, b schemas.SiteID) string { return SubjectKV(BucketTunnels, LinkKey(a, b)) }

// SubjectTunnelPeer is where a site announces its end of the tunnel to a peer.
func SubjectTunnelPeer(site, peer schemas.SiteID) string {
	return SubjectTunnel(site, peer) + "." + string(site)
}

// SubjectPolicy is where the current policy is kept: a key of bucket policy.
const SubjectPolicy = "$KV." + BucketPolicy + ".current"

// RecordOf is the filter under which all of a VM's moves are recorded: every
// writer of migrations publishes with the expectation on it.
func RecordOf(v schemas.VMID) string { return "migrations." + v.String() + ".>" }
