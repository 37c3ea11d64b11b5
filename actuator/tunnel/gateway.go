package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/foreshift/foreshift/actuator/tunnel/plane"
	"github.com/foreshift/foreshift/actuator/tunnel/share"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// Gateway says how the role keeps the tunnel's end on its machine.
type Gateway struct {
	Plane    plane.Config
	Endpoint string // HOST:PORT that the peer sends to
}

// Times of a gateway.
const (
	lookEvery  = time.Second
	probeLimit = 900 * time.Millisecond
	probes     = 8               // over which loss and round trip are taken
	downAfter  = 3               // probes lost one after the other: the link is down
	dropAfter  = 3 * time.Second // the last key lives on for so long after the change
	loss       = 1
)

// gateway is one end of a tunnel as the role keeps it. One goroutine owns it.
type gateway struct {
	cfg     Config
	p       *plane.Plane
	bus     *streams.Bus
	log     *slog.Logger
	held    func() bool
	keys    []schemas.TunnelKey // of this end, by epoch
	force   int                 // epoch whose tunnel carries the segment; 0: none yet
	since   time.Time           // of that
	peer    *schemas.TunnelPeer
	tunnel  *schemas.Tunnel
	seen    []time.Duration // of the last probes; below 0: lost
	results chan time.Duration
	passed  plane.Traffic
	width   share.Bandwidth
	told    string // the last fault, so that it is logged once
}

// runGateway keeps the tunnel until ctx ends. What it made stays: moves may cross it, and
// the role that comes next finds it.
func runGateway(ctx context.Context, bus *streams.Bus, cfg Config, held func() bool) error {
	p, err := plane.New(cfg.Gateway.Plane)
	if err != nil {
		return err
	}
	g := &gateway{cfg: cfg, p: p, bus: bus, log: cfg.Log, held: held, results: make(chan time.Duration, probes)}
	if err := g.start(ctx); err != nil {
		return err
	}
	events := make(chan streams.Event, 16)
	ended := make(chan error, 1)
	link := streams.SubjectTunnel(cfg.Site, cfg.Peer)
	in := streams.Input{Stream: "KV_" + streams.BucketTunnels, Filters: []string{link, link + ".*"}, From: streams.FromLastPerSubject}
	go func() {
		ended <- bus.Consume(ctx, "tunnel gateway", in, func(e streams.Event) {
			select {
			case events <- e:
			case <-ctx.Done():
			}
		})
	}()
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("tunnel: %w", err)
		case e := <-events:
			g.hear(ctx, e)
		case d := <-g.results:
			if g.seen = append(g.seen, d); len(g.seen) > probes {
				g.seen = g.seen[1:]
			}
		case <-t.C:
			g.requested(ctx)
			g.keep(ctx)
			g.measure(ctx)
		}
	}
}

// start brings up what there are keys for, and announces it.
func (g *gateway) start(ctx context.Context) error {
	epochs, err := g.p.Epochs()
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	if len(epochs) == 0 {
		epochs = []int{1}
	}
	for _, e := range epochs[max(0, len(epochs)-2):] {
		k, err := g.p.Up(e)
		if err != nil {
			return err
		}
		g.keys = append(g.keys, k)
	}
	return g.announce(ctx)
}

func (g *gateway) announce(ctx context.Context) error {
	m := &schemas.TunnelPeer{Site: g.cfg.Site, Peer: g.cfg.Peer, Time: schemas.At(time.Now()), Endpoint: g.cfg.Gateway.Endpoint, Keys: g.keys}
	_, err := g.bus.Publish(ctx, streams.Out{Subject: streams.SubjectTunnelPeer(g.cfg.Site, g.cfg.Peer), ID: fmt.Sprintf("peer.%s.%d", g.cfg.Site, m.Time), Msg: m})
	if err != nil {
		return fmt.Errorf("tunnel: announce the key: %w", err)
	}
	return nil
}

// hear takes in what the bus tells; the bus has checked who says it.
func (g *gateway) hear(ctx context.Context, e streams.Event) {
	switch m := e.Msg.(type) {
	case *schemas.TunnelPeer:
		if m.Site == g.cfg.Peer && m.Peer == g.cfg.Site {
			g.peer = m
			g.keep(ctx)
		}
	case *schemas.Tunnel:
		g.tunnel = m
		g.fault("shape", g.p.Shape(m))
	}
}

