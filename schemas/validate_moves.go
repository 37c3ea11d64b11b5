package schemas

import (
	"encoding/base64"
	"net"
	"net/netip"
)

func (r *Reason) check(c *check) {
	c.text("code", string(r.Code), 64)
	c.text("detail", r.Detail, MaxText)
}

func (g *Gain) check(c *check) {
	amount(c, "before_resource_seconds", g.Before)
	amount(c, "after_resource_seconds", g.After)
	amount(c, "cost_resource_seconds", g.Cost)
	finite(c, "benefit_resource_seconds", g.Benefit)
	share(c, "benefit_ratio", g.Ratio)
}

func (p *Prediction) check(c *check) {
	c.optWhen("onset", p.Onset)
	c.optWhen("start", p.Start)
	amount(c, "duration_seconds", p.Duration)
	amount(c, "downtime_ms", p.Downtime)
	amount(c, "volume_bytes", p.Volume)
	c.under("gain", p.Gain.check)
	if p.Plain != nil {
		c.under("plain", p.Plain.check)
	}
}

func (c *check) declines(field string, ds []Decline) {
	c.count(field, len(ds), MaxDeclines)
	for i := range ds {
		if c.err != nil {
			return
		}
		c.in(field, i, func(c *check) {
			optToken(c, "host", ds[i].Host)
			c.under("reason", ds[i].Reason.check)
			finite(c, "score_resource_seconds", ds[i].Score)
		})
	}
}

// Validate implements [Message].
func (m *Benefit) Validate() error {
	var c check
	c.vm("vm", m.VM)
	token(&c, "host", m.Host)
	optToken(&c, "destination", m.Destination)
	c.when("time", m.Time)
	c.under("gain", m.Gain.check)
	c.under("reason", m.Reason.check)
	c.declines("why_not", m.WhyNot)
	return c.err
}

func (c *check) way(source, destination HostID) {
	token(c, "source", source)
	token(c, "destination", destination)
	if source == destination {
		c.fail("destination", "is the source itself, %q", clip(string(source)))
	}
}

// Validate implements [Message].
func (m *Command) Validate() error {
	var c check
	token(&c, "id", m.ID)
	token(&c, "plan", m.Plan)
	c.text("plan_hash", m.PlanHash, 64)
	c.vm("vm", m.VM)
	c.text("name", m.Name, MaxName)
	c.way(m.Source, m.Destination)
	c.when("issued", m.Issued)
	c.when("expires", m.Expires)
	c.when("deadline", m.Deadline)
	c.order("issued", m.Issued, "expires", m.Expires)
	c.order("expires", m.Expires, "deadline", m.Deadline)
	if life := m.Expires.Sub(m.Issued); life > CommandLife {
		c.fail("expires", "%s after issue, at most %s is allowed", life, CommandLife)
	}
	c.text("run", m.Run, MaxName)
	c.under("reason", m.Reason.check)
	c.under("predicted", m.Predicted.check)
	amount(&c, "bandwidth_bytes_per_second", m.Bandwidth)
	amount(&c, "max_downtime_ms", m.MaxDowntime)
	c.digest("cpu_digest", m.CPUDigest)
	return c.err
}

// Validate implements [Message].
func (m *Progress) Validate() error {
	var c check
	token(&c, "command", m.Command)
	c.sequence("epoch", m.Epoch)
	c.vm("vm", m.VM)
	token(&c, "host", m.Host)
	c.when("time", m.Time)
	oneOf(&c, "phase", m.Phase, PhaseAccepted, PhasePrepare, PhaseDisk, PhasePreCopy, PhaseSwitchover, PhaseHandOver,
		PhaseFinish, PhaseResume, PhaseConfirm, PhaseRollback, PhaseDone, PhaseUnknown)
	c.atLeast("round", m.Round, 0)
	amount(&c, "total_bytes", m.Total)
	amount(&c, "processed_bytes", m.Processed)
	amount(&c, "remaining_bytes", m.Remaining)
	amount(&c, "speed_bytes_per_second", m.Speed)
	amount(&c, "dirty_rate_bytes_per_second", m.DirtyRate)
	amount(&c, "limit_bytes_per_second", m.Limit)
	amount(&c, "elapsed_seconds", m.Elapsed)
	c.ports(m.Ports)
	return c.err
}

// maxPorts bounds how many ports one move sends to: memory's, and disks'.
const maxPorts = 8

func (c *check) ports(all []int) {
	c.count("ports", len(all), maxPorts)
	for i, p := range all {
		if p < 1 || p > 65535 {
			c.fail("ports", "[%d]: %d is not a port", i, p)
		}
	}
}

