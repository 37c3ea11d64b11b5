package main

import (
	"github.com/foreshift/foreshift/actuator/tunnel"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/pflag"
)

// tunnelOptions are the flags of the tunnel role.
type tunnelOptions struct {
	site, peer     string
	rate, reserved float64
}

func (o *tunnelOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.site, "site", "", "this gateway's site; empty: serve every link that is measured")
	f.StringVar(&o.peer, "peer", "", "the site at the other end of the link")
	f.Float64Var(&o.rate, "rate", 0, "what the link is shaped to, in `MB/s`; 0: what is measured of it")
	f.Float64Var(&o.reserved, "reserved", .1, "`share` of the link that is guaranteed to all that is no move")
}

func (o *tunnelOptions) config() tunnel.Config {
	return tunnel.Config{Site: schemas.SiteID(o.site), Peer: schemas.SiteID(o.peer), Rate: schemas.BytesPerSecond(o.rate * 1e6), Reserved: schemas.Ratio(o.reserved)}
}
