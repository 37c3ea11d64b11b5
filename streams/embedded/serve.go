package embedded

import "github.com/nats-io/nats-server/v2/server"

// Node is a server that runs on a configuration written elsewhere: one of a cluster, for
// tests and for a bench on one machine. A real cluster runs nats-server itself.
type Node struct{ srv *server.Server }

// Serve runs a server of a configuration until Shutdown. What it listens on is what the
// configuration says.
func Serve(config string) (*Node, error) {
	srv, err := run(config)
	if err != nil {
		return nil, err
	}
	return &Node{srv}, nil
}

// Shutdown stops the server and waits for it.
func (n *Node) Shutdown() {
	n.srv.Shutdown()
	n.srv.WaitForShutdown()
}