// seen is the state of a copy as an actuator says it; empty when nobody looked.
func (c *check) seen(field, s string) {
	oneOf(c, field, s, "", "unreachable", "absent", "shut-off", "paused", "running")
}

// Validate implements [Message]. A success must name the destination as the place
// where the VM runs.
func (m *Outcome) Validate() error {
	var c check
	token(&c, "command", m.Command)
	c.sequence("epoch", m.Epoch)
	c.vm("vm", m.VM)
	token(&c, "host", m.Host)
	c.way(m.Source, m.Destination)
	c.when("time", m.Time)
	oneOf(&c, "result", m.Result, ResultSucceeded, ResultFailed, ResultRefused, ResultUnknown)
	c.under("reason", m.Reason.check)
	optToken(&c, "runs_at", m.RunsAt)
	if m.Result == ResultSucceeded && m.RunsAt != m.Destination {
		c.fail("runs_at", "%q, but a move that succeeded runs at %q", clip(string(m.RunsAt)), clip(string(m.Destination)))
	}
	c.seen("source_seen", m.SourceSeen)
	c.seen("destination_seen", m.DestSeen)
	c.text("life_sign", m.LifeSign, MaxName)
	c.optWhen("started", m.Started)
	c.order("started", m.Started, "time", m.Time)
	amount(&c, "duration_seconds", m.Duration)
	amount(&c, "downtime_ms", m.Downtime)
	amount(&c, "volume_bytes", m.Volume)
	c.atLeast("rounds", m.Rounds, 0)
	c.under("predicted", m.Predicted.check)
	return c.err
}

// Validate implements [Message].
func (m *Effect) Validate() error {
	var c check
	token(&c, "command", m.Command)
	c.sequence("epoch", m.Epoch)
	c.vm("vm", m.VM)
	c.when("time", m.Time)
	c.atLeast("steps", m.Steps, 0)
	c.count("terms", len(m.Terms), maxSmallList)
	for _, k := range sortedKeys(m.Terms) {
		c.given("terms key", k, MaxName)
		t := m.Terms[k]
		c.under("terms."+clip(k), func(c *check) {
			finite(c, "before", t.Before)
			finite(c, "after", t.After)
			finite(c, "without", t.Without)
			finite(c, "low", t.Low)
			finite(c, "high", t.High)
			if t.Low > t.High {
				c.fail("low", "%v is above high %v", t.Low, t.High)
			}
		})
	}
	c.text("verdict", m.Verdict, MaxText)
	return c.err
}

// Validate implements [Message].
func (m *Request) Validate() error {
	var c check
	oneOf(&c, "op", m.Op, OpObserve, OpPrepare, OpFinish, OpResume, OpRelease)
	token(&c, "command", m.Command)
	c.sequence("epoch", m.Epoch)
	c.vm("vm", m.VM)
	token(&c, "from", m.From)
	token(&c, "to", m.To)
	c.when("time", m.Time)
	c.when("expires", m.Expires)
	c.order("time", m.Time, "expires", m.Expires)
	c.under("order", func(c *check) {
		c.text("subject", m.Order.Subject, maxSubject)
		c.count("payload", len(m.Order.Payload), 1<<20)
		c.text("signature", m.Order.Signature, MaxName)
		c.text("signer", m.Order.Signer, MaxName)
	})
	c.text("xml", m.XML, MaxHandOver)
	c.count("cookie", len(m.Cookie), MaxHandOver)
	c.count("disks", len(m.Disks), maxSmallList)
	for i := range m.Disks {
		c.in("disks", i, m.Disks[i].check)
	}
	if m.Peer != nil {
		c.text("peer.lease", m.Peer.Lease, MaxText)
		optToken(&c, "peer.site", m.Peer.Site)
	}
	return c.err
}

func (d *DiskCopy) check(c *check) {
	c.text("target", d.Target, MaxName)
	c.text("path", d.Path, MaxText)
	oneOf(c, "format", d.Format, "raw", "qcow2")
	amount(c, "capacity_bytes", d.Capacity)
	if d.Path == "" || d.Path[0] != '/' {
		c.fail("path", "%q is not absolute", clip(d.Path))
	}
}

