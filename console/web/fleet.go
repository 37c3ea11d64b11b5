package web

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/console/live"
	"github.com/foreshift/foreshift/schemas"
)

// manyHosts is how many hosts a site shows with their particulars; above, each is a
// small field with its headroom.
const manyHosts = 40

// site is one site of the map.
type site struct {
	ID             schemas.SiteID
	Hosts          []tile
	VMs            int
	Capacity, Used schemas.Amounts
	Short          int // hosts that run short within the grid, at nine chances in ten
	Small          bool
}

// tile is one host of the map.
type tile struct {
	live.Host
	Room  string // headroom by slot, one character each; empty: no forecast
	Kind  string // scarcer resource by slot
	Free  float64
	What  schemas.Resource
	Class string
	Least int // slot with the least headroom
	Low   float64
	Strip []stretch // the next day at a glance
}

// stretch is a run of slots of one class, in steps from now.
type stretch struct {
	Class string
	X, W  int
}

func strip(room []live.Room) (out []stretch) {
	for i, r := range room {
		k := roomClass(r.Free)
		if n := len(out); n > 0 && out[n-1].Class == k {
			out[n-1].W += schemas.SlotLen(i)
			continue
		}
		out = append(out, stretch{k, schemas.SlotOffset(i), schemas.SlotLen(i)})
	}
	return out
}

// roomLetters write a headroom as one character: from roomLow on in steps of
// roomStep. None of them has a meaning in HTML.
const (
	roomLetters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.~!*():@,;+=/?|^$"
	roomLow     = -.60
	roomStep    = .02
)

func roomLetter(free float64) byte {
	i := int(math.Floor((free-roomLow)/roomStep + 1e-9))
	return roomLetters[min(max(i, 0), len(roomLetters)-1)]
}

func tileOf(h live.Host, slot int) tile {
	t := tile{Host: h, Class: "k-none", Free: math.NaN()}
	room := h.Headroom()
	if room == nil || h.Stale {
		return t
	}
	var letters, kinds strings.Builder
	t.Low = 2
	for i, r := range room {
		letters.WriteByte(roomLetter(r.Free))
		kinds.WriteByte("cmnd"[r.Resource])
		if r.Free < t.Low {
			t.Low, t.Least = r.Free, i
		}
	}
	t.Room, t.Kind, t.Strip = letters.String(), kinds.String(), strip(room)
	t.Free, t.What, t.Class = room[slot].Free, room[slot].Resource, roomClass(room[slot].Free)
	return t
}

// fleetData is what the map shows.
type fleetData struct {
	Sites []site
	Links []live.Link
	Slot  int
	Total int // slots
	Ahead time.Duration
	Marks []time.Duration // how far ahead each slot begins
	Story any
}

// slotAt is the slot of the grid that the form asks for.
func slotAt(r *request) int {
	n := 0
	for _, c := range r.FormValue("slot") {
		if c < '0' || c > '9' || n >= schemas.Slots {
			return 0
		}
		n = 10*n + int(c-'0')
	}
	return min(n, schemas.Slots-1)
}

func (s *Server) fleet(r *request) *sheet {
	hosts, links := s.cfg.Model.Fleet(r.now)
	base := s.cfg.Model.Base()
	d := fleetData{Links: links, Slot: slotAt(r), Total: schemas.Slots}
	for i := range schemas.Slots {
		d.Marks = append(d.Marks, time.Duration(schemas.SlotOffset(i))*base)
	}
	d.Ahead = d.Marks[d.Slot]
	at := map[schemas.SiteID]int{}
	for _, h := range hosts {
		i, ok := at[h.Site]
		if !ok {
			i = len(d.Sites)
			at[h.Site], d.Sites = i, append(d.Sites, site{ID: h.Site})
		}
		x := &d.Sites[i]
		t := tileOf(h, d.Slot)
		x.Hosts = append(x.Hosts, t)
		x.VMs += h.VMs
		if t.Room != "" && t.Low < 0 {
			x.Short++
		}
		cap, used := x.Capacity.Vec(), x.Used.Vec()
		for k, v := range h.Capacity.Vec() {
			cap[k] += v
		}
		for k, v := range h.Used.Vec() {
			used[k] += v
		}
		x.Capacity, x.Used = schemas.AmountsOf(cap), schemas.AmountsOf(used)
	}
	sh := &sheet{title: "Fleet", nav: "fleet", wide: true}
	sh.regions = append(sh.regions, region{"fleet-head", "fleet-head", &d})
	if len(d.Sites) == 0 {
		sh.regions = append(sh.regions, region{"fleet-none", "fleet-none", &d})
		return sh
	}
	sh.regions = append(sh.regions, region{"scrub", "scrub", &d})
	for i := range d.Sites {
		x := &d.Sites[i]
		x.Small = len(x.Hosts) > manyHosts
		sh.regions = append(sh.regions, region{"site-" + string(x.ID), "site", x})
	}
	sh.regions = append(sh.regions, region{"links", "links", &d})
	sh.regions = append(sh.regions, region{"recent", "recent", s.cfg.Model.Moves(6, nil)})
	return sh
}

