package run

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/foreshift/foreshift/agents/conf"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
)

// TestOneAgentKeepsUp runs the agent as a process of its own against 200 simulated
// hosts of 20 VMs for a minute of 10 s gathers, and tells what it cost. It takes a
// minute and wants a built agent, so it runs only when that is named:
//
//	go build -o /tmp/foreshift-agent ./cmd/foreshift-agent
//	FORESHIFT_AGENT=/tmp/foreshift-agent go test ./agents/run -run KeepsUp -v
func TestOneAgentKeepsUp(t *testing.T) {
	binary := os.Getenv("FORESHIFT_AGENT")
	if binary == "" {
		t.Skip("FORESHIFT_AGENT names no built agent")
	}
	const hosts, vms = 200, 4000
	s, err := embedded.Start(embedded.Options{StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	admin, err := streams.Connect(ctx, s.Credentials("admin"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := streams.Apply(ctx, admin, s.ApplyOptions()); err != nil {
		t.Fatal(err)
	}
	fleet := simulate(t, ctx, hosts, vms)
	set := conf.Settings{URL: s.URL(), Credentials: s.Dir()}
	for _, h := range fleet.Hosts() {
		set.Hosts = append(set.Hosts, conf.Host{ID: h.ID, Site: h.Site, URI: h.URI, Capacity: h.Capacity, Labels: h.Labels, Simulated: true})
	}
	path := filepath.Join(t.TempDir(), "agent.conf")
	if err := conf.Write(path, set); err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(binary, "--config", path)
	agent.Stdout, agent.Stderr = os.Stdout, os.Stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	viewer, err := streams.Connect(ctx, s.Credentials("inspector"))
	if err != nil {
		t.Fatal(err)
	}
	defer viewer.Close()
	watch, stop := context.WithTimeout(ctx, 75*time.Second)
	defer stop()
	messages, rows, most := 0, 0, float32(0)
	seq := map[schemas.HostID]uint64{}
	err = viewer.Consume(watch, "test", streams.Input{Stream: streams.Metrics}, func(e streams.Event) {
		m := e.Msg.(*schemas.Metrics)
		messages++
		rows += len(m.VM)
		if m.Seq != seq[m.Host]+1 {
			t.Errorf("host %s: message %d follows %d", m.Host, m.Seq, seq[m.Host])
		}
		seq[m.Host] = m.Seq
		most = max(most, m.IntervalS[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Fatal("the agent must end cleanly: ", err)
	}
	u := agent.ProcessState.SysUsage().(*syscall.Rusage)
	spent := agent.ProcessState.UserTime() + agent.ProcessState.SystemTime()
	gathers := float64(messages) / hosts
	t.Logf("%d hosts, %d VMs: %.1f gathers, %d rows, longest interval %.1f s; agent: %.2f CPU-s in all, %.3f per gather; %d MiB RSS at most",
		hosts, vms, gathers, rows, most, spent.Seconds(), spent.Seconds()/gathers, u.Maxrss>>10)
	if gathers < 6 || most > 15 {
		t.Error("the agent does not keep up")
	}
}
