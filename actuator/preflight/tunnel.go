package preflight

import (
	"fmt"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// Way is what is known of the link from a host's site to another site of the fleet.
type Way struct {
	To       schemas.SiteID
	Measured bool // somebody has measured the link
	Shared   bool // a tunnel role holds it, and shares it out among its moves
	Silent   bool // nobody has told of it lately
	Down     bool // nothing comes through
}

// tunnel judges the ways to the other sites. A move between sites crosses the link's
// tunnel: without one it is neither encrypted nor shared out, and over a link that nobody
// has measured nothing is moved.
func (j *judge) tunnel(h *Host) {
	if !h.WaysSeen {
		j.add("tunnel", Unknown, "the bus was not asked for sites and links", "run this where the bus can be reached")
		return
	}
	if len(h.Ways) == 0 {
		j.add("tunnel", OK, "all hosts are in one site", "")
		return
	}
	worst, fix := OK, ""
	found := make([]string, 0, len(h.Ways))
	say := func(w *Way, s Status, what, mend string) {
		found = append(found, fmt.Sprintf("%s: %s", w.To, what))
		if s != OK && (worst == OK || s == Fail && worst != Fail) {
			worst, fix = s, mend
		}
	}
	const run = "run `foreshift tunnel run` on a gateway of each of the two sites: docs/TUNNELS.md"
	for i := range h.Ways {
		switch w := &h.Ways[i]; {
		case !w.Measured:
			say(w, Warn, "no link is known; no VM moves there", run)
		case w.Down:
			say(w, Fail, "the link is down", "look at `foreshift tunnel list`, then at the gateways' logs: docs/RUNBOOK.md")
		case w.Silent:
			say(w, Warn, "nobody has told of the link lately; no VM moves there", "look at `foreshift tunnel list`; start the tunnel role, or the agent that measured the link, again")
		case !w.Shared:
			say(w, Warn, "measured, but no tunnel role holds it: moves are neither encrypted by it nor shared out", run)
		default:
			say(w, OK, "a tunnel, shared out", "")
		}
	}
	j.add("tunnel", worst, strings.Join(found, "; "), fix)
}
