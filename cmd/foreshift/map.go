package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
)

// linkFresh is the age up to which the placer believes a link's measurement.
const linkFresh = 5 * time.Minute

// siteLine is one site with its hosts.
type siteLine struct {
	Site     schemas.SiteID  `json:"site"`
	Capacity schemas.Amounts `json:"capacity"`
	Used     schemas.Amounts `json:"used"`
	VMs      int             `json:"vms"`
	Hosts    []hostLine      `json:"hosts"`
}

// linkLine is one pair of sites; not measured when nobody has told of it.
type linkLine struct {
	A         schemas.SiteID         `json:"site_a"`
	B         schemas.SiteID         `json:"site_b"`
	Measured  bool                   `json:"measured"`
	RTT       schemas.Millis         `json:"rtt_ms"`
	Bandwidth schemas.BytesPerSecond `json:"bandwidth_bytes_per_second"`
	Free      schemas.BytesPerSecond `json:"free_bytes_per_second"`
	Loss      schemas.Ratio          `json:"loss_ratio"`
	By        string                 `json:"by"`
	Seen      schemas.Time           `json:"seen"`
	Stale     bool                   `json:"stale"`
}

func mapCommand(at *place) *cobra.Command {
	return at.watchable(&cobra.Command{Use: "map", Short: "The hybrid network: sites, hosts, the links between sites, and how fresh all that is", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		return at.show(c, func(ctx context.Context, w io.Writer) error {
			p, err := at.picture(ctx)
			if err != nil {
				return err
			}
			return p.writeMap(w, at.json)
		})
	}})
}

func (p *picture) siteLines() []siteLine {
	out := make([]siteLine, 0, len(p.Sites))
	for _, site := range p.Sites {
		s := siteLine{Site: site, Hosts: []hostLine{}}
		for i := range p.Hosts {
			h := &p.Hosts[i]
			if h.Site != site {
				continue
			}
			s.Hosts = append(s.Hosts, p.hostLine(h))
			s.VMs += h.VMs
			total, used := s.Capacity.Vec(), s.Used.Vec()
			for r, v := range h.Capacity.Vec() {
				total[r] += v
			}
			for r, v := range h.Used.Vec() {
				used[r] += v
			}
			s.Capacity, s.Used = schemas.AmountsOf(total), schemas.AmountsOf(used)
		}
		out = append(out, s)
	}
	return out
}

// linkLines are all pairs of sites in order, measured or not.
func (p *picture) linkLines() []linkLine {
	known := map[policy.Link]*schemas.CapacityLink{}
	for i := range p.Links {
		known[policy.LinkOf(p.Links[i].A, p.Links[i].B)] = &p.Links[i]
	}
	out := []linkLine{}
	for i, a := range p.Sites {
		for _, b := range p.Sites[i+1:] {
			key := policy.LinkOf(a, b)
			l := linkLine{A: key.A, B: key.B, Stale: true}
			if m := known[key]; m != nil {
				l = linkLine{A: key.A, B: key.B, Measured: true, RTT: m.RTT, Bandwidth: m.Bandwidth, Free: m.Free, Loss: m.Loss, By: m.By, Seen: m.Time, Stale: p.Time.Sub(m.Time) > linkFresh}
			}
			out = append(out, l)
		}
	}
	return out
}

func (p *picture) writeMap(w io.Writer, asJSON bool) error {
	sites, links := p.siteLines(), p.linkLines()
	if asJSON {
		return object(w, map[string]any{"time": p.Time, "sites": sites, "links": links})
	}
	if len(sites) == 0 {
		_, err := fmt.Fprintln(w, noHosts)
		return err
	}
	for _, s := range sites {
		fmt.Fprintf(w, "site %s: %s, %s; %s of %s cores and %s of %s GiB in use\n", s.Site, count(len(s.Hosts), "host"), count(s.VMs, "VM"),
			share(float64(s.Used.CPU), float64(s.Capacity.CPU)), cores(s.Capacity.CPU), share(float64(s.Used.Mem), float64(s.Capacity.Mem)), gib(s.Capacity.Mem))
		rows := [][]string{{"  HOST", "STATE", "DOMAIN", "VMS", "CPU", "MEM", "PRESSURE", "ONSET", "SEEN"}}
		for i := range s.Hosts {
			h := &s.Hosts[i]
			pressure, onset := "-", "-"
			if h.Pressure != nil {
				pressure, onset = percent(h.Pressure.Score), ahead(h.Pressure.Onset, p.Time)
			}
			domain := h.Domain
			if domain == "" {
				domain = "-"
			}
			rows = append(rows, []string{"  " + string(h.ID), h.State, domain, fmt.Sprint(h.VMs), share(float64(h.Used.CPU), float64(h.Capacity.CPU)), share(float64(h.Used.Mem), float64(h.Capacity.Mem)), pressure, onset, ago(h.Seen, p.Time)})
		}
		if err := table(w, rows...); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	if len(links) == 0 {
		return nil
	}
	rows := [][]string{{"LINK", "RTT", "BANDWIDTH", "FREE", "LOSS", "MEASURED BY", "SEEN"}}
	for _, l := range links {
		row := []string{string(l.A) + " - " + string(l.B), "-", "-", "-", "-", "-", "never: no VM moves between them"}
		if l.Measured {
			seen := ago(l.Seen, p.Time)
			if l.Stale {
				seen += " STALE: no VM moves between them"
			}
			row = []string{row[0], fmt.Sprintf("%.1f ms", float64(l.RTT)), rate(l.Bandwidth), rate(l.Free), percent(l.Loss), l.By, seen}
		}
		rows = append(rows, row)
	}
	return table(w, rows...)
}

func rate(v schemas.BytesPerSecond) string { return fmt.Sprintf("%.1f MB/s", float64(v)/1e6) }