func (g *gateway) fault(what string, err error) {
	text := ""
	if err != nil {
		text = what + ": " + err.Error()
	}
	if text != g.told && text != "" {
		g.log.Warn("tunnel", "what", what, "err", err)
	}
	g.told = text
}

// busy is how many moves cross the link.
func (g *gateway) busy() (n int) {
	if g.tunnel == nil {
		return 0
	}
	for _, s := range g.tunnel.Shares {
		if !s.Waits {
			n++
		}
	}
	return n
}

func (g *gateway) newest() int { return g.keys[len(g.keys)-1].Epoch }

// keep brings the tunnel to what both ends have announced: peers are set, the newest
// epoch that has been shaken on carries the segment, older ones go. While moves cross,
// nothing of that changes but a first peer.
func (g *gateway) keep(ctx context.Context) {
	if g.peer == nil || len(g.peer.Keys) == 0 {
		return
	}
	best := 0
	for _, k := range g.peer.Keys {
		if !slices.ContainsFunc(g.keys, func(own schemas.TunnelKey) bool { return own.Epoch == k.Epoch }) {
			continue
		}
		if err := g.p.Peer(k, g.peer.Endpoint); err != nil {
			g.fault("peer", err)
			continue
		}
		if !g.p.Shaken(k.Epoch).IsZero() || g.force == 0 && len(g.keys) == 1 {
			best = max(best, k.Epoch)
		}
	}
	if best == g.force && best != 0 {
		g.fault("segment", g.p.Segment(best)) // it may have been removed by hand
	}
	if g.busy() > 0 && g.force != 0 {
		return
	}
	if theirs := g.peer.Keys[len(g.peer.Keys)-1].Epoch; theirs > g.newest() {
		g.fault("next key", g.next(ctx, theirs))
		return
	}
	if best > g.force {
		if err := g.p.Segment(best); err != nil {
			g.fault("segment", err)
			return
		}
		g.log.Info("tunnel", "link", streams.LinkKey(g.cfg.Site, g.cfg.Peer), "key_epoch", best)
		g.force, g.since = best, time.Now()
		if g.tunnel != nil {
			g.fault("shape", g.p.Shape(g.tunnel))
		}
	}
	if len(g.keys) > 1 && g.force == g.newest() && time.Since(g.since) > dropAfter {
		old := g.keys[0].Epoch
		if err := g.p.Drop(old); err != nil {
			g.fault("drop the last key", err)
			return
		}
		g.keys = g.keys[1:]
		g.fault("announce", g.announce(ctx))
	}
}

// next makes the key of an epoch beside the one in force, and announces both.
func (g *gateway) next(ctx context.Context, epoch int) error {
	if len(g.keys) > 1 {
		return errors.New("keys are being changed already")
	}
	k, err := g.p.Up(epoch)
	if err != nil {
		return err
	}
	g.keys = append(g.keys, k)
	return g.announce(ctx)
}

