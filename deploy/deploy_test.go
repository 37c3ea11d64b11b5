package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/cluster"
	"github.com/nats-io/nats-server/v2/server"
	"go.yaml.in/yaml/v3"
)

// The units are hardened: systemd's own rating of what a service could do to the
// machine is at most this of 10.
const maxExposure = 2.0

func TestUnitsAreHardened(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not here (Debian package systemd): the units are not rated")
	}
	units, err := filepath.Glob("systemd/*.service")
	if err != nil || len(units) < 6 {
		t.Fatal(units, err)
	}
	for _, u := range units {
		out, err := exec.Command(analyze, "security", "--offline=true", fmt.Sprintf("--threshold=%d", int(10*maxExposure)), "--no-pager", u).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", u, err, out)
		}
		// The programs are not installed here; all else must be right.
		out, _ = exec.Command(analyze, "verify", "--man=no", u).CombinedOutput()
		for l := range strings.Lines(string(out)) {
			if strings.Contains(l, filepath.Base(u)) && !strings.Contains(l, "is not executable: No such file or directory") {
				t.Errorf("%s", l)
			}
		}
	}
}

func TestDockerfile(t *testing.T) {
	b, err := os.ReadFile("docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range lintDockerfile(string(b)) {
		t.Error(fault)
	}
	for text, want := range map[string]string{
		"FROM golang\nUSER 1\nENTRYPOINT [\"x\"]":                                          "pinned",
		"FROM golang:latest\nUSER 1\nENTRYPOINT [\"x\"]":                                   "pinned",
		"FROM scratch\nENTRYPOINT [\"x\"]":                                                 "runs as root",
		"FROM scratch\nUSER 0\nENTRYPOINT [\"x\"]":                                         "runs as root",
		"FROM scratch\nUSER 1\nENTRYPOINT x":                                               "JSON list",
		"FROM scratch\nUSER 1":                                                             "no ENTRYPOINT",
		"FROM scratch\nCOPY --from=buil /a /b\nUSER 1\nENTRYPOINT [\"x\"]":                 "no stage",
		"FROM scratch\nADD http://x /b\nUSER 1\nENTRYPOINT [\"x\"]":                        "COPY",
		"FROM a:1 AS b\nRUN apt-get install x\nUSER 1\nENTRYPOINT [\"x\"]":                 "apt-get",
		"FROM a:1 AS b\nRUN sudo x\nUSER 1\nENTRYPOINT [\"x\"]":                            "sudo",
		"FROM a:1 AS b\nWORKDIR src\nUSER 1\nENTRYPOINT [\"x\"]":                           "absolute",
		"FROM a:1 AS b\nRNU x\nUSER 1\nENTRYPOINT [\"x\"]":                                 "no instruction",
		"FROM a:1 AS b\nFROM a:1 AS b\nUSER 1\nENTRYPOINT [\"x\"]":                         "twice",
		"FROM a:1 AS b\nENV TOKEN=abc\nUSER 1\nENTRYPOINT [\"x\"]":                         "secret",
		"FROM a:1 AS b\nUSER 1\nENTRYPOINT [\"x\"]\nENTRYPOINT [\"y\"]":                    "more than one",
		"FROM scratch\nRUN x\nUSER 1\nENTRYPOINT [\"x\"]":                                  "nothing to run",
		"RUN x\nFROM scratch\nUSER 1\nENTRYPOINT [\"x\"]":                                  "before FROM",
		"FROM a:1 AS b\nRUN cd /x && y\nUSER 1\nENTRYPOINT [\"x\"]":                        "WORKDIR",
		"FROM a:1 AS b\nCOPY . .\nCOPY go.mod .\nRUN go mod download\nUSER 1\nCMD [\"x\"]": "no ENTRYPOINT",
	} {
		if got := lintDockerfile(text); !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("%q: %v, want %q", text, got, want)
		}
	}
}

// instructions of a Dockerfile that we know.
var instructions = []string{"FROM", "RUN", "COPY", "ADD", "ARG", "ENV", "WORKDIR", "USER", "ENTRYPOINT", "CMD", "EXPOSE", "LABEL", "VOLUME", "STOPSIGNAL", "HEALTHCHECK", "SHELL"}

