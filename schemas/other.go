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
	// Since 1.1.
	Reserved BytesPerSecond `json:"reserved_bytes_per_second" jsonschema_description:"bytes/s guaranteed to all that is no move"`
	Other    BytesPerSecond `json:"other_bytes_per_second" jsonschema_description:"bytes/s that all else takes, as last measured"`
	Left     BytesPerSecond `json:"left_bytes_per_second" jsonschema_description:"bytes/s that one more move could have without taking from the others' floors and deadlines"`
}

// Share is what one move may use of a link.
type Share struct {
	Command CommandID      `json:"command"`
	VM      VMID           `json:"vm"`
	Rate    BytesPerSecond `json:"rate_bytes_per_second" jsonschema_description:"bytes/s it may use"`
	// Since 1.1.
	Floor       BytesPerSecond `json:"floor_bytes_per_second" jsonschema_description:"bytes/s below which it does not converge: its dirty rate with a margin"`
	Need        BytesPerSecond `json:"need_bytes_per_second" jsonschema_description:"bytes/s that end it before its deadline"`
	Source      HostID         `json:"source"`
	Destination HostID         `json:"destination"`
	Waits       bool           `json:"waits" jsonschema_description:"it must not start yet"`
	Reason      Reason         `json:"reason" jsonschema_description:"why it waits, or why its rate is below its floor"`
	Ports       []int          `json:"ports,omitempty" jsonschema_description:"number of each TCP port of the destination by which the gateway tells its packets from another move's between the same hosts"`
}

// Kind implements [Message].
func (*Tunnel) Kind() Kind { return KindTunnel }

// TunnelPeer announces a site's end of a tunnel: key <link>.<site> of bucket tunnels,
// JSON, signed. Private keys never leave the host that made them.
type TunnelPeer struct {
	Site     SiteID      `json:"site"`
	Peer     SiteID      `json:"peer" jsonschema_description:"the site at the other end"`
	Time     Time        `json:"time"`
	Endpoint string      `json:"endpoint" jsonschema_description:"HOST:PORT that the peer sends to"`
	Keys     []TunnelKey `json:"keys" jsonschema_description:"the one in force and, while keys are changed, the next"`
}

// TunnelKey is one public key of a tunnel's end, with the interface it belongs to.
type TunnelKey struct {
	Epoch   int    `json:"epoch" jsonschema_description:"number of the key, from 1; both ends use the highest that both have announced"`
	Public  string `json:"public" jsonschema_description:"WireGuard public key, 32 bytes in base64"`
	Address string `json:"address" jsonschema_description:"address inside the tunnel; the only one accepted from this key"`
	Port    int    `json:"port" jsonschema_description:"UDP port it listens on; 0: the endpoint's"`
}

// Kind implements [Message].
func (*TunnelPeer) Kind() Kind { return KindTunnelPeer }
