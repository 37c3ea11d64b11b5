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
	"os"
	"runtime/debug"

	"github.com/foreshift/foreshift/internal/service"
	"github.com/spf13/cobra"
)

func main() {
	ctx, cancel := service.Context(os.Stderr)
	err := root().ExecuteContext(ctx)
	cancel()
	switch {
	case err == nil:
	case errors.As(err, new(usageError)):
		fmt.Fprintln(os.Stderr, "foreshift:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "foreshift:", err)
		os.Exit(1)
	}
}

// usageError is a wrong flag or argument: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func root() *cobra.Command {
	c := &cobra.Command{
		Use:           "foreshift",
		Short:         "Moves virtual machines before they hurt",
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
	c.AddCommand(
		upCommand(&at), labCommand(&at),
		statusCommand(&at), mapCommand(&at), vmCommand(&at), hostCommand(&at), explainCommand(&at), planCommand(&at), replayCommand(&at), policyCommand(&at),
		pauseCommand(&at), resumeCommand(&at), modeCommand(&at), abortCommand(&at), resolveCommand(&at),
		calendarCommand(&at), streamsCommand(&at), preflightCommand(&at), decodeCommand(), benchCommand(), backtestCommand(),
		serviceCommand(&at, "forecaster"), serviceCommand(&at, "placer"), serviceCommand(&at, "actuator"),
		serviceCommand(&at, "recorder"), serviceCommand(&at, "console"),
		versionCommand(),
	)
	strict(c)
	return c
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
