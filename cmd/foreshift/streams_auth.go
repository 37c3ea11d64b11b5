package main

import (
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

func authCommand(at *place) *cobra.Command {
	var dir, hosts string
	where := func() string {
		if dir != "" {
			return dir
		}
		return at.state
	}
	c := &cobra.Command{Use: "auth", Short: "Make the keys of every role, the accounts of a NATS server, and the pinned keys; safe to repeat", Args: cobra.NoArgs,
		Long: `Makes, in a directory, the keys of every role (creds/, mode 0600), the accounts
with their users and permissions for a nats-server to include (accounts.conf, public
keys only), and the pinned keys whose word counts (authorities.json). What is there
stays; new hosts are added.

Copy creds/agent-HOST.* and creds/actuator-HOST.* with authorities.json to each
host, and of the other roles what runs where; keep the rest away from them.`,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := hostList(hosts)
			if err != nil {
				return err
			}
			_, changes, err := streams.EnsureAuth(streams.AuthOptions{Dir: where(), Hosts: list, Own: true})
			if err != nil {
				return err
			}
			return authChanged(c.OutOrStdout(), at.json, where(), changes,
				fmt.Sprintf("in the server's configuration: max_payload: %d, and include %q", streams.MaxPayload+64<<10, filepath.Join(where(), streams.FileAccounts)))
		}}
	c.PersistentFlags().StringVar(&dir, "dir", "", "directory of the credentials (default: the state directory)")
	c.Flags().StringVar(&hosts, "hosts", "", "comma-separated ids of hosts that get an agent and an actuator")

	reload := "run `nats-server --signal reload`, and copy " + streams.FileAuthorities + " to every host: services read it again by themselves"
	rotate := &cobra.Command{Use: "rotate ROLE", Short: "Give a role new keys beside the old ones, which still count until they are retired", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		changes, err := streams.RotateAuth(where(), args[0])
		if err != nil {
			return err
		}
		return authChanged(c.OutOrStdout(), at.json, where(), changes, reload,
			fmt.Sprintf("copy creds/%s.* to where it runs and restart it; then `foreshift streams auth retire %s`", args[0], args[0]))
	}}
	retire := &cobra.Command{Use: "retire ROLE", Short: "End a rotation: only the keys in the role's files still count", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		changes, err := streams.RetireAuth(where(), args[0], schemas.At(time.Now()))
		if err != nil {
			return err
		}
		return authChanged(c.OutOrStdout(), at.json, where(), changes, reload)
	}}
	var since string
	revoke := &cobra.Command{Use: "revoke KEY", Short: "Take one public key out at once, as of a time", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
		from := time.Now()
		if since != "" {
			var err error
			if from, err = time.Parse(time.RFC3339, since); err != nil {
				return usageError{fmt.Errorf("--since %q: want a time like 2026-03-01T12:00:00Z", since)}
			}
		}
		changes, err := streams.RevokeAuth(where(), args[0], schemas.At(from))
		if err != nil {
			return err
		}
		return authChanged(c.OutOrStdout(), at.json, where(), changes, reload, "a role whose key this was needs `foreshift streams auth rotate ROLE`")
	}}
	revoke.Flags().StringVar(&since, "since", "", "nothing that the key signed from this time on counts (default: now)")
	c.AddCommand(rotate, retire, revoke)
	return c
}

// authChanged says what was changed in a directory of credentials, and what a
// person does next.
func authChanged(w io.Writer, asJSON bool, dir string, changes []string, next ...string) error {
	if asJSON {
		if changes == nil {
			changes = []string{}
		}
		return object(w, map[string]any{"dir": dir, "changes": changes})
	}
	for _, x := range changes {
		fmt.Fprintln(w, x)
	}
	if len(changes) == 0 {
		_, err := fmt.Fprintln(w, "nothing to do: all keys are there")
		return err
	}
	for _, x := range next {
		if _, err := fmt.Fprintln(w, "next:", x); err != nil {
			return err
		}
	}
	return nil
}
