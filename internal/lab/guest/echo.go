package main

import (
	"fmt"
	"io"
	"net"
)

// echoPort answers whatever is sent to it: a connection that stays open across a move is
// what a client of the VM has.
const echoPort = 9000

func echo(console io.Writer) {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", echoPort))
	if err != nil {
		fmt.Fprintf(console, "no echo: %v\r\n", err)
		return
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}
