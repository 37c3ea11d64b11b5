package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/foreshift/foreshift/actuator/tunnel"
	"github.com/foreshift/foreshift/actuator/tunnel/plane"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// tunnelOptions are the flags of the tunnel role.
type tunnelOptions struct {
	site, peer     string
	rate, reserved float64
	gateway        gatewayOptions
}

// gatewayOptions are those of the end of the tunnel itself.
type gatewayOptions struct {
	endpoint, inside, bridge, prefix string
	listen, vni, mtu                 int
	reach                            map[string]string
	dir                              string
}

func (o *tunnelOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.site, "site", "", "this gateway's site; empty: serve every link that is measured")
	f.StringVar(&o.peer, "peer", "", "the site at the other end of the link")
	f.Float64Var(&o.rate, "rate", 0, "what the link is shaped to, in `MB/s`; 0: what is measured of it")
	f.Float64Var(&o.reserved, "reserved", .1, "`share` of the link that is guaranteed to all that is no move")
	f.StringVar(&o.gateway.endpoint, "endpoint", "", "`HOST:PORT` where the peer reaches this gateway; with it the role keeps the tunnel itself (root)")
	f.StringToStringVar(&o.gateway.reach, "reach", nil, "`HOST=IP,...` of the addresses that migrations are sent from and to")
	o.gateway.flags(f)
}

func (o *gatewayOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.inside, "inside", "10.88.0.0/29", "`network` inside the tunnel, the same at both ends")
	f.StringVar(&o.bridge, "bridge", "", "bridge of the VMs' segment that the tunnel carries; empty: none")
	f.StringVar(&o.prefix, "interface", "fstun", "begin of the names of the tunnel's interfaces")
	f.IntVar(&o.listen, "port", 51820, "UDP port; the next one is used too while keys are changed")
	f.IntVar(&o.vni, "segment", 42, "number of the segment, the same at both ends")
	f.IntVar(&o.mtu, "mtu", 1500, "MTU of the way between the gateways")
	f.StringVar(&o.dir, "keys", "", "directory of the private keys; default: tunnel in the state directory")
}

// plane is the configuration of this end.
func (o *tunnelOptions) plane(state string) (plane.Config, error) {
	g := &o.gateway
	c := plane.Config{Dir: g.dir, Prefix: g.prefix, First: o.site < o.peer, Listen: g.listen, Bridge: g.bridge, VNI: g.vni, WAN: g.mtu, Reach: map[schemas.HostID]netip.Addr{}}
	if c.Dir == "" {
		c.Dir = filepath.Join(state, "tunnel")
	}
	var err error
	if c.Inside, err = netip.ParsePrefix(g.inside); err != nil {
		return c, fmt.Errorf("--inside: %w", err)
	}
	for host, ip := range g.reach {
		if c.Reach[schemas.HostID(host)], err = netip.ParseAddr(strings.TrimSpace(ip)); err != nil {
			return c, fmt.Errorf("--reach %s: %w", host, err)
		}
	}
	self, err := os.Executable()
	c.Holder = []string{self, "tunnel", "hold"}
	return c, err
}

func (o *tunnelOptions) config(state string) (tunnel.Config, error) {
	c := tunnel.Config{Site: schemas.SiteID(o.site), Peer: schemas.SiteID(o.peer), Rate: schemas.BytesPerSecond(o.rate * 1e6), Reserved: schemas.Ratio(o.reserved)}
	if o.gateway.endpoint == "" {
		return c, c.Validate()
	}
	p, err := o.plane(state)
	if err != nil {
		return c, err
	}
	c.Gateway = &tunnel.Gateway{Plane: p, Endpoint: o.gateway.endpoint}
	return c, c.Validate()
}

// tunnelHoldCommand is the process that keeps a userspace device; the role starts it.
func tunnelHoldCommand() *cobra.Command {
	var name string
	var mtu int
	c := &cobra.Command{Use: "hold", Short: "Keep a userspace WireGuard device; the role starts this where the kernel has none", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return plane.Hold(c.Context(), name, mtu) }}
	c.Flags().StringVar(&name, "interface", "", "name of the interface")
	c.Flags().IntVar(&mtu, "mtu", 1440, "its MTU")
	return c
}

func tunnelRotateCommand(at *place) *cobra.Command {
	var dir string
	c := &cobra.Command{Use: "rotate", Short: "Change the keys of this gateway's tunnel, make before break; refused while moves cross", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if dir == "" {
				dir = filepath.Join(at.state, "tunnel")
			}
			ctx, cancel := context.WithTimeout(c.Context(), 10*time.Second)
			defer cancel()
			why, err := tunnel.Rotate(ctx, dir)
			if err != nil {
				return err
			}
			if at.json {
				if err := object(c.OutOrStdout(), map[string]any{"reason": why}); err != nil {
					return err
				}
			}
			if !why.OK() {
				return fmt.Errorf("keys are not changed: %s", why)
			}
			if !at.json {
				fmt.Fprintln(c.OutOrStdout(), "new keys are announced; the tunnel moves to them when the peer has answered")
			}
			return nil
		}}
	c.Flags().StringVar(&dir, "keys", "", "directory of the private keys; default: tunnel in the state directory")
	return c
}

func tunnelRemoveCommand(at *place) *cobra.Command {
	var o tunnelOptions
	c := &cobra.Command{Use: "remove", Short: "Remove this gateway's end of the tunnel: interfaces, classes, addresses and keys (stop the role first)", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := o.plane(at.state)
			if err != nil {
				return usageError{err}
			}
			p, err := plane.New(cfg)
			if err != nil {
				return usageError{err}
			}
			if err := p.Down(); err != nil {
				return err
			}
			if at.json {
				return object(c.OutOrStdout(), map[string]any{"removed": cfg.Prefix})
			}
			fmt.Fprintln(c.OutOrStdout(), "nothing of the tunnel is left")
			return nil
		}}
	o.gateway.flags(c.Flags())
	return c
}
