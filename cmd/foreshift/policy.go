package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/spf13/cobra"
)

func policyCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "The operator's policy: limits, rules, modes, windows", Args: cobra.NoArgs}
	show := func(c *cobra.Command, _ []string) error {
		p, err := at.picture(c.Context())
		if err != nil {
			return err
		}
		return writePolicy(c.OutOrStdout(), at.json, p.Policy)
	}
	c.RunE = show
	c.AddCommand(
		&cobra.Command{Use: "show", Short: "The policy in force, with what operators said over it", Args: cobra.NoArgs, RunE: show},
		&cobra.Command{Use: "check FILE", Short: "Say every fault of a policy in a JSON file; fields that are not there keep their default", Args: cobra.ExactArgs(1), RunE: func(c *cobra.Command, args []string) error {
			p, err := readPolicy(args[0], c.InOrStdin(), policy.Default())
			if err != nil {
				return err
			}
			return writePolicy(c.OutOrStdout(), at.json, p)
		}},
		policySetCommand(at), policyRollbackCommand(at),
	)
	return c
}

// policySetCommand publishes the policy that was set last with what a file changes.
func policySetCommand(at *place) *cobra.Command {
	return actCommand(at, "set FILE", "Change the policy: a JSON file with the fields that change (\"-\" reads standard input); it takes effect at once", cobra.ExactArgs(1),
		func(ctx context.Context, a *schemas.Act, args []string) (string, error) {
			now, err := at.picture(ctx)
			if err != nil {
				return "", err
			}
			// Modes set by single acts would end with a newer policy: they go into it.
			// Cordons, drains and pauses hold beside any policy.
			over := now.Words.Set
			over.Mode, over.HostModes, over.VMModes = now.Policy.Mode, now.Policy.HostModes, now.Policy.VMModes
			p, err := readPolicy(args[0], os.Stdin, over)
			if err != nil {
				return "", err
			}
			p.Version = now.Words.Next
			a.Act, a.Policy = schemas.ActPolicy, &p
			return "`foreshift policy` shows it in force", nil
		})
}

func policyRollbackCommand(at *place) *cobra.Command {
	return actCommand(at, "rollback VERSION", "Return to an earlier version of the policy", cobra.ExactArgs(1), func(_ context.Context, a *schemas.Act, args []string) (string, error) {
		n, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil || n == 0 {
			return "", usageError{fmt.Errorf("version %q: want a number from 1", args[0])}
		}
		a.Version = n
		return "`foreshift policy` shows it in force", nil
	})
}

// maxPolicyFile bounds what is read of a file.
const maxPolicyFile = 1 << 20

// readPolicy lays a JSON file over a policy and checks the whole. Lists and maps of
// the file replace those before.
func readPolicy(name string, stdin io.Reader, over policy.Policy) (policy.Policy, error) {
	r := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return policy.Policy{}, err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxPolicyFile))
	if err != nil {
		return policy.Policy{}, fmt.Errorf("policy %s: %w", name, err)
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal(b, &given); err != nil {
		return policy.Policy{}, fmt.Errorf("policy %s: %w", name, err)
	}
	p := over
	clearGiven(reflect.ValueOf(&p).Elem(), given)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return policy.Policy{}, fmt.Errorf("policy %s: %w", name, err)
	}
	p = policy.Complete(p)
	if err := policy.Validate(p); err != nil {
		return policy.Policy{}, err
	}
	return p, p.Validate()
}

// clearGiven empties the fields that the file names.
func clearGiven(v reflect.Value, given map[string]json.RawMessage) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			clearGiven(v.Field(i), given)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if _, ok := given[name]; ok {
			v.Field(i).SetZero()
		}
	}
}

func writePolicy(w io.Writer, asJSON bool, p policy.Policy) error {
	if asJSON {
		return object(w, p)
	}
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}
