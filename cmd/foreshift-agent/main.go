// Command foreshift-agent measures hosts and VMs for Foreshift: Telegraf with
// chosen plugins. It is a program of its own so that Telegraf stays out of the
// control plane.
package main

import (
	"os"

	"github.com/foreshift/foreshift/agents/run"
)

func main() { os.Exit(run.Main(os.Args[1:], os.Stdout, os.Stderr)) }
