package schemas

// Calendar is a known event of the future: subject calendar.<id>, JSON.
type Calendar struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Class    string            `json:"class" jsonschema_description:"events of one class share a learnt effect: campaign, batch, holiday, ..."`
	Start    Time              `json:"start"`
	End      Time              `json:"end"`
	Repeat   string            `json:"repeat" jsonschema_description:"RFC 5545 recurrence rule, empty when once"`
	Zone     string            `json:"zone" jsonschema_description:"IANA time zone of the recurrence; empty = UTC"`
	Match    map[string]string `json:"match" jsonschema_description:"labels of the VMs concerned; empty = all"`
	Expected map[string]Ratio  `json:"expected" jsonschema_description:"by resource: expected change of demand as a ratio, .4 = +40 %"`
	Removed  bool              `json:"removed"`
}

// Kind implements [Message].
func (*Calendar) Kind() Kind { return KindCalendar }

// External is a numeric series known for the future: subject external.<id>, JSON.
type External struct {
	ID    string            `json:"id"`
	Name  string            `json:"name"`
	Match map[string]string `json:"match"`
	Start Time              `json:"start"`
	Every Seconds           `json:"every_seconds" jsonschema_description:"seconds from one value to the next"`
	Value []float64         `json:"value" jsonschema_description:"one finite number per interval, in the unit of the series"`
}

// Kind implements [Message].
func (*External) Kind() Kind { return KindExternal }

// Model announces a version of learnt state: subject models.<name>.<version>,
// JSON; the bytes are in the object store models under the same name.
type Model struct {
	Name    string             `json:"name"`
	Version uint64             `json:"version" jsonschema_description:"version number, from 1"`
	Time    Time               `json:"time"`
	Step    Step               `json:"step" jsonschema_description:"base step from which it is in force"`
	Digest  string             `json:"digest" jsonschema_description:"xxhash64 of the object, hex"`
	Size    int                `json:"size_bytes"`
	Scores  map[string]float64 `json:"scores" jsonschema_description:"how it did where it was judged, by the name of the measure, which carries the unit"`
}

// Kind implements [Message].
func (*Model) Kind() Kind { return KindModel }

// Audit is one link of the hash chain: subject audit.<stream>, JSON.
type Audit struct {
	Stream   string              `json:"stream"`
	Sequence uint64              `json:"sequence" jsonschema_description:"sequence number of the original in its stream"`
	Subject  string              `json:"subject"`
	Time     Time                `json:"time" jsonschema_description:"stream time of the original"`
	Header   map[string][]string `json:"header"`
	Payload  []byte              `json:"payload"`
	Previous string              `json:"previous" jsonschema_description:"hash of the record before, hex; empty for the first"`
	Hash     string              `json:"hash" jsonschema_description:"sha256 over previous and all fields above, hex"`
}

// Kind implements [Message].
func (*Audit) Kind() Kind { return KindAudit }

// DeadLetter is a message that could not be used: subject dlq.<stream>, JSON.
type DeadLetter struct {
	Stream   string              `json:"stream"`
	Sequence uint64              `json:"sequence" jsonschema_description:"sequence number of the original in its stream"`
	Subject  string              `json:"subject"`
	Time     Time                `json:"time"`
	Service  string              `json:"service" jsonschema_description:"who refused it"`
	Reason   string              `json:"reason"`
	Header   map[string][]string `json:"header"`
	Payload  []byte              `json:"payload" jsonschema_description:"the first 64 KiB of it"`
	Size     int                 `json:"size_bytes" jsonschema_description:"of the whole payload"`
}

// Kind implements [Message].
func (*DeadLetter) Kind() Kind { return KindDeadLetter }

// Tunnel is the share-out of a link: key <link> of bucket tunnels, JSON.
type Tunnel struct {
	A      SiteID         `json:"site_a"`
	B      SiteID         `json:"site_b"`
	Time   Time           `json:"time"`
	Lease  uint64         `json:"lease" jsonschema_description:"revision number of the writer's lease"`
	Rate   BytesPerSecond `json:"rate_bytes_per_second" jsonschema_description:"shaped rate of the whole link"`
	Shares []Share        `json:"shares"`
}

// Share is what one move may use of a link.
type Share struct {
	Command CommandID      `json:"command"`
	VM      VMID           `json:"vm"`
	Rate    BytesPerSecond `json:"rate_bytes_per_second" jsonschema_description:"bytes/s it may use"`
}

// Kind implements [Message].
func (*Tunnel) Kind() Kind { return KindTunnel }
