package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/foreshift/foreshift/streams/cluster"
	"github.com/spf13/cobra"
)

func clusterCommand(at *place) *cobra.Command {
	var dir, hosts, store, on string
	var port, routes int
	var shared bool
	c := &cobra.Command{Use: "cluster NAME=HOST[:TAGS]...", Short: "Write certificates and configurations of a cluster of nats-servers; safe to repeat", Args: cobra.MinimumNArgs(3),
		Long: `Writes, in a directory, a private CA (ca.pem; its key never leaves the directory), the
keys of every role (as "streams auth" does), and for each server servers/NAME/ with its
certificate, its configuration and the accounts. Copy servers/NAME/ to /etc/nats (or where --at says) of the server and run
"nats-server -c /etc/nats/nats-server.conf"; copy ca.pem beside the keys of every service.

Commands and audit are written through to disk before they are acknowledged: that is a
setting of a whole server. With three servers each carries all; with six, give three the
tag ctrl and three the tag tel.`,
		Example: "foreshift streams cluster --dir ./bus n1=10.0.0.1 n2=10.0.0.2 n3=10.0.0.3 --hosts h1,h2\nforeshift streams cluster --dir ./bus c1=10.0.0.1:ctrl c2=10.0.0.2:ctrl c3=10.0.0.3:ctrl t1=10.0.0.4:tel t2=10.0.0.5:tel t3=10.0.0.6:tel"}
	c.RunE = func(c *cobra.Command, args []string) error {
		o := cluster.Options{Dir: dir, Shared: shared, At: on}
		if o.Dir == "" {
			o.Dir = at.state
		}
		var err error
		if o.Hosts, err = hostList(hosts); err != nil {
			return err
		}
		for _, a := range args {
			name, host, ok := strings.Cut(a, "=")
			if !ok {
				return usageError{fmt.Errorf("%q: want NAME=HOST, as n1=10.0.0.1", a)}
			}
			host, tags, tagged := strings.Cut(host, ":")
			n := cluster.Node{Name: name, Client: net.JoinHostPort(host, strconv.Itoa(port)), Route: net.JoinHostPort(host, strconv.Itoa(routes)), Store: store}
			if tagged {
				n.Tags = strings.Split(tags, "+")
			}
			o.Nodes = append(o.Nodes, n)
		}
		if err := o.Validate(); err != nil {
			return usageError{err}
		}
		files, err := cluster.Write(o)
		if err != nil {
			return err
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"dir": o.Dir, "files": files, "url": o.URL()})
		}
		for _, f := range files {
			fmt.Fprintln(c.OutOrStdout(), "written:", f)
		}
		fmt.Fprintf(c.OutOrStdout(), "next: copy each servers/NAME/ to %s of its server and run `nats-server -c %s/nats-server.conf`, then\n  foreshift streams apply --replicas 3 --placement --hosts %s --state %s --nats %s\n", on, on, hosts, o.Dir, o.URL())
		return nil
	}
	f := c.Flags()
	f.StringVar(&dir, "dir", "", "directory of the CA and the credentials (default: the state directory)")
	f.StringVar(&hosts, "hosts", "", "comma-separated ids of hosts that get an agent and an actuator")
	f.StringVar(&on, "at", "/etc/nats", "directory of a server's files on that server")
	f.StringVar(&store, "store", "/var/lib/nats", "directory of JetStream's files on the servers")
	f.IntVar(&port, "port", 4222, "port for services")
	f.IntVar(&routes, "cluster-port", 6222, "port for the other servers")
	f.BoolVar(&shared, "shared-roles", false, "also make the roles agent and actuator that serve all hosts: for simulated ones")
	return c
}