// bar is one stretch of a link's bar, in percent of its rate.
type bar struct {
	Class, Title string
	X, W         string
}

// use is how a link is used.
type use struct {
	Bars  []bar
	Waits []string // moves that must not start yet, and why
}

// linkUse divides a link: what other traffic takes, what each move may use, the rest.
func linkUse(l live.Link) use {
	var u use
	if l.Measured == nil || l.Measured.Bandwidth <= 0 {
		return u
	}
	whole := float64(l.Measured.Bandwidth)
	at := 0.
	add := func(class string, v float64, title string) {
		v = min(v, whole-at)
		if v <= 0 {
			return
		}
		u.Bars = append(u.Bars, bar{class, title, fmt.Sprintf("%.1f", 100*at/whole), fmt.Sprintf("%.1f", 100*v/whole)})
		at += v
	}
	add("s-other", float64(l.Measured.Bandwidth-l.Measured.Free), "other traffic "+rate(l.Measured.Bandwidth-l.Measured.Free))
	if l.Measured.Shared {
		names := map[schemas.VMID]string{}
		for i := range l.Moves {
			names[l.Moves[i].Command.VM] = l.Moves[i].Command.Name
		}
		for i, x := range l.Measured.Shares {
			name := names[x.VM]
			if name == "" {
				name = short(x.VM)
			}
			if x.Waits {
				u.Waits = append(u.Waits, name+" waits: "+reason(x.Reason))
				continue
			}
			add([]string{"s-move", "s-move2"}[i%2], float64(x.Rate), name+" "+rate(x.Rate))
		}
	}
	add("s-free", whole-at, "free "+rate(schemas.BytesPerSecond(whole-at)))
	return u
}

func (s *Server) pressure(r *request) *sheet {
	q := live.Query{Text: r.FormValue("q"), N: 50, Steps: 36, Pressed: .01}
	all := r.FormValue("all") != "" || q.Text != ""
	if all {
		q.Pressed = 0
	}
	page := pageNumber(r)
	q.From = (page - 1) * q.N
	vms, total := s.cfg.Model.VMs(q)
	d := map[string]any{"VMs": vms, "Total": total, "From": q.From, "To": q.From + len(vms), "Text": q.Text, "All": all, "Page": page, "More": q.From+len(vms) < total}
	return &sheet{title: "Pressure", nav: "pressure", wide: true, regions: []region{{"pressure-form", "pressure-form", d}, {"pressure", "pressure", d}}}
}

func pageNumber(r *request) int {
	n := 0
	for _, c := range r.FormValue("page") {
		if c < '0' || c > '9' || n > 10000 {
			return 1
		}
		n = 10*n + int(c-'0')
	}
	return max(1, n)
}

func (s *Server) moves(r *request) *sheet {
	result := r.FormValue("result")
	running := s.cfg.Model.Moves(200, func(m *console.Move) bool { return m.Outcome == nil })
	over := s.cfg.Model.Moves(100, func(m *console.Move) bool {
		return m.Outcome != nil && (result == "" || string(m.Outcome.Result) == result)
	})
	d := map[string]any{"Running": running, "Over": over, "Result": result}
	return &sheet{title: "Moves", nav: "moves", wide: true, regions: []region{{"moves-running", "moves-running", d}, {"moves-over", "moves-over", d}}}
}
