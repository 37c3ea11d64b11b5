package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

func (r record) path() string { return filepath.Join(registry, r.ID+".json") }

// records reads the registry. A file that does not parse is left by a crash in the
// middle of writing it, before anything was made: it is dropped.
func records() ([]record, error) {
	files, err := filepath.Glob(filepath.Join(registry, "*.json"))
	if err != nil {
		return nil, err
	}
	var out []record
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		var r record
		if err := json.Unmarshal(b, &r); err != nil || r.path() != f {
			if err := os.Remove(f); err != nil {
				return nil, err
			}
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

// alive reports whether the process that made the lab still runs.
func (r record) alive() bool {
	start := processStart(r.Owner)
	return start != "" && start == r.Started
}

// processStart is field 22 of /proc/PID/stat (start time in ticks since boot), or
// empty when there is no such process.
func processStart(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, ok := strings.Cut(string(b), ") ") // the name may hold anything
	if f := strings.Fields(rest); ok && len(f) > 19 {
		return f[19]
	}
	return ""
}

// remove takes down all that the record names. What is already gone is no error.
func (r record) remove(progress func(string)) error {
	if r.ID == "" {
		return nil
	}
	if _, err := os.Stat(r.path()); os.IsNotExist(err) {
		return nil // done before
	}
	progress("removing the lab in " + r.Dir)
	var errs []error
	if err := killInside(r.Hosts); err != nil {
		errs = append(errs, err)
	}
	for _, n := range r.Hosts {
		if _, err := os.Stat(filepath.Join(netnsDir, n)); os.IsNotExist(err) {
			continue
		}
		if err := netns.DeleteNamed(n); err != nil {
			errs = append(errs, fmt.Errorf("delete network namespace %s: %w", n, err))
		}
	}
	for _, name := range r.Links {
		link, err := netlink.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		// Deleting a namespace deletes its end of a veth pair, and with it ours, a
		// little later: gone in the meantime is as good.
		if err != nil && !errors.Is(err, unix.ENODEV) && !errors.As(err, &netlink.LinkNotFoundError{}) {
			errs = append(errs, fmt.Errorf("delete link %s: %w", name, err))
		}
	}
	if _, err := os.Stat(filepath.Join(r.Dir, marker)); err == nil {
		if err := os.RemoveAll(r.Dir); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		errs = append(errs, os.Remove(r.path()))
	}
	return errors.Join(errs...)
}

// killInside ends every process whose network namespace is one of the named ones:
// libvirtd, QEMU and whatever they started, wherever it was reparented to.
func killInside(names []string) error {
	inside := map[uint64]bool{}
	for _, n := range names {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(netnsDir, n), &st); err == nil {
			inside[st.Ino] = true
		}
	}
	if len(inside) == 0 {
		return nil
	}
	deadline := time.Now().Add(15 * time.Second)
	for {
		pids, err := processesIn(inside)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// processesIn lists the live processes in network namespaces, by inode. A zombie
// has left its namespaces and is not listed.
func processesIn(inodes map[uint64]bool) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat("/proc/"+e.Name()+"/ns/net", &st); err == nil && inodes[st.Ino] {
			out = append(out, pid)
		}
	}
	return out, nil
}

// claimDir makes the lab's directory and marks it. A directory that exists, has
// contents and carries no mark is somebody else's.
func claimDir(dir string) error {
	if entries, err := os.ReadDir(dir); err == nil {
		if _, err := os.Stat(filepath.Join(dir, marker)); err != nil && len(entries) > 0 {
			return fmt.Errorf("directory %s exists and is not a lab's: choose another", dir)
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, marker), []byte("made by foreshift's lab; removed with it\n"), 0o644)
}

// lockFile holds an exclusive lock until the returned function is called.
func lockFile(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil // closing releases it
}

// Traces lists what of the lab is on the machine: files, namespaces, links, mounts,
// processes. After [Lab.Down] there is nothing.
func (l *Lab) Traces() ([]string, error) {
	var out []string
	for _, p := range []string{l.Dir, l.rec.path()} {
		if _, err := os.Stat(p); err == nil {
			out = append(out, "file "+p)
		}
	}
	for _, n := range l.rec.Hosts {
		if _, err := os.Stat(filepath.Join(netnsDir, n)); err == nil {
			out = append(out, "namespace "+n)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("lab: list links: %w", err)
	}
	for _, x := range links {
		if strings.HasPrefix(x.Attrs().Name, "fsl"+l.rec.ID) {
			out = append(out, "link "+x.Attrs().Name)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("lab: list mounts: %w", err)
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		if strings.Contains(line, l.Dir) || strings.Contains(line, "fslab-"+l.rec.ID) {
			out = append(out, "mount "+line)
		}
	}
	for _, of := range []string{"cmdline", "environ"} { // a part of the lab knows its directory by its environment
		procs, err := filepath.Glob("/proc/[0-9]*/" + of)
		if err != nil {
			return nil, err
		}
		for _, p := range procs {
			if strings.HasPrefix(p, fmt.Sprintf("/proc/%d/", os.Getpid())) {
				continue
			}
			if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), l.Dir) {
				out = append(out, "process "+p)
			}
		}
	}
	return out, nil
}