// lintDockerfile is a small checker of our own, since no linter of Dockerfiles is
// packaged for Debian: instructions, pinned bases, stages that exist, an image that
// runs as somebody, by a list and not by a shell, and no secret in it.
func lintDockerfile(text string) (faults []string) {
	bad := func(n int, format string, a ...any) {
		faults = append(faults, fmt.Sprintf("Dockerfile:%d: ", n)+fmt.Sprintf(format, a...))
	}
	stages := map[string]bool{}
	base, user, entries := "", "", 0
	end := func(n int) {
		if base == "" {
			return
		}
		if base == "scratch" || n < 0 {
			if user == "" || user == "0" || user == "root" || strings.HasPrefix(user, "0:") {
				bad(n, "the stage on %s runs as root: say USER", base)
			}
			if entries == 0 {
				bad(n, "the stage on %s has no ENTRYPOINT", base)
			}
		}
	}
	last := 0
	for i, l := range strings.Split(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		n := i + 1
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		last = n
		word, rest, _ := strings.Cut(l, " ")
		if !slices.Contains(instructions, word) {
			bad(n, "no instruction %q", word)
			continue
		}
		if base == "" && word != "FROM" && word != "ARG" {
			bad(n, "%s before FROM", word)
		}
		switch word {
		case "FROM":
			if base != "" {
				end(n)
			}
			f := strings.Fields(rest)
			base, user, entries = f[0], "", 0
			if _, tag, ok := strings.Cut(base, ":"); base != "scratch" && !stages[base] && (!ok || tag == "latest") {
				bad(n, "base %s is not pinned to a version", base)
			}
			if len(f) == 3 {
				if stages[f[2]] {
					bad(n, "stage %s is there twice", f[2])
				}
				stages[f[2]] = true
			}
		case "COPY":
			if from := regexp.MustCompile(`--from=(\S+)`).FindStringSubmatch(rest); from != nil && !stages[from[1]] {
				bad(n, "no stage %q to copy from", from[1])
			}
		case "ADD":
			bad(n, "ADD fetches and unpacks: say COPY")
		case "RUN":
			switch {
			case base == "scratch":
				bad(n, "there is nothing to run in an empty image")
			case strings.Contains(rest, "apt-get install") && !strings.Contains(rest, "--no-install-recommends"):
				bad(n, "apt-get install without --no-install-recommends")
			case strings.Contains(rest, "sudo "):
				bad(n, "sudo has no use here")
			case strings.HasPrefix(rest, "cd "):
				bad(n, "cd lasts for one RUN: say WORKDIR")
			}
		case "ENTRYPOINT", "CMD":
			var list []string
			if json.Unmarshal([]byte(rest), &list) != nil {
				bad(n, "%s is not a JSON list: a shell would stand between signals and the program", word)
			}
			if word == "ENTRYPOINT" {
				if entries++; entries > 1 {
					bad(n, "more than one ENTRYPOINT")
				}
			}
		case "WORKDIR":
			if !strings.HasPrefix(rest, "/") {
				bad(n, "WORKDIR %s is not absolute", rest)
			}
		case "USER":
			user = rest
		case "ENV", "ARG":
			if regexp.MustCompile(`(?i)(token|secret|password|seed)\w*=`).MatchString(rest) {
				bad(n, "a secret in the image: %s", strings.SplitN(rest, "=", 2)[0])
			}
		}
	}
	if base != "" {
		text := len(faults)
		end(-1)
		for i := text; i < len(faults); i++ {
			faults[i] = strings.Replace(faults[i], ":-1:", fmt.Sprintf(":%d:", last), 1)
		}
	}
	return faults
}

