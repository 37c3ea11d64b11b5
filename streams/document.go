package streams

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// WriteSubjects writes the page on streams, subjects and roles, generated from
// the table.
func WriteSubjects(w io.Writer) error {
	p := &page{w: w}
	p.f("# Streams, subjects and roles\n\nGenerated from the table in package `streams` (`task gen`); do not edit. Only `foreshift streams apply` creates what is listed here, and `foreshift streams diff` shows what it would do.\n\n")
	p.f("Every message can be decoded by itself: `foreshift decode` turns any payload into JSON lines.\n\n")
	p.streams()
	p.consumers()
	p.headers()
	p.roles()
	return p.err
}

type page struct {
	w   io.Writer
	err error
}

func (p *page) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

var accountDocs = map[Account]string{
	Tel: "telemetry, forecasts and pressures", Ctrl: "commands, plans, acts and policy", AuditTrail: "hash-chained copies for evidence",
}

func (p *page) streams() {
	for _, a := range Accounts {
		p.f("## Account %s: %s\n\n", a, accountDocs[a])
		p.f("| stream | what | kept | at most | largest message | when full |\n|---|---|---|---|---|---|\n")
		for i := range table {
			s := &table[i]
			if s.Account != a {
				continue
			}
			full := "the oldest goes"
			if c := s.config(ApplyOptions{}); c.Discard != 0 {
				full = "the writer is refused"
			}
			if s.NoDelete {
				full += "; nobody deletes or purges"
			}
			p.f("| %s | %s | %s | %s | %s | %s |\n", s.title(), s.Doc, kept(s), size(s.MaxBytes), size(int64(s.MaxMsg)), full)
		}
		p.f("\n| subject | stream | payload | written by | read by |\n|---|---|---|---|---|\n")
		for i := range table {
			s := &table[i]
			if s.Account != a {
				continue
			}
			for _, sub := range s.Subjects {
				p.f("| `%s` (%s) | %s | %s | %s | %s |\n", sub.Pattern, sub.Note, s.Name, payload(sub.Kind), writers(a, sub.Pattern, s.Name), readers(a, s.Name))
			}
			if s.Bucket == BucketLeases {
				p.f("| `$KV.leases.>` (key: what is held) | %s | JSON | %s | %s |\n", s.Name, writers(a, "$KV.leases.>", s.Name), readers(a, s.Name))
			}
			if s.Objects != "" {
				p.f("| `$O.%s.>` (objects) | %s | bytes | %s | the same |\n", s.Objects, s.Name, objectUsers(a, s.Objects))
			}
		}
		p.f("\n")
	}
}

func (s *Stream) title() string {
	switch {
	case s.Bucket != "":
		return fmt.Sprintf("%s (bucket `%s`)", s.Name, s.Bucket)
	case s.Objects != "":
		return fmt.Sprintf("%s (object store `%s`)", s.Name, s.Objects)
	}
	return s.Name
}

func (p *page) consumers() {
	p.f("## Durable consumers\n\n| consumer | stream | filter | how |\n|---|---|---|---|\n")
	for _, d := range Durables([]schemas.HostID{"HOST"}) {
		p.f("| `%s` | %s | `%s` | explicit ack, judged one at a time, at most %d unacknowledged (those that wait do not hold up the rest), redelivered after %v without a word, given up after %d deliveries |\n",
			strings.ReplaceAll(d.Name, "HOST", "<host>"), d.Stream, strings.ReplaceAll(d.Filter, "HOST", "<host>"), MaxParked, ackWait, maxDeliveries)
	}
	p.f("\nAll other reading is through ephemeral ordered consumers, which services make on the streams named for their role.\n\n")
	p.f("## Request and reply\n\n| subject | account | payload |\n|---|---|---|\n")
	for _, h := range handover {
		p.f("| `%s` (%s) | %s | %s, answered by %s |\n", h.Pattern, h.Note, Ctrl, payload(h.Kind), payload(schemas.KindReply))
	}
	p.f("\n")
}

