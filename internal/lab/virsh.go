package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// virsh runs one command with the real client, from outside the host.
func (h *Host) virsh(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/virsh", append([]string{"-q", "-c", h.URI}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("host %s: virsh %s: %w: %s", h.Name, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

// Virsh runs one command of the real client against the host and gives what it said.
func (h *Host) Virsh(ctx context.Context, args ...string) (string, error) {
	return h.virsh(ctx, args...)
}

// Domains lists the VMs that the host knows, running or not.
func (h *Host) Domains(ctx context.Context) ([]schemas.VMID, error) {
	text, err := h.virsh(ctx, "list", "--all", "--uuid")
	if err != nil {
		return nil, err
	}
	var out []schemas.VMID
	for _, word := range strings.Fields(text) {
		id, err := schemas.ParseVMID(word)
		if err != nil {
			return nil, fmt.Errorf("host %s: virsh list: %w", h.Name, err)
		}
		out = append(out, id)
	}
	return out, nil
}

// virshShell is a virsh that stays: starting one for every look at a VM would cost
// more CPU than the guests use. Commands go to its standard input, one at a time,
// each followed by an echo that marks the end of the answer.
type virshShell struct {
	host *Host

	mu    sync.Mutex
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	n     int
}

// errNoAnswer is returned when virsh has not answered in time: the host is busy,
// stopped or cut off, and nothing is known.
var errNoAnswer = errors.New("no answer in time")

// ask sends one command line and gives the lines of the answer.
func (s *virshShell) ask(command string, within time.Duration) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		if err := s.open(); err != nil {
			return nil, err
		}
	}
	s.n++
	mark := fmt.Sprintf("answered-%d", s.n)
	if _, err := fmt.Fprintf(s.in, "%s\necho %s\n", command, mark); err != nil {
		s.shut()
		return nil, fmt.Errorf("host %s: virsh: %w", s.host.Name, err)
	}
	var out []string
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				s.shut()
				return nil, fmt.Errorf("host %s: virsh ended", s.host.Name)
			}
			for { // without a terminal virsh still prints its prompt
				rest, found := strings.CutPrefix(line, "virsh # ")
				if !found {
					break
				}
				line = rest
			}
			if strings.HasSuffix(line, mark) {
				return out, nil
			}
			if line != "" {
				out = append(out, line)
			}
		case <-timer.C:
			s.shut() // its answer would be taken for the next one's
			return nil, fmt.Errorf("host %s: virsh %s: %w", s.host.Name, command, errNoAnswer)
		}
	}
}

func (s *virshShell) open() error {
	cmd := exec.Command("/usr/bin/virsh", "-q", "-c", s.host.URI)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout // answers and complaints in one stream, in order
	if err := StartFirst(cmd); err != nil {
		return fmt.Errorf("host %s: virsh: %w", s.host.Name, err)
	}
	lines := make(chan string, 1024)
	go func() {
		defer close(lines)
		r := bufio.NewScanner(out)
		for r.Scan() {
			lines <- r.Text()
		}
	}()
	s.cmd, s.in, s.lines = cmd, in, lines
	return nil
}

// shut ends virsh; the next ask starts another.
func (s *virshShell) shut() {
	if s.cmd == nil {
		return
	}
	_ = s.in.Close()
	_ = s.cmd.Process.Kill()
	for range s.lines { // let the reader end
	}
	_ = s.cmd.Wait() // killed on purpose
	s.cmd = nil
}

func (s *virshShell) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut()
}

// Create starts a transient domain from its XML.
func (h *Host) Create(ctx context.Context, domain string) error {
	f, err := os.CreateTemp(h.dir, "create-*.xml")
	if err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	defer os.Remove(f.Name())
	if _, err := f.WriteString(domain); err != nil {
		return errors.Join(fmt.Errorf("host %s: %w", h.Name, err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	_, err = h.virsh(ctx, "create", f.Name())
	return err
}

// Migrate is libvirt's own live migration, peer to peer, as virsh runs it: the
// source's libvirtd reaches the other's through uri, by a socket in the directory
// that all hosts see.
func (h *Host) Migrate(ctx context.Context, g *Guest, to *Host, uri string) (string, error) {
	return h.virsh(ctx, "migrate", "--live", "--p2p", "--unsafe", "--persistent", "--undefinesource", g.ID.String(), uri, "tcp://"+to.Address)
}
