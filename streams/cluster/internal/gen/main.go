// Command gen prints the configuration of the NATS servers of deploy/docker, so that it
// is the one that `foreshift streams cluster` writes but for what the environment tells.
//
// What comes in: nothing. What goes out: the file, on standard output. A test of deploy
// compares it with the committed one.
package main

import (
	"fmt"

	"github.com/foreshift/foreshift/streams/cluster"
)

func main() { fmt.Print(cluster.FromEnvironment()) }
