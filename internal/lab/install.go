package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNotRoot says why the lab cannot run; its text is what a skipped test prints.
var ErrNotRoot = errors.New("lab skipped: needs root (run as root to test on real libvirt and QEMU)")

// DefaultCache holds what every lab can use again: the unpacked kernel, the
// guest's initial RAM disk, QEMU's probed capabilities.
const DefaultCache = "/var/cache/foreshift-lab"

const (
	emulator     = "/usr/bin/qemu-system-x86_64"
	libvirtd     = "/usr/sbin/libvirtd"
	minQEMU      = 9
	libvirtUser  = "libvirt-qemu" // libvirtd does not start without it
	backportFile = "/etc/apt/sources.list.d/foreshift-backports.sources"
)

// Install makes the machine fit for a lab: libvirt and QEMU >= 9 (from backports,
// by the machine's own apt sources), the user libvirtd insists on, a cloud kernel
// that is unpacked and not installed, and the guest. It is safe to call again and
// takes a few milliseconds when all is there. It fails with [ErrNotRoot] without
// root. progress may be nil.
func Install(ctx context.Context, progress func(string)) error {
	return install(ctx, DefaultCache, progress)
}

func install(ctx context.Context, cache string, progress func(string)) error {
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	if progress == nil {
		progress = func(string) {}
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return fmt.Errorf("lab install: %w", err)
	}
	unlock, err := lockFile(filepath.Join(cache, "lock"))
	if err != nil {
		return fmt.Errorf("lab install: %w", err)
	}
	defer unlock()
	a := &apt{progress: progress}
	if err := a.hypervisor(ctx); err != nil {
		return fmt.Errorf("lab install: %w", err)
	}
	if err := ensureUser(ctx, libvirtUser); err != nil {
		return fmt.Errorf("lab install: %w", err)
	}
	if err := a.kernel(ctx, filepath.Join(cache, "kernel")); err != nil {
		return fmt.Errorf("lab install: %w", err)
	}
	if err := buildGuest(ctx, cache, progress); err != nil {
		return fmt.Errorf("lab install: %w", err)
	}
	return nil
}

// apt runs the package tools; the lists are fetched at most once.
type apt struct {
	progress func(string)
	updated  bool
}

func (a *apt) get(ctx context.Context, dir string, args ...string) error {
	args = append([]string{"-q", "-y", "-o", "DPkg::Lock::Timeout=300"}, args...)
	return run(ctx, dir, []string{"DEBIAN_FRONTEND=noninteractive"}, "apt-get", args...)
}

func (a *apt) update(ctx context.Context) error {
	if a.updated {
		return nil
	}
	a.progress("fetching package lists")
	if err := a.get(ctx, "", "update"); err != nil {
		return err
	}
	a.updated = true
	return nil
}

// hypervisor installs libvirt and QEMU where they are missing or too old.
func (a *apt) hypervisor(ctx context.Context) error {
	var missing []string
	for _, p := range [][2]string{{libvirtd, "libvirt-daemon"}, {driverSource("qemu"), "libvirt-daemon-driver-qemu"}, {"/usr/bin/virsh", "libvirt-clients"}} {
		if _, err := os.Stat(p[0]); err != nil {
			missing = append(missing, p[1])
		}
	}
	have := installedQEMU(ctx)
	if len(missing) == 0 && have >= minQEMU {
		return nil
	}
	codename, err := debianCodename("/etc/os-release")
	if err != nil {
		return err
	}
	if have < minQEMU { // QEMU first: the libvirt packages would pull in the old one
		sources, err := readSources("/etc/apt")
		if err != nil {
			return err
		}
		if suite := codename + "-backports"; !hasSuite(sources, suite) {
			entry, err := backportsEntry(sources, codename)
			if err != nil {
				return err
			}
			a.progress("adding suite " + suite + " to apt's sources (" + backportFile + ")")
			if err := os.WriteFile(backportFile, []byte(entry), 0o644); err != nil {
				return err
			}
		}
		if err := a.update(ctx); err != nil {
			return err
		}
		a.progress("installing QEMU from " + codename + "-backports")
		if err := a.get(ctx, "", "install", "--no-install-recommends", "-t", codename+"-backports", "qemu-system-x86"); err != nil {
			return err
		}
		if got := installedQEMU(ctx); got < minQEMU {
			return fmt.Errorf("QEMU %d is installed, but %d or newer is needed: older ones corrupt emulated guests on migration", got, minQEMU)
		}
	}
	if len(missing) > 0 {
		if err := a.update(ctx); err != nil {
			return err
		}
		a.progress("installing " + strings.Join(missing, ", "))
		return a.get(ctx, "", append([]string{"install", "--no-install-recommends"}, missing...)...)
	}
	return nil
}

// Iperf3 is the program that measures other traffic; InstallIperf3 sees that it is there.
const Iperf3 = "/usr/bin/iperf3"

// InstallIperf3 installs Debian's iperf3 where it is missing.
func InstallIperf3(ctx context.Context, progress func(string)) error {
	if _, err := os.Stat(Iperf3); err == nil {
		return nil
	}
	a := &apt{progress: progress}
	if err := a.update(ctx); err != nil {
		return fmt.Errorf("lab install: %w", err)
	}
	progress("installing iperf3")
	if err := a.get(ctx, "", "install", "--no-install-recommends", "iperf3"); err != nil {
		return fmt.Errorf("lab install: %w", err)
	}
	return nil
}

// debianCodename reads os-release(5) and insists on Debian 12.
func debianCodename(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	f := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			f[k] = strings.Trim(v, `"'`)
		}
	}
	if f["ID"] != "debian" || f["VERSION_ID"] != "12" {
		return "", fmt.Errorf("this is %q; the lab installs its packages on Debian 12 only (install libvirt-daemon, libvirt-clients and QEMU %d or newer by hand elsewhere)", f["PRETTY_NAME"], minQEMU)
	}
	return f["VERSION_CODENAME"], nil
}

// installedQEMU is the major version of the emulator, 0 when there is none.
func installedQEMU(ctx context.Context) int {
	out, err := exec.CommandContext(ctx, emulator, "--version").Output()
	if err != nil {
		return 0
	}
	return qemuMajor(string(out))
}

func qemuMajor(text string) int {
	_, rest, ok := strings.Cut(text, "version ")
	if !ok {
		return 0
	}
	major, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		return 0
	}
	return n
}

// ensureUser makes a system user with a group of the same name.
func ensureUser(ctx context.Context, name string) error {
	if _, err := user.LookupGroup(name); err != nil {
		if err := run(ctx, "", nil, "/usr/sbin/groupadd", "-r", name); err != nil {
			return err
		}
	}
	if _, err := user.Lookup(name); err != nil {
		return run(ctx, "", nil, "/usr/sbin/useradd", "-r", "-g", name, "-d", "/var/lib/libvirt", "-M", "-s", "/usr/sbin/nologin", name)
	}
	return nil
}

// run executes a program and puts the end of what it said into the error.
func run(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	// dpkg insists on the system directories, which root's path may lack after su.
	cmd.Env = append(append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(out.String())
		if len(said) > 2000 {
			said = "..." + said[len(said)-2000:]
		}
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	return nil
}
