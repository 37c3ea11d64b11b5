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
	{Name: "plan-first", Where: "bus", What: "a command goes out only once its plan is on the record", kind: "placer"},
	{Name: "command-signature", Where: "authority", What: "deciders believe commands only of placers", kind: "placer"},
	{Name: "outcome-signature", Where: "authority", What: "deciders believe outcomes only of their hosts", kind: "placer"},
	{Name: "budget-cluster", Where: "placer", What: "moves of the cluster at a time", kind: "placer"},
	{Name: "budget-host", Where: "placer", What: "moves out of a host and into it at a time", kind: "placer"},
	{Name: "budget-hour", Where: "placer", What: "attempts of the cluster in an hour", kind: "placer"},
	{Name: "budget-vm", Where: "placer", What: "attempts of a VM in a day", kind: "placer"},
	{Name: "cool-down", Where: "placer", What: "a VM that has moved stays for a while", kind: "placer"},
	{Name: "breaker", Where: "placer", What: "after failures in a row nothing moves until an operator says so", kind: "placer"},
	{Name: "unknown-holds", Where: "placer", What: "nothing moves while the end of a move is not known", kind: "placer"},
	{Name: "placer-paused", Where: "placer", What: "no command while an operator has paused moves", kind: "placer"},
	{Name: "pinned", Where: "placer", What: "a VM that is pinned stays", kind: "placer"},
	{Name: "apart", Where: "placer", What: "VMs that must be apart share no host", kind: "placer"},
	{Name: "cordoned", Where: "placer", What: "the policy's cordoned hosts take no VM", kind: "placer"},
	{Name: "drained", Where: "placer", What: "hosts that an operator has cordoned or drains take no VM", kind: "placer"},
	{Name: "capacity", Where: "placer", What: "memory fits where a VM goes", kind: "placer"},
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
