package cluster

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/foreshift/foreshift/streams"
)

// values are what tells one server's configuration from another's, as they stand in it.
type values struct {
	name, listen, store string
	tags                []string
	through             bool   // carries what must survive a power cut
	most                string // of the store; empty: the server's own bound
	tls                 string // directory of the certificates; empty: in the clear
	cluster, route      string
	routes              string
}

// config is a node's configuration.
func (o Options) config(n Node) string {
	tags := n.Tags
	if len(tags) == 0 {
		tags = []string{TagCtrl, TagTel}
	}
	at := o.At
	if at == "" {
		at = filepath.Join(o.Dir, DirServers, n.Name)
	}
	if o.NoTLS {
		at = ""
	}
	store := n.Store
	if store == "" {
		store = "/var/lib/nats"
	}
	var routes strings.Builder
	routes.WriteString("[\n")
	for _, other := range o.Nodes {
		if other.Name != n.Name {
			fmt.Fprintf(&routes, "    %q\n", "nats://"+other.Route)
		}
	}
	routes.WriteString("  ]")
	return "# A server of Foreshift's bus. Written by `foreshift streams cluster`; changes are lost.\n" +
		values{name: quote(n.Name), tags: tags, listen: quote(n.Client), store: quote(store), through: n.has(TagCtrl), tls: at,
			cluster: quote(o.Name), route: quote(n.Route), routes: routes.String()}.String()
}

// FromEnvironment is the same configuration for servers in the clear on a network of
// their own, as containers have it, which their environment tells apart: NATS_NAME,
// NATS_LISTEN, NATS_CLUSTER (addresses), NATS_ROUTES (a list), NATS_STORE.
func FromEnvironment() string {
	return "# One of the three NATS servers of compose.yaml; the environment tells them apart.\n" +
		"# accounts.conf is made by `foreshift streams auth`: public keys and permissions only.\n" +
		"# Written by `./task gen`; changes are lost.\n" +
		values{name: "$NATS_NAME", tags: []string{TagCtrl, TagTel}, listen: "$NATS_LISTEN", store: "$NATS_STORE", through: true, most: "2TB",
			cluster: "foreshift", route: "$NATS_CLUSTER", routes: "$NATS_ROUTES"}.String()
}

func quote(s string) string { return fmt.Sprintf("%q", s) }

func (v values) String() string {
	var w strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&w, format+"\n", args...) }
	quoted := make([]string, len(v.tags))
	for i, t := range v.tags {
		quoted[i] = quote(t)
	}
	in := func(file string) string { return filepath.Join(v.tls, file) }
	p("server_name: %s", v.name)
	p("server_tags: [%s]", strings.Join(quoted, ", "))
	p("listen: %s", v.listen)
	p("max_payload: %d", streams.MaxPayload+64<<10)
	p("max_pending: %d", 128<<20)
	p("jetstream {")
	p("  store_dir: %s", v.store)
	if v.most != "" {
		p("  max_file_store: %s", v.most)
	}
	p("  max_memory_store: %d", 256<<20)
	if v.through {
		p("  sync_interval: always # an acknowledged command survives a power cut")
	}
	p("}")
	if v.tls != "" {
		p("tls {\n  cert_file: %q\n  key_file: %q\n  ca_file: %q\n  min_version: \"1.3\"\n}", in(fileCert), in(fileKey), in(streams.FileCA))
	}
	p("cluster {\n  name: %s\n  listen: %s\n  routes: %s", v.cluster, v.route, v.routes)
	if v.tls != "" {
		p("  tls {\n    cert_file: %q\n    key_file: %q\n    ca_file: %q\n    verify: true\n    min_version: \"1.3\"\n  }", in(fileCert), in(fileKey), in(streams.FileCA))
	}
	p("}")
	p("include %q", streams.FileAccounts)
	return w.String()
}