func (p *page) headers() {
	p.f("## Headers\n\n| header | what |\n|---|---|\n")
	for _, h := range [][2]string{
		{"Nats-Msg-Id", "content id: the same decision has the same id; doubles within 2 minutes are dropped by the server, later ones by readers"},
		{schemas.HeaderSchema, "kind/major.minor of the payload"},
		{schemas.HeaderLease, "revision of the writer's lease; readers drop what a stale owner says"},
		{schemas.HeaderSignature, "in CTRL and AUDIT: Ed25519 (nkeys) over the subject, a line feed and the payload, in base64"},
		{schemas.HeaderSigner, "public nkey of the signer; it counts only when pinned in " + FileAuthorities},
		{schemas.HeaderTrace, "W3C trace context: one trace for all that is said of a move, one for all that is made of a base step"},
		{schemas.HeaderSeen, "of a decision: up to which message of each stream it had read, as `STREAM=sequence,...`; the way back from an effect to its samples"},
		{"Nats-Expected-Last-Subject-Sequence", "optimistic lock of the writer; with -Subject, the filter it speaks of (a VM's record: `migrations.<vm>.>`)"},
	} {
		p.f("| `%s` | %s |\n", h[0], h[1])
	}
	p.f("\n")
}

func (p *page) roles() {
	p.f("## Roles\n\nEach role has an nkey per account, no more. `agent-<host>` and `actuator-<host>` are bound to one host.\n\n| role | what it does | signs | account | publishes | reads |\n|---|---|---|---|---|---|\n")
	for _, r := range roles {
		for _, a := range Accounts {
			in, ok := r.in[a]
			if !ok {
				continue
			}
			signs := ""
			if r.signs {
				signs = "yes"
			}
			reads := slices.Concat(in.reads, in.gets)
			for _, o := range in.objects {
				reads = append(reads, "OBJ_"+o)
			}
			if in.durables {
				reads = append(reads, "its commands, through its durable consumer")
			}
			for _, h := range in.hears {
				reads = append(reads, "`"+strings.ReplaceAll(h, "%h", "<host>")+"`")
			}
			writes := slices.Concat(in.writes, in.asks)
			for i := range writes {
				writes[i] = "`" + strings.ReplaceAll(writes[i], "%h", "<host>") + "`"
			}
			if in.admin {
				writes, reads = append(writes, "`$JS.API.>`"), append(reads, "all streams")
			}
			p.f("| %s | %s | %s | %s | %s | %s |\n", r.name, r.doc, signs, a, dash(strings.Join(writes, " ")), dash(strings.Join(reads, ", ")))
		}
	}
	p.f("\nServices may write the dead letters (`dlq.<stream>`) of the streams they read.\n")
}

func kept(s *Stream) string {
	k := "until full"
	if s.MaxAge > 0 {
		k = age(s.MaxAge)
	}
	if s.History > 1 {
		k += fmt.Sprintf(", %d revisions a key", s.History)
	}
	return k
}

func age(d time.Duration) string {
	if d%day == 0 && d > 2*day {
		return fmt.Sprintf("%d days", d/day)
	}
	return fmt.Sprintf("%d h", d/time.Hour)
}

func size(n int64) string {
	switch {
	case n <= 0:
		return "-"
	case n%gib == 0:
		return fmt.Sprintf("%d GiB", n/gib)
	case n%mib == 0:
		return fmt.Sprintf("%d MiB", n/mib)
	}
	return fmt.Sprintf("%d KiB", n/kib)
}

// payload names a kind and how it is encoded.
func payload(k schemas.Kind) string {
	switch k {
	case schemas.KindMetrics, schemas.KindSteps, schemas.KindForecasts:
		return "`" + schemas.SchemaHeader(k) + "`, Arrow IPC"
	}
	return "`" + schemas.SchemaHeader(k) + "`, JSON"
}

// writers are the roles that publish to a subject.
func writers(a Account, pattern, stream string) string {
	if pattern == "dlq.*" {
		return "services that read the stream"
	}
	sample := strings.NewReplacer("*", "x", ">", "x").Replace(pattern)
	var out []string
	for _, r := range roles {
		for _, w := range r.in[a].writes {
			w = strings.ReplaceAll(w, "%h", "*")
			if r.in[a].admin && stream != "KV_"+BucketPolicy {
				continue
			}
			if matches(w, sample) || matches(pattern, strings.NewReplacer("*", "x", ">", "x").Replace(w)) {
				out = append(out, r.name)
				break
			}
		}
	}
	return dash(strings.Join(out, ", "))
}

// readers are the roles that read a stream.
func readers(a Account, stream string) string {
	var out []string
	for _, r := range roles {
		in := r.in[a]
		if slices.Contains(in.reads, stream) || slices.Contains(in.gets, stream) || r.name == RoleViewer && a == Tel {
			out = append(out, r.name)
		}
	}
	return dash(strings.Join(out, ", "))
}

func objectUsers(a Account, store string) string {
	var out []string
	for _, r := range roles {
		if slices.Contains(r.in[a].objects, store) {
			out = append(out, r.name)
		}
	}
	return dash(strings.Join(out, ", "))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
