package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"

	lv "github.com/digitalocean/go-libvirt"
)

// Inspection is what a host's daemon says of itself, for people to judge before
// moves begin. What a daemon does not tell stays zero, and is named in Untold.
type Inspection struct {
	Hostname string
	Libvirt  uint64 // libvirt's number: major*1000000 + minor*1000 + release
	QEMU     uint64
	KVM      bool
	Phases   bool // the daemon lets a client lead the phases of a migration
	Guests   []Guest
	Pools    []Pool
	Untold   []string
}

// featureParams is VIR_DRV_FEATURE_MIGRATION_PARAMS: the phases of a migration with
// typed parameters, as this package calls them.
const featureParams = 13

// Inspect asks the daemon behind a URI; it changes nothing.
func Inspect(ctx context.Context, uri string) (*Inspection, error) {
	h, err := Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	c, err := h.conn(ctx)
	if err != nil {
		return nil, err
	}
	x := &Inspection{}
	told := func(what string, err error) error {
		if isRefused(err) || isNotFound(err) {
			x.Untold = append(x.Untold, what)
			return nil
		}
		return err
	}
	x.Hostname, err = call(ctx, c, "hostname", c.lim.Quick, c.l.ConnectGetHostname)
	if err = told("hostname", err); err != nil {
		return nil, err
	}
	x.Libvirt, err = call(ctx, c, "version of libvirt", c.lim.Quick, c.l.ConnectGetLibVersion)
	if err = told("libvirt version", err); err != nil {
		return nil, err
	}
	x.QEMU, err = call(ctx, c, "version of QEMU", c.lim.Quick, c.l.ConnectGetVersion)
	if err = told("QEMU version", err); err != nil {
		return nil, err
	}
	n, err := call(ctx, c, "features", c.lim.Quick, func() (int32, error) { return c.l.ConnectSupportsFeature(featureParams) })
	x.Phases = err == nil && n != 0
	if err = told("features", err); err != nil {
		return nil, err
	}
	doc, err := call(ctx, c, "capabilities", c.lim.Quick, c.l.ConnectGetCapabilities)
	if err == nil {
		x.KVM, err = offersKVM(doc)
	}
	if err = told("capabilities", err); err != nil {
		return nil, err
	}
	if x.Guests, err = c.guests(ctx, lv.ConnectListDomainsActive); err != nil {
		return nil, err
	}
	return x, told("storage pools", x.pools(ctx, c))
}

func offersKVM(doc string) (bool, error) {
	var x struct {
		Domains []struct {
			Type string `xml:"type,attr"`
		} `xml:"guest>arch>domain"`
	}
	if err := xml.Unmarshal([]byte(doc), &x); err != nil {
		return false, fmt.Errorf("capabilities: %w", err)
	}
	for _, d := range x.Domains {
		if d.Type == "kvm" {
			return true, nil
		}
	}
	return false, nil
}

func (x *Inspection) pools(ctx context.Context, c *conn) error {
	found, err := c.pools(ctx)
	for _, p := range found {
		x.Pools = append(x.Pools, p.Pool)
	}
	return err
}
