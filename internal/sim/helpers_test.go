package sim

import (
	"testing"

	"github.com/digitalocean/go-libvirt"
)

// dropConnections closes every connection of a daemon at the server's end, as a
// firewall might. other is one of them, closed politely first.
func (d *daemon) dropConnections(other *libvirt.Libvirt, t testing.TB) {
	t.Helper()
	if err := other.Disconnect(); err != nil {
		t.Fatal(err)
	}
	d.f.mu.Lock()
	servers := d.servers
	d.f.mu.Unlock()
	for _, s := range servers {
		s.CloseAll()
	}
}