// Validate implements [Message].
func (m *Reply) Validate() error {
	var c check
	token(&c, "command", m.Command)
	c.vm("vm", m.VM)
	token(&c, "from", m.From)
	c.text("nonce", m.Nonce, MaxName)
	c.when("time", m.Time)
	c.under("reason", m.Reason.check)
	c.seen("copy", m.Copy)
	c.text("life_sign", m.LifeSign, MaxName)
	c.text("peer_uri", m.PeerURI, MaxText)
	c.text("lock", m.Lock, MaxText)
	c.text("no_post_copy", m.NoPostCopy, MaxText)
	c.count("cookie", len(m.Cookie), MaxHandOver)
	c.text("uri", m.URI, MaxText)
	amount(&c, "downtime_ms", m.Downtime)
	amount(&c, "volume_bytes", m.Volume)
	return c.err
}

// Validate implements [Message].
func (m *Tunnel) Validate() error {
	var c check
	c.sites(m.A, m.B)
	c.when("time", m.Time)
	amount(&c, "rate_bytes_per_second", m.Rate)
	c.shares(m.Shares)
	amount(&c, "reserved_bytes_per_second", m.Reserved)
	amount(&c, "other_bytes_per_second", m.Other)
	amount(&c, "left_bytes_per_second", m.Left)
	return c.err
}

// shares are those of a link.
func (c *check) shares(all []Share) {
	c.count("shares", len(all), maxSmallList)
	for i := range all {
		c.in("shares", i, func(c *check) {
			s := &all[i]
			token(c, "command", s.Command)
			c.vm("vm", s.VM)
			amount(c, "rate_bytes_per_second", s.Rate)
			amount(c, "floor_bytes_per_second", s.Floor)
			amount(c, "need_bytes_per_second", s.Need)
			optToken(c, "source", s.Source)
			optToken(c, "destination", s.Destination)
			c.under("reason", s.Reason.check)
			c.ports(s.Ports)
		})
	}
}

// Validate implements [Message].
func (m *TunnelPeer) Validate() error {
	var c check
	token(&c, "site", m.Site)
	token(&c, "peer", m.Peer)
	if m.Site == m.Peer {
		c.fail("peer", "%q is the site itself", m.Peer)
	}
	c.when("time", m.Time)
	if _, _, err := net.SplitHostPort(m.Endpoint); err != nil {
		c.fail("endpoint", "%q: want HOST:PORT", clip(m.Endpoint))
	}
	c.text("endpoint", m.Endpoint, MaxName)
	c.count("keys", len(m.Keys), 2)
	for i := range m.Keys {
		c.in("keys", i, func(c *check) {
			k := &m.Keys[i]
			c.atLeast("epoch", k.Epoch, 1)
			if b, err := base64.StdEncoding.DecodeString(k.Public); err != nil || len(b) != 32 {
				c.fail("public", "want 32 bytes in base64")
			}
			if a, err := netip.ParseAddr(k.Address); err != nil || a.Zone() != "" {
				c.fail("address", "%q is no IP address", clip(k.Address))
			}
			within(c, "port", k.Port, 0, 65535)
		})
	}
	return c.err
}

// carried are the headers of a message inside another one.
func (c *check) carried(h map[string][]string) {
	c.count("header", len(h), MaxLabels)
	for _, k := range sortedKeys(h) {
		c.count("header "+clip(k), len(h[k]), maxSmallList)
		if len(k) > MaxText {
			c.fail("header", "a name of %d bytes, at most %d are allowed", len(k), MaxText)
		}
		for _, v := range h[k] {
			if len(v) > MaxDeadPayload {
				c.fail("header "+clip(k), "%d bytes, at most %d are allowed", len(v), MaxDeadPayload)
			}
		}
	}
}

// Validate implements [Message].
func (m *Audit) Validate() error {
	var c check
	token(&c, "stream", m.Stream)
	c.sequence("sequence", m.Sequence)
	c.given("subject", m.Subject, maxSubject)
	c.when("time", m.Time)
	c.carried(m.Header)
	if m.Previous != "" {
		c.hex("previous", m.Previous, 64)
	}
	c.hex("hash", m.Hash, 64)
	return c.err
}

// Validate implements [Message]. The foreign parts are only bounded: what they
// hold is the very reason of the letter.
func (m *DeadLetter) Validate() error {
	var c check
	token(&c, "stream", m.Stream)
	c.optWhen("time", m.Time)
	c.given("service", m.Service, MaxName)
	if m.Reason == "" {
		c.fail("reason", "is missing")
	}
	c.count("reason", len(m.Reason), 4*MaxText)
	c.count("subject", len(m.Subject), MaxText)
	c.carried(m.Header)
	c.count("payload", len(m.Payload), MaxDeadPayload)
	c.atLeast("size_bytes", m.Size, len(m.Payload))
	return c.err
}
