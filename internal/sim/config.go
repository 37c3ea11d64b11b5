package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Config says what to simulate. The zero value of a field takes its default.
type Config struct {
	Seed  uint64
	Sites []Site // default: private with five eighths of the hosts, public with the rest
	Hosts int    // default 8, at most 60000
	VMs   int    // default 60
	Base  time.Duration
	Start time.Time        // when the fleet begins; default Now()
	Now   func() time.Time // default time.Now
	Trace string           // CSV file of demand instead of the synthetic week; see package load
	Port  int              // TCP port of every host; 0 lets the system choose

	LinkBandwidth schemas.BytesPerSecond // of the link between two sites, shared; default 250 MB/s
	NICBandwidth  schemas.BytesPerSecond // of every host, each way; default 1.25 GB/s
	LinkRTT       schemas.Millis         // of the link between two sites; default 24 ms
	PeakIn        int                    // steps from Start to the fleet's daily peak; default 120
	NoPhases      bool                   // the daemons do not let a client lead a migration's phases
	DiskLock      bool                   // the hosts lock disks and leases against each other, as with lockd
	LocalDisks    bool                   // the VMs' disks lie on their hosts alone, not on shared storage
	LocalSpace    schemas.Bytes          // of each host for them; default twice what all need together
	Lacking       map[int][]string       // by a host's number from 0: features of guests' CPUs that its CPU lacks

	// PeerTimeout and StreamTimeout are real durations after which a transfer over a
	// dead link fails: libvirt's keep-alive in peer-to-peer moves (default 8 s), TCP's
	// patience otherwise (default 15 min).
	PeerTimeout, StreamTimeout time.Duration
}

// Site is a place with hosts of its own; sites are joined by slow links.
type Site struct {
	ID    schemas.SiteID
	Kind  string // private or public: label "kind" of its hosts
	Hosts int    // 0: an even share of Config.Hosts
}

func (c *Config) fill() error {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Start.IsZero() {
		c.Start = c.Now()
	}
	if len(c.Sites) > 0 {
		sum := 0
		for _, s := range c.Sites {
			sum += s.Hosts
		}
		def(&c.Hosts, sum)
	}
	def(&c.Hosts, 8)
	def(&c.VMs, 60)
	def(&c.PeakIn, 120)
	if c.Base == 0 {
		c.Base = schemas.DefaultBase
	}
	if c.LinkBandwidth == 0 {
		c.LinkBandwidth = 250e6
	}
	if c.NICBandwidth == 0 {
		c.NICBandwidth = 1.25e9
	}
	if c.LinkRTT == 0 {
		c.LinkRTT = 24
	}
	if c.PeerTimeout == 0 {
		c.PeerTimeout = 8 * time.Second
	}
	if c.StreamTimeout == 0 {
		c.StreamTimeout = 15 * time.Minute
	}
	if len(c.Sites) == 0 {
		n := (c.Hosts*5 + 7) / 8
		c.Sites = []Site{{"private", "private", n}}
		if c.Hosts > n {
			c.Sites = append(c.Sites, Site{"public", "public", c.Hosts - n})
		}
	}
	c.spread()
	return c.check()
}

// spread gives hosts to the sites that did not say how many.
func (c *Config) spread() {
	c.Sites = append([]Site(nil), c.Sites...)
	left, open := c.Hosts, 0
	for _, s := range c.Sites {
		left -= s.Hosts
		if s.Hosts == 0 {
			open++
		}
	}
	for i := range c.Sites {
		if c.Sites[i].Hosts == 0 && left > 0 {
			c.Sites[i].Hosts = (left + open - 1) / open
			left -= c.Sites[i].Hosts
			open--
		}
	}
}

// check reports every fault at once.
func (c *Config) check() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf("sim: "+format, a...)) }
	if c.Hosts < 1 || c.Hosts > 60000 {
		bad("Hosts = %d: want 1 to 60000", c.Hosts)
	}
	if c.VMs < 1 || c.VMs > 1<<20 {
		bad("VMs = %d: want 1 to %d", c.VMs, 1<<20)
	}
	if c.Base < time.Millisecond || c.Base > 24*time.Hour {
		bad("Base = %s: want 1ms to 24h", c.Base)
	}
	if c.Port < 0 || c.Port > 65535 {
		bad("Port = %d: want 0 to 65535", c.Port)
	}
	if c.PeakIn < 0 || c.PeakIn > 7*schemas.StepsPerDay {
		bad("PeakIn = %d steps: want 0 to a week", c.PeakIn)
	}
	for _, bw := range []schemas.BytesPerSecond{c.LinkBandwidth, c.NICBandwidth} {
		if !schemas.Finite(float64(bw)) || bw < 1e3 || bw > 1e13 {
			bad("bandwidth %v: want 1e3 to 1e13 bytes/s", float64(bw))
		}
	}
	sum := 0
	seen := map[schemas.SiteID]bool{}
	for _, s := range c.Sites {
		if err := schemas.CheckToken("site", string(s.ID)); err != nil {
			errs = append(errs, fmt.Errorf("sim: %w", err))
		}
		if seen[s.ID] {
			bad("site %s is there twice", s.ID)
		}
		if s.Hosts < 0 {
			bad("site %s: Hosts = %d", s.ID, s.Hosts)
		}
		seen[s.ID] = true
		sum += s.Hosts
	}
	if sum != c.Hosts {
		bad("sites have %d hosts, Hosts = %d", sum, c.Hosts)
	}
	return errors.Join(errs...)
}
