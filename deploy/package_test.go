package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/nats-io/nats-server/v2/server"
)

// machine is this machine with a layer of its own over every file: what is installed
// there is gone with the test. It has its own mounts and shares all else.
type machine struct {
	t    *testing.T
	root string
}

const envMounts = "FORESHIFT_PACKAGE_MOUNTS" // set in the process that has mounts of its own

// TestPackages installs the Debian packages, sets a fleet of one host up as the
// documents say, starts what systemd would start as whom it would start it, sees the
// host and its VMs in observe mode, upgrades, removes and purges.
func TestPackages(t *testing.T) {
	packages := os.Getenv("FORESHIFT_PACKAGES")
	if packages == "" {
		t.Skip("FORESHIFT_PACKAGES names no directory of packages; `./task test:package` makes them and runs this")
	}
	for _, name := range []string{"dpkg", "unshare", "setpriv", "chroot", "systemd-analyze"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%v: Debian's own tools are needed", err)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("root is needed to install packages")
	}
	if os.Getenv(envMounts) == "" {
		c := exec.Command("unshare", "--mount", "--propagation", "private", os.Args[0], "-test.run=^TestPackages$", "-test.v", "-test.timeout=4m")
		c.Env = append(os.Environ(), envMounts+"=1")
		out, err := c.CombinedOutput()
		t.Logf("%s", out)
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestPackages")) {
			t.Fatalf("not passed with mounts of its own: %v", err)
		}
		return
	}
	m := newMachine(t)
	debs, err := filepath.Glob(filepath.Join(packages, "*.deb"))
	if err != nil || len(debs) != 3 {
		t.Fatal(debs, err)
	}
	var paths []string
	for _, d := range debs {
		b, err := os.ReadFile(d)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, m.write("/root/"+filepath.Base(d), b))
	}
	before := m.files()
	out := m.run(append([]string{"dpkg", "-i"}, paths...)...)
	if !strings.Contains(out, "next, foreshift config init") {
		t.Errorf("the installation does not say what comes next:\n%s", out)
	}
	units := m.units()
	if len(units) < 6 {
		t.Fatalf("units: %v", units)
	}
	for name := range units {
		if out := m.run("systemd-analyze", "verify", "--man=no", name); strings.Contains(out, "foreshift") {
			t.Errorf("systemd-analyze verify: %s", out)
		}
	}

	fleet := m.setUp()
	stop := m.start(units, fleet.ports)
	m.observes(fleet)
	stop()

	m.run(append([]string{"dpkg", "-i"}, paths...)...) // an upgrade keeps what was set up
	m.run("foreshift", "config", "check")
	stop = m.start(units, fleet.ports)
	m.observes(fleet)
	stop()

	names := []string{"foreshift-host", "foreshift-control", "foreshift"}
	m.run(append([]string{"dpkg", "--remove"}, names...)...)
	for _, gone := range []string{"/usr/bin/foreshift", "/usr/bin/foreshift-agent", "/lib/systemd/system/foreshift-agent.service", "/usr/share/bash-completion/completions/foreshift"} {
		if _, err := os.Lstat(m.root + gone); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
	if _, err := os.Stat(m.root + "/etc/foreshift/creds/actuator-" + fleet.host + ".CTRL.nk"); err != nil {
		t.Errorf("a removal took the keys: %v", err)
	}
	if out := m.run(append([]string{"dpkg", "--purge"}, names...)...); !strings.Contains(out, "is left to you") {
		t.Errorf("a purge says nothing of the keys:\n%s", out)
	}
	m.run("rm", "-r", "/etc/foreshift", "/var/lib/foreshift")
	m.run(append([]string{"dpkg", "-i"}, paths...)...)
	m.run(append([]string{"dpkg", "--purge"}, names...)...)
	if out, err := m.try("getent", "passwd", "foreshift", "foreshift-agent"); err == nil {
		t.Errorf("users are left: %s", out)
	}
	for f := range m.files() {
		if !before[f] {
			t.Errorf("%s is left", f)
		}
	}
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	mount := func(args ...string) {
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Fatalf("mount %v: %v %s", args, err, out)
		}
	}
	mount("-t", "tmpfs", "none", dir)
	m := &machine{t, filepath.Join(dir, "root")}
	for _, d := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount("-t", "overlay", "overlay", "-o", fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", dir, dir), m.root)
	for _, d := range []string{"proc", "sys", "dev"} {
		mount("--rbind", "/"+d, m.root+"/"+d)
	}
	mount("-t", "tmpfs", "none", m.root+"/run")
	mount("-t", "tmpfs", "none", m.root+"/tmp")
	t.Cleanup(func() {
		for _, d := range []string{"proc", "sys", "dev", "run", "tmp", ""} {
			if err := syscall.Unmount(m.root+"/"+d, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return m
}

// try runs a command on the machine.
func (m *machine) try(args ...string) (string, error) {
	c := exec.Command("chroot", append([]string{m.root, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}, args...)...)
	out, err := c.CombinedOutput()
	return string(out), err
}

func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.try(args...)
	if err != nil {
		m.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

func (m *machine) write(path string, b []byte) string {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.root+path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.root+path, b, 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// files are all that a package of ours may bring or make.
func (m *machine) files() map[string]bool {
	m.t.Helper()
	out := map[string]bool{}
	for _, dir := range []string{"/usr", "/etc", "/lib/systemd/system", "/var/lib"} {
		for f := range strings.SplitSeq(m.run("find", dir, "-iname", "*foreshift*"), "\n") {
			out[f] = true
		}
	}
	return out
}

// unit is what we take from a unit to start it as systemd would.
type unit struct{ exec, user, state string }

func (m *machine) units() map[string]unit {
	m.t.Helper()
	files, err := filepath.Glob(m.root + "/lib/systemd/system/foreshift-*.service")
	if err != nil {
		m.t.Fatal(err)
	}
	out := map[string]unit{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			m.t.Fatal(err)
		}
		get := func(key string) string {
			if x := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindSubmatch(b); x != nil {
				return string(x[1])
			}
			return ""
		}
		out[filepath.Base(f)] = unit{get("ExecStart"), get("User"), get("StateDirectory")}
	}
	return out
}

// fleet is what was set up.
type fleet struct {
	host, bus string
	vms       int
	ports     map[string]string // of /readyz, by service
}

// setUp is what docs/INSTALL.md says: keys, the bus, the streams, the configuration.
func (m *machine) setUp() fleet {
	t := m.t
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	hosts, err := sim.New(sim.Config{Seed: 1, Hosts: 1, VMs: 5, Base: time.Second, Start: time.Now(), PeakIn: 120, LinkBandwidth: 1e9})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- hosts.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	h := hosts.Hosts()[0]
	f := fleet{host: string(h.ID), vms: len(hosts.VMs()), ports: map[string]string{}}

	m.run("/usr/share/foreshift/accounts", "/root/fleet", f.host)
	keys := m.root + "/root/fleet"
	conf := filepath.Join(keys, "server.conf")
	if err := os.WriteFile(conf, []byte(fmt.Sprintf("listen: \"127.0.0.1:-1\"\nmax_payload: 8454144\njetstream { store_dir: %q, max_file_store: 1TB }\ninclude accounts.conf\n", filepath.Join(t.TempDir(), "js"))), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	o.NoSigs, o.NoLog = true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the bus does not start")
	}
	f.bus = "nats://" + s.Addr().String()
	admin, err := streams.Connect(ctx, streams.Credentials{URL: f.bus, Role: streams.RoleAdmin, Dir: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := streams.Apply(ctx, admin, streams.ApplyOptions{Hosts: []schemas.HostID{h.ID}, Scale: streams.ScaleEmbedded}); err != nil {
		t.Fatal(err)
	}

	m.run("foreshift", "config", "init", "control", "host", "--nats", f.bus, "--host", f.host, "--site", string(h.Site), "--uri", h.URI)
	for _, b := range []string{"control", "host-" + f.host} {
		m.run("tar", "-C", "/etc/foreshift", "-xpf", "/root/fleet/"+b+".tar.gz")
	}
	// Free ports instead of the usual ones; a base step of a second instead of minutes;
	// and the agent is told that the host is a simulated one.
	path := "/etc/foreshift/foreshift.toml"
	text, err := os.ReadFile(m.root + path)
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)^\[(\w+)\]$`).FindAllStringSubmatch(string(text), -1)
	free := freePorts(t, len(names))
	section := ""
	var lines []string
	for l := range strings.SplitSeq(string(text), "\n") {
		if x := regexp.MustCompile(`^\[(\w+)\]$`).FindStringSubmatch(l); x != nil {
			section = x[1]
		}
		if strings.HasPrefix(l, "listen = ") {
			f.ports[section] = fmt.Sprintf("127.0.0.1:%d", free[len(f.ports)])
			l = fmt.Sprintf("listen = %q", f.ports[section])
		}
		if strings.HasPrefix(l, "#base-step") {
			l = `base-step = "1s"`
		}
		lines = append(lines, l)
	}
	m.write(path, []byte(strings.Join(lines, "\n")))
	m.run("chmod", "0644", path)
	agent, err := os.ReadFile(m.root + "/etc/foreshift/agent.conf")
	if err != nil {
		t.Fatal(err)
	}
	m.write("/etc/foreshift/agent.conf", bytes.Replace(bytes.Replace(agent, []byte(`"10s"`), []byte(`"1s"`), -1), []byte("  uri = "), []byte("  simulated = true\n  usage = \"vms\"\n  uri = "), 1))
	m.run("chmod", "0644", "/etc/foreshift/agent.conf")
	if out := m.run("foreshift", "config", "check"); !strings.Contains(out, "no fault") {
		t.Fatal(out)
	}
	return f
}

// start runs every unit's program as the unit's user, until stop.
func (m *machine) start(units map[string]unit, ports map[string]string) (stop func()) {
	t := m.t
	t.Helper()
	type process struct {
		name string
		cmd  *exec.Cmd
		log  *bytes.Buffer
	}
	var running []process
	for name, u := range units {
		service := strings.TrimSuffix(strings.TrimPrefix(name, "foreshift-"), ".service")
		if ports[service] == "" && service != "agent" {
			continue // not set up on this machine
		}
		if u.state != "" { // as systemd makes it
			m.run("install", "-d", "-m", "0700", "-o", u.user, "-g", u.user, "/var/lib/"+u.state)
		}
		args := append([]string{m.root, "setpriv", "--reuid=" + u.user, "--regid=" + u.user, "--init-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "env", "-i", "PATH=/usr/bin"}, strings.Fields(u.exec)...)
		c := exec.Command("chroot", args...)
		log := &bytes.Buffer{}
		c.Stdout, c.Stderr = log, log
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, process{name, c, log})
	}
	for service, address := range ports {
		if err := ready(service, address); err != nil {
			for _, p := range running {
				_ = p.cmd.Process.Kill() // it may have ended by itself
				_ = p.cmd.Wait()
				t.Logf("%s: %s", p.name, p.log)
			}
			t.Fatal(err)
		}
	}
	return func() {
		t.Helper()
		for _, p := range running {
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Errorf("%s ended by itself: %v\n%s", p.name, err, p.log)
			}
		}
		for _, p := range running {
			kill := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() }) // told by Wait
			if err := p.cmd.Wait(); err != nil {
				t.Errorf("%s: %v\n%s", p.name, err, p.log)
			}
			kill.Stop()
		}
	}
}

func ready(service, address string) error {
	last := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		r, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			last = err.Error()
			continue
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if last = string(b); r.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("%s is not ready: %s", service, last)
}

// observes waits until the fleet is seen, in observe mode, by the installed command
// line, which finds it by the installed configuration.
func (m *machine) observes(f fleet) {
	t := m.t
	t.Helper()
	out := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		var s struct {
			Hosts, VMs int
			Mode       string
		}
		var err error
		if out, err = m.try("foreshift", "status", "--json"); err == nil && json.Unmarshal([]byte(out), &s) == nil && s.Hosts == 1 && s.VMs == f.vms {
			if s.Mode != string(schemas.ModeObserve) {
				t.Errorf("it starts in mode %s", s.Mode)
			}
			if out := m.run("foreshift", "explain"); !strings.Contains(out, "mode observe") {
				t.Errorf("explain: %s", out)
			}
			return
		}
	}
	t.Fatalf("the host is not seen: %s", out)
}