// The compose file says what it starts, in order, and gives nobody more than needed.
// (Compose itself is not here; the file is read as YAML with its anchors.)
func TestCompose(t *testing.T) {
	b, err := os.ReadFile("docker/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Name     string
		Services map[string]struct {
			Image, User string
			ReadOnly    bool     `yaml:"read_only"`
			CapDrop     []string `yaml:"cap_drop"`
			Privileged  bool
			Command     []string
			Ports       []string
			Volumes     []string
			Security    []string `yaml:"security_opt"`
			DependsOn   any      `yaml:"depends_on"`
			Environment map[string]string
		}
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, s := range file.Services {
		got = append(got, name)
		if !s.ReadOnly || s.User != "65532:65532" || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.Privileged || !slices.Contains(s.Security, "no-new-privileges:true") {
			t.Errorf("%s may do more than it needs: %+v", name, s)
		}
		if _, tag, ok := strings.Cut(s.Image, ":"); !ok || tag == "" || strings.HasPrefix(name, "nats") && tag == "latest" {
			t.Errorf("%s: image %q is not pinned", name, s.Image)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s listens on %q", name, port)
			}
		}
		for _, v := range s.Volumes {
			if from, _, _ := strings.Cut(v, ":"); strings.HasPrefix(from, "./") {
				if _, err := os.Stat(filepath.Join("docker", from)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if strings.HasPrefix(name, "nats") {
			for _, want := range regexp.MustCompile(`\$(NATS_\w+)`).FindAllStringSubmatch(natsConf(t), -1) {
				if s.Environment[want[1]] == "" {
					t.Errorf("%s: %s of nats.conf is not set", name, want[1])
				}
			}
		} else if on, _ := s.DependsOn.(map[string]any); name != "apply" && on["apply"] == nil {
			t.Errorf("%s does not wait for the streams", name)
		}
	}
	slices.Sort(got)
	if want := []string{"apply", "console", "forecaster", "nats-1", "nats-2", "nats-3", "placer", "recorder"}; !slices.Equal(got, want) {
		t.Errorf("services %v, want %v", got, want)
	}
}

func natsConf(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("docker/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != cluster.FromEnvironment() {
		t.Error("docker/nats.conf is not what `./task gen` writes")
	}
	return string(b)
}

// Three servers on the configuration of the compose file become one cluster, which
// takes all streams with three replicas, and goes on when one of them ends.
func TestThreeServers(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := streams.EnsureAuth(streams.AuthOptions{Dir: dir, Hosts: []schemas.HostID{"h1"}, Own: true}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "nats.conf"), []byte(natsConf(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 6)
	var routes, urls []string
	for i := range 3 {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[3+i]))
	}
	var servers []*server.Server
	for i := range 3 {
		t.Setenv("NATS_NAME", fmt.Sprintf("nats-%d", i+1))
		t.Setenv("NATS_LISTEN", strings.TrimPrefix(urls[i], "nats://"))
		t.Setenv("NATS_CLUSTER", strings.TrimPrefix(routes[i], "nats://"))
		t.Setenv("NATS_STORE", filepath.Join(dir, fmt.Sprint("js", i)))
		t.Setenv("NATS_ROUTES", "["+strings.Join(routes, ", ")+"]")
		o, err := server.ProcessConfigFile(filepath.Join(dir, "nats.conf"))
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
		servers = append(servers, s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	connect := func() *streams.Bus {
		b, err := streams.Connect(ctx, streams.Credentials{URL: strings.Join(urls, ","), Role: streams.RoleAdmin, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	var bus *streams.Bus
	for { // until a leader of the cluster is elected
		if slices.ContainsFunc(servers, func(s *server.Server) bool { return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 }) {
			break
		}
		if ctx.Err() != nil {
			t.Fatal("no cluster of three within a minute")
		}
		time.Sleep(50 * time.Millisecond)
	}
	bus = connect()
	changes, err := streams.Apply(ctx, bus, streams.ApplyOptions{Hosts: []schemas.HostID{"h1"}, Replicas: 3, Scale: streams.ScaleEmbedded})
	if err != nil || len(changes) == 0 {
		t.Fatalf("%d changes, %v", len(changes), err)
	}
	s, err := bus.Tel.JS.Stream(ctx, streams.Capacity)
	if err != nil {
		t.Fatal(err)
	}
	if info := s.CachedInfo(); info.Config.Replicas != 3 || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
		t.Errorf("%+v", info.Cluster)
	}
	servers[2].Shutdown()
	servers[2].WaitForShutdown()
	if again, err := streams.Diff(ctx, connect(), streams.ApplyOptions{Hosts: []schemas.HostID{"h1"}, Replicas: 3, Scale: streams.ScaleEmbedded}); err != nil || len(again) != 0 {
		t.Errorf("with two of three servers: %v %v", again, err)
	}
}

func freePorts(t *testing.T, n int) (out []int) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}
