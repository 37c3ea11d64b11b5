package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/actuator/preflight"
	"github.com/foreshift/foreshift/internal/sim"
)

// TestPreflight looks at simulated hosts over the wire.
func TestPreflight(t *testing.T) {
	f, err := sim.New(sim.Config{Seed: 1, Hosts: 3, VMs: 6})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- f.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		f.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	args := []string{"--state", t.TempDir(), "preflight", "--json"}
	for _, h := range f.Hosts() {
		args = append(args, string(h.ID)+"="+h.URI)
	}
	out, err := foreshift(t, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got struct {
		Checks []preflight.Check
		Failed int
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	status := map[string]preflight.Status{}
	for _, c := range got.Checks {
		status[c.Host+" "+c.Name] = c.Status
	}
	for _, h := range f.Hosts() {
		for _, name := range []string{"libvirt", "qemu", "handover", "cpu", "storage"} {
			if s := status[string(h.ID)+" "+name]; s != preflight.OK {
				t.Errorf("%s %s: %q\n%s", h.ID, name, s, out)
			}
		}
		if s := status[string(h.ID)+" clock"]; s != preflight.Unknown {
			t.Errorf("without a bus the clock of %s is %s", h.ID, s)
		}
	}
	// A host that cannot be reached is unknown, never good; the table is for people.
	out, err = foreshift(t, "--state", t.TempDir(), "preflight", "far=qemu+tcp://127.0.0.1:1/system")
	if err != nil || !strings.Contains(out, "unknown") || !strings.Contains(out, "far") {
		t.Fatalf("%v\n%s", err, out)
	}
}
