package embedded_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var hosts = []schemas.HostID{"h1"}

func connect(t *testing.T, s *embedded.Server, role string) *streams.Bus {
	t.Helper()
	c := s.Credentials(role)
	c.Log = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b, err := streams.Connect(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func up(t *testing.T, dir string) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(embedded.Options{StateDir: dir, Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGoesOnWhereItEnded(t *testing.T) {
	dir, ctx := t.TempDir(), context.Background()
	s := up(t, dir)
	admin := connect(t, s, streams.RoleAdmin)
	if _, err := streams.Apply(ctx, admin, s.ApplyOptions()); err != nil {
		t.Fatal(err)
	}
	b := connect(t, s, streams.RoleActuatorID)
	p := &schemas.Progress{Command: "c1", Epoch: 1, Host: "h1", VM: schemas.VMID{1}, Time: 1e18, Phase: schemas.PhasePreCopy, Round: 1}
	if _, err := b.Publish(ctx, streams.Out{Subject: streams.SubjectProgress(p.VM), Msg: p}); err != nil {
		t.Fatal(err)
	}
	seed, err := os.ReadFile(streams.SeedFile(dir, streams.RolePlacer, streams.Ctrl))
	if err != nil {
		t.Fatal(err)
	}
	s.Shutdown()

	s = up(t, dir)
	t.Cleanup(s.Shutdown)
	again, err := os.ReadFile(streams.SeedFile(dir, streams.RolePlacer, streams.Ctrl))
	if err != nil || string(again) != string(seed) {
		t.Fatalf("the placer's key was made anew (%v)", err)
	}
	if changes, err := streams.Diff(ctx, connect(t, s, streams.RoleAdmin), s.ApplyOptions()); err != nil || len(changes) > 0 {
		t.Fatalf("streams after the restart: %v %v", changes, err)
	}
	events, err := connect(t, s, streams.RoleInspector).Last(ctx, streams.Progress)
	if err != nil || len(events) != 1 {
		t.Fatalf("after the restart: %v %v", events, err)
	}
}

func TestFilesAreClosedToOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := up(t, dir)
	s.Shutdown()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if strings.HasPrefix(path, filepath.Join(dir, "jetstream")+"/") || filepath.Base(path) == streams.FileAuthorities {
			return nil // behind a closed directory; public keys
		}
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %04o", path, st.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seed := streams.SeedFile(dir, streams.RolePlacer, streams.Tel)
	if err := os.Chmod(seed, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Start(embedded.Options{StateDir: dir}); err == nil || !strings.Contains(err.Error(), "chmod 0600 "+seed) {
		t.Fatalf("open seed: %v", err)
	}
	if err := os.Chmod(seed, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, streams.FileAuthorities), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.LoadAuthorities(filepath.Join(dir, streams.FileAuthorities)); err == nil || !strings.Contains(err.Error(), "chmod") {
		t.Fatalf("authorities that others write: %v", err)
	}
}

func TestLoopbackOnly(t *testing.T) {
	for _, listen := range []string{"0.0.0.0", "192.0.2.1", "example.org", "::"} {
		if _, err := embedded.Start(embedded.Options{StateDir: t.TempDir(), Listen: listen}); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: %v", listen, err)
		}
	}
	s, err := embedded.Start(embedded.Options{StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	if !strings.HasPrefix(s.URL(), "nats://127.0.0.1:") {
		t.Fatal(s.URL())
	}
	taken := s.Port()
	if _, err := embedded.Start(embedded.Options{StateDir: t.TempDir(), Port: taken}); err == nil {
		t.Fatal("two on one port")
	}
}

func TestState(t *testing.T) {
	dir := t.TempDir()
	if _, err := streams.LoadState(dir); !errors.Is(err, streams.ErrNotRunning) || !strings.Contains(err.Error(), "foreshift up") {
		t.Fatalf("none: %v", err)
	}
	want := streams.State{URL: "nats://127.0.0.1:1", Page: "http://127.0.0.1:2", PID: os.Getpid(), Started: 1e18, Base: "1s"}
	if err := want.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := streams.LoadState(dir)
	if err != nil || got.BaseStep() != time.Second || got.Page != want.Page || got.Credentials("viewer").Dir != dir {
		t.Fatalf("%+v %v", got, err)
	}
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Skip("no `true` to take a finished process from")
	}
	want.PID = dead.Process.Pid
	if err := want.Save(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := streams.LoadState(dir); !errors.Is(err, streams.ErrNotRunning) || !strings.Contains(err.Error(), "has ended") {
		t.Fatalf("stale: %v", err)
	}
	if err := streams.RemoveState(dir); err != nil {
		t.Fatal(err)
	}
	if err := streams.RemoveState(dir); err != nil {
		t.Fatal("twice: ", err)
	}
	if err := (streams.State{Base: "soon"}).Save(dir); err == nil {
		t.Fatal("base step soon was saved")
	}
}

// TestNATSCommandLine runs the real one, where it is installed, on the contexts
// that the server has written.
func TestNATSCommandLine(t *testing.T) {
	nats, err := exec.LookPath("nats")
	if err != nil {
		t.Skip("the nats command line is not on the PATH")
	}
	dir := t.TempDir()
	s := up(t, dir)
	t.Cleanup(s.Shutdown)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := streams.Apply(ctx, connect(t, s, streams.RoleAdmin), s.ApplyOptions()); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, nats, args...)
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(dir, "cli"))
		return cmd
	}
	b := connect(t, s, streams.RolePlacer)
	p := &schemas.PressureHost{Host: "h1", Site: "s1", Time: 1e18, Resource: "cpu", Score: 0.5, Chances: map[string]schemas.Chance{"cpu": {H24: .5}}, Peak: 2, Limit: 1}
	publish := func() {
		if _, err := b.Publish(ctx, streams.Out{Subject: streams.SubjectPressureHost("h1"), Msg: p}); err != nil {
			t.Error(err)
		}
	}
	sub := run("--context", "foreshift-tel", "sub", "pressure.>", "--count=1")
	out := &strings.Builder{}
	sub.Stdout, sub.Stderr = out, out
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sub.Wait() }()
	for done := false; !done; {
		publish()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			done = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	if !strings.Contains(out.String(), `"host":"h1"`) {
		t.Fatalf("sub: %s", out)
	}
	for _, c := range []struct{ want, args string }{
		{"PRESSURE", "stream ls --names"}, // the selected context
		{"pressure.host.h1", "--context foreshift-tel stream get PRESSURE 1"},
		{"MIGRATIONS", "--context foreshift-ctrl stream ls --names"},
		{"Messages: 0", "--context foreshift-audit stream info AUDIT"},
	} {
		b, err := run(strings.Fields(c.args)...).CombinedOutput()
		if err != nil || !strings.Contains(string(b), c.want) {
			t.Errorf("nats %s: %v\n%s", c.args, err, b)
		}
	}
	// Paging wants a terminal.
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("no `script` to give the nats command line a terminal")
	}
	view := run()
	view.Path, view.Args = script, []string{"script", "-qec", nats + " --context foreshift-tel stream view PRESSURE 10 --translate 'wc -c'", "/dev/null"}
	if b, err := view.CombinedOutput(); err != nil || !strings.Contains(string(b), "pressure.host.h1") {
		t.Errorf("nats stream view: %v\n%s", err, b)
	}
}
