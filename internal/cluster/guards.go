package cluster

import (
	"fmt"

	"github.com/foreshift/foreshift/actuator/migration"
)

// Guard is a rule that can be left out, to see what it is good for.
type Guard struct {
	Name    string `json:"name"`
	Where   string `json:"where"`
	What    string `json:"what"`
	machine bool   // one of [migration.Rules]
	kind    string // of the days on which its absence shows
}

// others are the guards outside of package migration.
var others = []Guard{
	{Name: "expectation", Where: "bus", What: "a command goes on a VM's record only if nobody else has written to it since"},
	{Name: "fsync", Where: "journal", What: "a record is flushed before it counts"},
	{Name: "ack-after-journal", Where: "actuator", What: "a command is acknowledged only when the journal holds it"},
	{Name: "acts-from-all", Where: "actuator", What: "after a start all acts are read, so that a forged one hides none before it"},
	{Name: "act-signature", Where: "authority", What: "acts are signed by an operator"},
	{Name: "heartbeat-signature", Where: "authority", What: "heartbeats are signed by a placer"},
	{Name: "heartbeat-not-ahead", Where: "actuator", What: "a heartbeat from the future is no sign of life"},
	{Name: "order-signature", Where: "authority", What: "a destination checks the placer's signature on the command inside a request"},
	{Name: "request-signature", Where: "authority", What: "a request is signed by the host it comes from"},
	{Name: "request-host", Where: "authority", What: "a request is for this host, as its command says"},
	{Name: "reply-signature", Where: "authority", What: "a reply is signed by the host that was asked"},
	{Name: "reply-nonce", Where: "authority", What: "a reply answers this very request"},
}

// Guards lists all that can be left out.
func Guards() []Guard {
	var out []Guard
	r := migration.DefaultRules()
	for _, g := range r.Admission {
		out = append(out, Guard{Name: g.Name, Where: "admission", machine: true, kind: "storm"})
	}
	for _, g := range r.Source {
		out = append(out, Guard{Name: g.Name, Where: "source", machine: true, kind: "storm"})
	}
	for _, g := range r.Destination {
		out = append(out, Guard{Name: g.Name, Where: "destination", machine: true, kind: "storm"})
	}
	for _, g := range others {
		if g.kind == "" {
			g.kind = "storm"
		}
		out = append(out, g)
	}
	return out
}

// Find looks a guard up.
func Find(name string) (Guard, error) {
	for _, g := range Guards() {
		if g.Name == name {
			return g, nil
		}
	}
	return Guard{}, fmt.Errorf("guard %q: there is none of that name; `foreshift sim --list-guards` lists them", name)
}
