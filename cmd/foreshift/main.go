// Command foreshift is the control plane and the command line of Foreshift: one
// binary for the embedded bus, the services, and the commands by which people look
// at a running fleet.
//
// What comes in: flags, and the state directory of a running "foreshift up" or the
// address and credentials of a bus. What goes out: tables for people, one JSON
// object with --json, and exit codes: 0 done, 1 failed, 2 wrong use. Errors go to
// stderr and say what to do.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"

	"github.com/foreshift/foreshift/internal/service"
	"github.com/spf13/cobra"
)

func main() { start() }

func start() {
	ctx, cancel := service.Context(muted{os.Stderr})
	c := root()
	c.SetOut(newPaper(os.Stdout))
	err := c.ExecuteContext(ctx)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "foreshift:", err)
		if errors.As(err, new(usageError)) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

// quiet is set while Ctrl-C is how a person ends a look, and needs no word.
var quiet atomic.Bool

// muted writes unless it is to be quiet.
type muted struct{ io.Writer }

func (m muted) Write(b []byte) (int, error) {
	if quiet.Load() {
		return len(b), nil
	}
	return m.Writer.Write(b)
}

// usageError is a wrong flag or argument: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "foreshift",
		Short: "Moves virtual machines before they hurt",
		Long: `Moves virtual machines before they hurt: forecasts every VM's demand, works out which
hosts run short and when, moves the few VMs whose move pays, and says why.

Commands find a running ` + "`foreshift up`" + ` by its state directory. A fleet elsewhere is found
by a context of the nats command line (--context), or by --nats URL --state DIR, where
DIR holds the keys that ` + "`foreshift streams auth`" + ` made.

Exit codes: 0 done, 1 failed, 2 wrong use. Colour is for terminals only; NO_COLOR turns
it off.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())}
	})
	var at place
	at.flags(c)
	c.PersistentPreRunE = at.configure
	c.AddGroup(groups...)
	for id, list := range map[string][]*cobra.Command{
		"look":    {statusCommand(&at), explainCommand(&at), vmCommand(&at), hostCommand(&at), mapCommand(&at), tunnelCommand(&at), planCommand(&at), replayCommand(&at), learningCommand(&at), reportCommand(&at)},
		"act":     {pauseCommand(&at), resumeCommand(&at), modeCommand(&at), cordonCommand(&at, "cordon"), cordonCommand(&at, "uncordon"), drainCommand(&at), abortCommand(&at), resolveCommand(&at), policyCommand(&at), calendarCommand(&at)},
		"try":     {upCommand(&at), labCommand(&at), backtestCommand(&at), historyCommand(&at), simCommand(), benchCommand()},
		"set up":  {configCommand(&at), preflightCommand(&at), streamsCommand(&at), decodeCommand(), versionCommand()},
		"service": {serviceCommand(&at, "forecaster", &serviceOptions{}), serviceCommand(&at, "placer", &serviceOptions{}), serviceCommand(&at, "actuator", &serviceOptions{}), serviceCommand(&at, "recorder", &serviceOptions{}), serviceCommand(&at, "console", &serviceOptions{})},
	} {
		for _, sub := range list {
			sub.GroupID = id
			c.AddCommand(sub)
		}
	}
	c.AddCommand(referenceCommand())
	c.SetHelpCommandGroupID("set up")
	c.SetCompletionCommandGroupID("set up")
	strict(c)
	return c
}

// groups are what people come with.
var groups = []*cobra.Group{
	{ID: "look", Title: "Look and ask:"},
	{ID: "act", Title: "Act, signed and recorded:"},
	{ID: "try", Title: "Try, and measure on your own data:"},
	{ID: "set up", Title: "Set up:"},
	{ID: "service", Title: "Services, one each:"},
}

// strict makes wrong arguments a usage error everywhere.
func strict(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		strict(sub)
	}
}

// version is set by the linker of a release; otherwise it tells the commit.
var version = ""

func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "dev-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "dev"
}

func versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
		_, err := fmt.Fprintln(c.OutOrStdout(), "foreshift", versionText())
		return err
	}}
}
