package docs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Limits of the run; CI gives it 90 s together.
const (
	commandLimit = 60 * time.Second
	movedLimit   = 3 * time.Minute
	slow         = 5 * time.Second // is named
)

// pages are README and all of docs.
func pages(t *testing.T, root string) (out []string) {
	t.Helper()
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/adr/*.md", "deploy/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, files...)
	}
	return out
}

// TestCommands runs every command of README and docs against a running `foreshift up`,
// each page in a shell and a directory of its own, and compares what it says with what
// is written. What cannot be run says why in its page, and is counted and named; a
// command that stands elsewhere, or that the reference does not know, is a fault.
func TestCommands(t *testing.T) {
	bin := os.Getenv("FORESHIFT_DOCS")
	if bin == "" {
		t.Skip("FORESHIFT_DOCS names no directory of binaries; `./task test:docs` makes them and runs this")
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	reference, err := os.ReadFile(filepath.Join(root, "docs", "CLI.md"))
	if err != nil {
		t.Fatal(err)
	}
	u := start(t, bin)
	ran, left := 0, 0
	for _, p := range pages(t, root) {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(root, p)
		blocks, faults := Parse(name, string(b))
		for _, f := range append(faults, Inline(name, string(b), string(reference))...) {
			t.Error(f)
		}
		if len(blocks) == 0 {
			continue
		}
		sh := shell(t, u, root)
		for _, block := range blocks {
			for _, c := range block.Commands {
				if block.NotRun != "" {
					left++
					t.Logf("not run: %s:%d: %s (%s)", name, c.Line, c.Text, block.NotRun)
					continue
				}
				ran++
				text := u.bind(block.Names, c.Text)
				begin := time.Now()
				out, code, err := sh.run(text)
				if d := time.Since(begin); d > slow {
					t.Logf("%s:%d: took %s: %s", name, c.Line, d.Round(100*time.Millisecond), text)
				}
				switch {
				case err != nil:
					t.Errorf("%s:%d: %s: %v\n%s", name, c.Line, text, err, out)
					sh.end()
					sh = shell(t, u, root)
				case code != 0:
					t.Errorf("%s:%d: %s: exit code %d\n%s", name, c.Line, text, code, out)
				default:
					written := make([]string, len(c.Output))
					for i, l := range c.Output {
						written[i] = u.bind(block.Names, l)
					}
					if diff := Compare(written, out); diff != "" {
						t.Errorf("%s:%d: %s\n    %s\nall of it:\n%s", name, c.Line, text, diff, out)
					}
				}
			}
		}
		sh.end()
	}
	t.Logf("%d commands run, %d not run (named above)", ran, left)
	if ran < 40 {
		t.Errorf("only %d commands were run: are the pages where they were?", ran)
	}
}

// running is an "up", with what names of the pages stand for.
type running struct {
	env   []string
	names map[string]string
}

// bind puts what a run brings in the place of the names of a page.
func (u *running) bind(names map[string]string, text string) string {
	for name, role := range names {
		text = strings.ReplaceAll(text, name, u.names[role])
	}
	return text
}

// start runs `foreshift up` until the test ends, and waits for its first move.
func start(t *testing.T, bin string) *running {
	t.Helper()
	dir := t.TempDir()
	bin, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	u := &running{names: map[string]string{}, env: []string{"HOME=" + dir, "XDG_STATE_HOME=" + dir, "PATH=" + bin + ":" + os.Getenv("PATH"), "TERM=dumb", "GOFLAGS=" + os.Getenv("GOFLAGS"), "GOMODCACHE=" + goEnv(t, "GOMODCACHE"), "GOCACHE=" + goEnv(t, "GOCACHE")}}
	c := exec.Command(filepath.Join(bin, "foreshift"), "up", "--peak-in", "75", "--for", "10m")
	c.Env = u.env
	log, err := os.Create(filepath.Join(dir, "up.log"))
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := c.Wait(); err != nil {
			b, _ := os.ReadFile(log.Name())
			t.Errorf("foreshift up: %v\n%s", err, b)
		}
	})
	type command struct {
		VM          string `json:"name"`
		Plan        string `json:"plan"`
		Source      string `json:"source"`
		Destination string `json:"destination"`
	}
	for end := time.Now().Add(movedLimit); ; time.Sleep(300 * time.Millisecond) {
		if time.Now().After(end) {
			b, _ := os.ReadFile(log.Name())
			t.Fatalf("no move succeeded within %s\n%s", movedLimit, b)
		}
		var s struct {
			Moves struct {
				Succeeded int `json:"succeeded"`
			} `json:"moves"`
		}
		if u.json(&s, "status", "--json") != nil || s.Moves.Succeeded == 0 {
			continue
		}
		var vms struct {
			VMs []struct {
				Name string `json:"name"`
			} `json:"vms"`
		}
		if err := u.json(&vms, "vm", "list", "--json"); err != nil {
			t.Fatal(err)
		}
		for _, v := range vms.VMs {
			var one struct {
				Moves []struct {
					Command command          `json:"command"`
					Outcome *json.RawMessage `json:"outcome"`
				} `json:"moves"`
			}
			if err := u.json(&one, "vm", "show", v.Name, "--json"); err != nil {
				t.Fatal(err)
			}
			if len(one.Moves) > 0 && one.Moves[0].Outcome != nil {
				m := one.Moves[0].Command
				u.names["moved"], u.names["source"], u.names["destination"], u.names["plan"] = m.VM, m.Source, m.Destination, m.Plan
				break
			}
		}
		break
	}
	var state struct {
		Page string `json:"page"`
	}
	b, err := os.ReadFile(filepath.Join(dir, "foreshift", "up.json"))
	if err != nil || json.Unmarshal(b, &state) != nil {
		t.Fatal(err)
	}
	u.names["page"] = strings.TrimSuffix(state.Page, "/")
	b, err = os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	for f := range strings.FieldsSeq(string(b)) {
		if strings.HasPrefix(f, "qemu+tcp://") {
			u.names["virsh"] = f
			break
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u.names["port"] = fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	return u
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// json runs the command line and reads the object on its last line.
func (u *running) json(into any, args ...string) error {
	c := exec.Command("foreshift", args...)
	for _, e := range u.env {
		if p, ok := strings.CutPrefix(e, "PATH="); ok {
			c.Path = filepath.Join(strings.Split(p, ":")[0], "foreshift")
			c.Err = nil
		}
	}
	c.Env = u.env
	out, err := c.Output()
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return json.Unmarshal([]byte(lines[len(lines)-1]), into)
}

// bash is a shell that runs the commands of one page one after the other.
type bash struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	dir string
}

// mark ends what a command says.
const mark = "end-of-command-7c1f"

// shell starts a shell in a directory of its own, where the files of the repository
// are to be found, and what is written stays apart.
func shell(t *testing.T, u *running, root string) *bash {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == ".git" {
			continue
		}
		if err := os.Symlink(filepath.Join(root, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("bash", "--norc", "--noprofile", "-s")
	c.Dir, c.Env = dir, u.env
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout, c.Stderr = w, w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := io.WriteString(in, "shopt -s expand_aliases\n"); err != nil {
		t.Fatal(err)
	}
	return &bash{t, c, in, bufio.NewReader(out), dir}
}

// run gives what a command says, both streams, and its exit code.
func (b *bash) run(text string) (string, int, error) {
	// Commands read nothing: what follows is the next command. (An alias holds from
	// the next line on, so the command stands in lines of its own.)
	if _, err := fmt.Fprintf(b.in, "{\n%s\n} </dev/null\necho; echo %s $?\n", text, mark); err != nil {
		return "", 0, err
	}
	kill := time.AfterFunc(commandLimit, func() { _ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) }) // it may have ended
	defer kill.Stop()
	var out bytes.Buffer
	for {
		l, err := b.out.ReadString('\n')
		if code, ok := strings.CutPrefix(l, mark+" "); ok {
			n := 0
			_, err := fmt.Sscan(code, &n)
			return strings.TrimSuffix(out.String(), "\n"), n, err
		}
		out.WriteString(l)
		if errors.Is(err, io.EOF) {
			return out.String(), 0, fmt.Errorf("the shell ended, or the command took more than %s", commandLimit)
		} else if err != nil {
			return out.String(), 0, err
		}
	}
}

func (b *bash) end() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	context.AfterFunc(ctx, func() { _ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) })
	b.in.Close()
	_ = b.cmd.Wait()                                      // its code is that of the last command, which was looked at
	_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) // what a page left in the background, if it did
}

func TestPagesAreThere(t *testing.T) {
	var names []string
	for _, p := range pages(t, filepath.Join("..", "..")) {
		names = append(names, filepath.Base(p))
	}
	for _, want := range []string{"README.md", "CLI.md", "CONCEPTS.md", "HOW-IT-DECIDES.md", "INSTALL.md", "INSPECT.md", "OPERATIONS.md", "FAQ.md"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %s", want)
		}
	}
}
