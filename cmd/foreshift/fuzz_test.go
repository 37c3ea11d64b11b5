package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// FuzzCommandLine: whatever is typed, it is a command with its arguments and flags, or
// an error that says something, or help; nothing is run.
func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{"", "status --json", "vm show web --watch=1s", "up --hosts 3 --vms x", "bench scale --instances 2,4,b", "policy set x --why 'a b'", "actuator --host a b", "calendar add --start 2026-01-01 --hours -1", "help vm", "completion bash",
		"__complete vm sh", "streams auth rotate placer --dir", "-- --", "--no-such", "resolve vm --runs-at", "plan show last --compare=maybe", "backtest --traces a --u .9.", "sim --seeds -1", "config init host --nats \x00"} {
		f.Add(strings.ReplaceAll(s, " ", "\n"))
	}
	c := root()
	c.SetOut(io.Discard)
	c.SetErr(io.Discard)
	c.PersistentPreRunE = nil // it reads the configuration, which FuzzParse does
	ran := false
	nothing := func(c *cobra.Command) {
		if c.Runnable() {
			c.Run, c.RunE = nil, func(c *cobra.Command, args []string) error { ran = true; return nil }
		}
		c.ValidArgsFunction = nil // asks the bus
	}
	each(c, nothing)
	f.Fuzz(func(t *testing.T, line string) {
		var args []string
		if line != "" {
			args = strings.Split(line, "\n")
		}
		ran = false
		c.SetArgs(args)
		used, err := c.ExecuteC()
		if err != nil && err.Error() == "" {
			t.Fatal("an error without a word")
		}
		if err != nil && ran {
			t.Fatalf("it ran, and failed: %v", err)
		}
		used.Flags().VisitAll(forget)
	})
}

// forget gives a flag its default again.
func forget(f *pflag.Flag) {
	if !f.Changed {
		return
	}
	if s, ok := f.Value.(pflag.SliceValue); ok {
		_ = s.Replace(nil)
	} else {
		_ = f.Value.Set(f.DefValue)
	}
	f.Changed = false
}

func each(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		each(sub, f)
	}
}
