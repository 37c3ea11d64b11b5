package cluster

import (
	"fmt"

	"github.com/foreshift/foreshift/actuator/migration"
)

// Guard is a rule that can be left out, to see what it is good for.
type Guard struct {
	Name    string   `json:"name"`
	Where   string   `json:"where"`
	What    string   `json:"what"`
	machine bool     // one of [migration.Rules]
	kind    string   // of the days on which its absence shows
	favour  []string // favourite faults of those days; none: as seeds draw them
}

// holds says what the guards of package migration hold, for people.
var holds = map[string]string{
	"signature": "a placer has signed the command", "replay": "it comes from no replay", "plan": "it names its plan, and why", "host": "it names this host as its source",
	"unseen": "its id has not been here before", "epoch": "it was decided after all that this host has seen", "expiry": "it has not expired", "paused": "no operator has paused new moves",
	"heartbeat": "a placer has given a sign of life", "moving": "this host does not already move the VM", "busy": "this host moves no more VMs than it may",
	"running-here": "the VM runs here", "foreign-job": "nobody else moves it",
	"source-fence": "the fence is the move's own epoch when it begins", "begin-seen": "both hosts were seen, and are as the command says", "source-still": "the source's copy stands still past the transfer",
	"handed-over-durable": "handed over is on disk before Finish and Resume", "released-before-take-back": "the source takes the VM back only once the destination has released it",
	"other-running": "a copy is destroyed only while the other is seen running, now", "life-sign": "and shows signs of life", "own-copy": "the destination gives its copy up only while the source has one",
	"fetched": "neither copy goes while the one fetches memory from the other", "lock": "where libvirt leads, the disk lock of its source works", "peer-lock": "and neither host's is known to have failed", "lock-proven": "and a lease of the one host cannot be had by the other",
	"post-copy": "no post-copy in a paused handover", "both-hosts": "an outcome rests on both hosts",
	"request-expiry": "a request that lay about is not acted on", "destination-expiry": "nothing is prepared long after the command expired", "destination-fence": "no epoch below the fence is acted on",
	"released": "what was released is never prepared, finished or resumed again", "resume-intent": "a resume intent is never taken back", "prepared-once": "an epoch is prepared once",
	"nothing-here": "a guest is prepared only where there is no copy", "prepared": "Finish is for the guest prepared over the same connection", "finished": "only a whole copy of the epoch is resumed, its intent on disk",
	"drop-not-running": "a running copy is never dropped", "drop-not-source": "nor one that leads a move", "drop-own": "nor one that a person has put in the place of what was prepared",
}

// twisted: their absence shows at one step, under what is met there once in years.
var twisted = []string{"twists"}

// shows are the favourites of days on which the absence of a guard of package migration
// shows, where those that seeds draw do not suffice.
var shows = map[string][]string{
	"host": {"versions"}, "foreign-job": {"people"}, "destination-fence": {"versions"}, "finished": {"versions"}, "released": {"versions"}, "prepared-once": {"loss", "partitions", "libvirtd"}, "prepared": {"versions"}, "lock": {"peer"}, "lock-proven": {"peer"}, "peer-lock": {"peer", "twists"}, "fetched": {"peer", "endless", "kills"}, "source-fence": twisted, "own-copy": twisted, "drop-not-running": twisted, "drop-own": twisted, "drop-not-source": twisted,
}

// others are the guards outside of package migration.
var others = []Guard{
	{Name: "expectation", Where: "bus", What: "a command goes on a VM's record only if nobody else has written to it since", kind: "placer", favour: []string{"stops", "twists"}},
	{Name: "fsync", Where: "journal", What: "a record is flushed before it counts"},
	{Name: "ack-after-journal", Where: "actuator", What: "a command is acknowledged only when the journal holds it"},
	{Name: "heartbeats-before", Where: "actuator", What: "an actuator that starts reads the heartbeats of before, so that none of them counts when somebody has it stored anew", favour: []string{"clocks", "hostile", "twists"}},
	{Name: "pause-anew", Where: "actuator", What: "the operators' last pause or resume is asked for anew at times: one stored under a sequence that was given before is sent to nobody"},
	{Name: "acts-from-all", Where: "actuator", What: "after a start all acts are read, so that a forged one hides none before it", favour: []string{"hostile", "kills", "operators"}},
	{Name: "act-signature", Where: "authority", What: "acts are signed by an operator"},
	{Name: "heartbeat-signature", Where: "authority", What: "heartbeats are signed by a placer"},
	{Name: "heartbeat-not-ahead", Where: "actuator", What: "a heartbeat counts once, by when it was signed and stored and for no longer than the limit after it came; none from the future"},
	{Name: "heartbeat-anew", Where: "actuator", What: "a heartbeat that has been heard is no sign of life when somebody has it stored anew", favour: []string{"clocks", "versions", "hostile"}},
	{Name: "order-signature", Where: "authority", What: "a destination checks the placer's signature on the command inside a request"},
	{Name: "request-signature", Where: "authority", What: "a request is signed by the host it comes from", favour: []string{"hostile"}},
	{Name: "request-host", Where: "authority", What: "a request is for this host, as its command says"},
	{Name: "reply-signature", Where: "authority", What: "a reply is signed by the host that was asked"},
	{Name: "reply-nonce", Where: "authority", What: "a reply answers this very request"},
	{Name: "shared-disks", Where: "storage", What: "where libvirt leads, no VM with a disk on local storage moves", favour: []string{"peer", "local", "people"}},
	{Name: "no-file-there", Where: "storage", What: "a disk file is made only where there is none of its name", favour: []string{"people"}},
	{Name: "file-unused", Where: "storage", What: "a disk file that a VM of the host names is not deleted", favour: []string{"twists", "local"}},
	{Name: "discard-when-gone", Where: "storage", What: "a source's disk is deleted only once the VM runs at the other host and is gone here", favour: []string{"local", "phases"}},
	{Name: "files-first", Where: "storage", What: "a file is written down before it is made"},
	{Name: "cleared", Where: "storage", What: "what was made for a move that is given up is deleted"},
	{Name: "plan-first", Where: "bus", What: "a command goes out only once its plan is on the record", kind: "placer", favour: twisted},
	{Name: "command-signature", Where: "authority", What: "deciders believe commands only of placers", kind: "placer"},
	{Name: "outcome-signature", Where: "authority", What: "deciders believe outcomes only of their hosts", kind: "placer"},
	{Name: "budget-cluster", Where: "placer", What: "moves of the cluster at a time", kind: "placer"},
	{Name: "budget-host", Where: "placer", What: "moves out of a host and into it at a time", kind: "placer"},
	{Name: "budget-hour", Where: "placer", What: "attempts of the cluster in an hour", kind: "placer"},
	{Name: "budget-vm", Where: "placer", What: "attempts of a VM in a day", kind: "placer"},
	{Name: "cool-down", Where: "placer", What: "a VM that has moved stays for a while", kind: "placer"},
	{Name: "breaker", Where: "placer", What: "after failures in a row nothing moves until an operator says so", kind: "placer"},
	{Name: "unknown-holds", Where: "placer", What: "nothing moves while the end of a move is not known", kind: "placer", favour: []string{"partitions", "phases", "spoils"}},
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
	add := func(name, where string) {
		out = append(out, Guard{Name: name, Where: where, What: holds[name], machine: true, kind: "storm", favour: shows[name]})
	}
	r := migration.DefaultRules()
	for _, g := range r.Admission {
		add(g.Name, "admission")
	}
	for _, g := range r.Source {
		add(g.Name, "source")
	}
	for _, g := range r.Destination {
		add(g.Name, "destination")
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
