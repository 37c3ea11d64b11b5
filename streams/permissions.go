package streams

import (
	"fmt"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// Permissions of one user in one account, as the server enforces them.
type Permissions struct {
	Publish   []string
	Subscribe []string
	Deny      []string // not published to, whatever Publish says
}

// PermissionsOf derives what a role may do in an account. The fleet's hosts are
// needed to keep their durable consumers from other roles; without any, none are.
//
// The API of JetStream is never granted as a whole: a role gets the calls on the
// streams that are named for it, and nobody gets allow_responses. Even so, who may
// read a stream of an account can have the server copy a stored message onto any
// subject of that account, by naming it as the reply. Hence commands have an
// account of their own, and every word in it that matters is signed.
func PermissionsOf(name string, a Account, hosts []schemas.HostID) (Permissions, error) {
	r, err := roleOf(name)
	if err != nil {
		return Permissions{}, err
	}
	in, ok := r.in[a]
	if !ok {
		return Permissions{}, fmt.Errorf("role %s: has no user in account %s", name, a)
	}
	p := Permissions{Subscribe: []string{InboxPrefix(name) + ".>"}}
	pub := func(s ...string) { p.Publish = append(p.Publish, s...) }
	for _, w := range append(slices.Clone(in.writes), in.asks...) {
		pub(strings.ReplaceAll(w, "%h", r.host))
	}
	for _, s := range in.reads {
		pub(readAPI(s)...)
	}
	for _, s := range append(slices.Clone(in.reads), in.gets...) {
		pub("$JS.API.STREAM.INFO."+s, "$JS.API.STREAM.MSG.GET."+s, "$JS.API.DIRECT.GET."+s, "$JS.API.DIRECT.GET."+s+".>")
		if !r.people() {
			pub(SubjectDeadLetter(s))
		}
	}
	for _, o := range in.objects {
		s := "OBJ_" + o
		pub("$O."+o+".>", "$JS.API.STREAM.PURGE."+s)
		pub(readAPI(s)...)
		pub("$JS.API.STREAM.INFO."+s, "$JS.API.STREAM.MSG.GET."+s, "$JS.API.DIRECT.GET."+s, "$JS.API.DIRECT.GET."+s+".>")
	}
	for _, h := range in.hears {
		p.Subscribe = append(p.Subscribe, strings.ReplaceAll(h, "%h", r.host))
	}
	if len(in.asks) > 0 {
		mine := r.host
		pub("_INBOX_actuator.*.*")
		p.Subscribe = append(p.Subscribe, "_INBOX_actuator."+mine+".*")
	}
	if in.durables {
		d := "*"
		if r.host != "*" {
			d = DurableActuator(schemas.HostID(r.host))
		}
		pub("$JS.API.CONSUMER.INFO."+Migrations+"."+d, "$JS.API.CONSUMER.MSG.NEXT."+Migrations+"."+d, "$JS.ACK."+Migrations+"."+d+".>", "$JS.ACK.*.*."+Migrations+"."+d+".>")
	}
	if in.found {
		p.Subscribe = append(p.Subscribe, "$SRV.>")
		pub(InboxPrefix(RoleInspector) + ".>")
	}
	pub(in.api...)
	if in.admin {
		pub("$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$O.>")
	} else {
		p.Deny = foreignDurables(in, hosts)
	}
	slices.Sort(p.Publish)
	p.Publish = slices.Compact(p.Publish)
	return p, nil
}

// readAPI are the calls for ephemeral ordered consumers on a stream.
func readAPI(s string) []string {
	return []string{
		"$JS.API.CONSUMER.CREATE." + s + ".>",
		"$JS.API.CONSUMER.INFO." + s + ".*",
		"$JS.API.CONSUMER.DELETE." + s + ".*",
		"$JS.API.CONSUMER.MSG.NEXT." + s + ".*",
		"$JS.FC." + s + ".>",
		"$JS.ACK." + s + ".>",
	}
}

// foreignDurables keeps a role that reads MIGRATIONS from taking, changing or
// removing the actuators' consumers there.
func foreignDurables(in access, hosts []schemas.HostID) []string {
	if in.durables || !slices.Contains(in.reads, Migrations) {
		return nil
	}
	var out []string
	for _, d := range Durables(hosts) {
		n := Migrations + "." + d.Name
		out = append(out, "$JS.API.CONSUMER.CREATE."+n, "$JS.API.CONSUMER.CREATE."+n+".>", "$JS.API.CONSUMER.DELETE."+n, "$JS.API.CONSUMER.MSG.NEXT."+n, "$JS.ACK."+n+".>")
	}
	return out
}

// User is one nkey user of the bus.
type User struct {
	Role    string
	Account Account
	Public  string // nkey
}

// ServerAccounts writes the accounts and users as a nats-server configuration:
// the embedded server runs on it, and so does one that is set up by hand
// (`include` it). It holds public keys only.
func ServerAccounts(users []User, hosts []schemas.HostID) (string, error) {
	var w strings.Builder
	w.WriteString("# Accounts and users of Foreshift. Written by foreshift; changes are lost.\naccounts {\n")
	for _, a := range Accounts {
		fmt.Fprintf(&w, "  %s {\n    jetstream: enabled\n    users: [\n", a)
		for _, u := range users {
			if u.Account != a {
				continue
			}
			p, err := PermissionsOf(u.Role, a, hosts)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&w, "      # %s\n      { nkey: %s, permissions: {\n", u.Role, u.Public)
			if len(p.Publish) == 0 {
				// To the server an empty list of what is allowed means all of it.
				p.Deny = []string{">"}
			}
			fmt.Fprintf(&w, "        publish: { allow: [%s], deny: [%s] }\n", quoted(p.Publish), quoted(p.Deny))
			fmt.Fprintf(&w, "        subscribe: { allow: [%s] } } }\n", quoted(p.Subscribe))
		}
		w.WriteString("    ]\n  }\n")
	}
	fmt.Fprintf(&w, "  %s { users: [] }\n}\nsystem_account: %s\n", Sys, Sys)
	return w.String(), nil
}

func quoted(s []string) string {
	q := make([]string, len(s))
	for i := range s {
		q[i] = fmt.Sprintf("%q", s[i])
	}
	return strings.Join(q, ", ")
}