// Rotate asks the role that runs on this machine for new keys, and gives its answer.
func Rotate(ctx context.Context, dir string) (schemas.Reason, error) {
	ask, answer := filepath.Join(dir, "rotate"), filepath.Join(dir, "rotate.answer")
	_ = os.Remove(answer)
	if err := os.WriteFile(ask, nil, 0o600); err != nil {
		return schemas.Reason{}, fmt.Errorf("tunnel: no role runs with its keys in %s: %w", dir, err)
	}
	defer os.Remove(answer)
	for {
		if b, err := os.ReadFile(answer); err == nil {
			code, detail, _ := strings.Cut(string(b), "\n")
			return schemas.Reason{Code: schemas.ReasonCode(code), Detail: detail}, nil
		}
		select {
		case <-ctx.Done():
			_ = os.Remove(ask)
			return schemas.Reason{}, fmt.Errorf("tunnel: no role answers in %s; start it with `foreshift tunnel run`", dir)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// requested looks for a request for new keys, and answers it.
func (g *gateway) requested(ctx context.Context) {
	dir := g.cfg.Gateway.Plane.Dir
	if os.Remove(filepath.Join(dir, "rotate")) != nil {
		return
	}
	why := g.rotate(ctx)
	g.log.Info("tunnel", "rotation", why.String())
	path := filepath.Join(dir, "rotate.answer")
	err := os.WriteFile(path+".new", []byte(string(why.Code)+"\n"+why.Detail), 0o600)
	if err = errors.Join(err, os.Rename(path+".new", path)); err != nil {
		g.fault("answer", err)
	}
}

// rotate begins a change of keys, or says why not.
func (g *gateway) rotate(ctx context.Context) schemas.Reason {
	switch {
	case g.peer == nil || g.force == 0:
		return schemas.Reason{Code: schemas.ReasonNoPeer, Detail: fmt.Sprintf("site %s has announced no key yet, or does not answer", g.cfg.Peer)}
	case len(g.keys) > 1:
		return schemas.Reason{Code: schemas.ReasonRotation, Detail: "keys are being changed already"}
	case g.busy() > 0:
		return schemas.Reason{Code: schemas.ReasonUnderWay, Detail: fmt.Sprintf("%d moves cross the link: ask again when they have ended; `foreshift tunnel show %s` names them", g.busy(), streams.LinkKey(g.cfg.Site, g.cfg.Peer))}
	}
	if err := g.next(ctx, g.newest()+1); err != nil {
		return schemas.Reason{Code: schemas.ReasonInvalid, Detail: err.Error()}
	}
	return schemas.Reason{Code: schemas.ReasonOK}
}

// measure probes the peer through the tunnel and, when this role holds the lease, tells
// what was measured. A refused connection has made the round trip too.
func (g *gateway) measure(ctx context.Context) {
	if g.force == 0 {
		return
	}
	to := netip.AddrPortFrom(g.p.Inside(g.force), 1).String()
	go func() {
		d := net.Dialer{Timeout: probeLimit}
		begun := time.Now()
		c, err := d.DialContext(ctx, "tcp", to)
		took := time.Since(begun)
		if err == nil {
			c.Close()
		} else if !errors.Is(err, syscall.ECONNREFUSED) {
			took = -1
		}
		select {
		case g.results <- took:
		default:
		}
	}()
	if t, ok := g.p.Passed(time.Now()); ok {
		g.passed = t
	}
	if len(g.seen) == 0 {
		return
	}
	m := linkOf(g.seen)
	width := g.width.Observe(g.cfg.Rate, g.passed.All, g.granted(), m.RTT, m.Loss)
	if !g.held() {
		return
	}
	m.A, m.B = g.cfg.Site, g.cfg.Peer
	if m.B < m.A {
		m.A, m.B = m.B, m.A
	}
	m.Time, m.Bandwidth, m.By = schemas.At(time.Now()), width, share.ByTunnel(g.cfg.Site)
	m.Free = max(0, m.Bandwidth-g.passed.Other)
	if _, err := g.bus.Publish(ctx, streams.Out{Subject: streams.SubjectCapacityLink(m.A, m.B), ID: fmt.Sprintf("measured.%s.%d", m.By, m.Time), Msg: &m}); err != nil && ctx.Err() == nil {
		g.fault("report the link", err)
	}
}

// granted is what the moves that cross the link may use together.
func (g *gateway) granted() (sum schemas.BytesPerSecond) {
	if g.tunnel != nil {
		for i := range g.tunnel.Shares {
			if s := &g.tunnel.Shares[i]; !s.Waits {
				sum += s.Rate
			}
		}
	}
	return sum
}

// linkOf is the median round trip and the loss of the last probes; all lost lately is a
// link that is down.
func linkOf(seen []time.Duration) (m schemas.CapacityLink) {
	var came []time.Duration
	row := 0
	for _, d := range seen {
		if d < 0 {
			row++
			continue
		}
		row = 0
		came = append(came, d)
	}
	m.Loss = schemas.Ratio(float64(len(seen)-len(came)) / float64(len(seen)))
	if row >= downAfter {
		m.Loss = loss
	}
	if len(came) > 0 {
		slices.Sort(came)
		m.RTT = schemas.Millis(float64(came[len(came)/2]) / 1e6)
	}
	return m
}
