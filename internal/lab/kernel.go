package lab

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// guestModules are what a guest needs of the kernel's modules; their dependencies
// are found in the modules themselves.
var guestModules = []string{"virtio_pci", "virtio_balloon", "virtio_net", "virtio_blk"}

var kernelName = regexp.MustCompile(`^linux-image-6\.1\.0-(\d+)-cloud-amd64$`)

// kernelPackages picks Debian 12's own cloud kernels from a list of names, newest
// first.
func kernelPackages(names string) []string {
	var out []string
	rank := map[string]int{}
	for _, n := range strings.Fields(names) {
		if m := kernelName.FindStringSubmatch(n); m != nil {
			v, err := strconv.Atoi(m[1])
			if err == nil {
				rank[n] = v
				out = append(out, n)
			}
		}
	}
	sort.Slice(out, func(i, j int) bool { return rank[out[i]] > rank[out[j]] })
	return out
}

// kernel downloads and unpacks a cloud kernel into dir: vmlinuz, the modules and,
// written last, the package's name in the file "package".
func (a *apt) kernel(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "package")); err == nil {
		return nil
	}
	find := func() ([]string, error) {
		out, err := exec.CommandContext(ctx, "apt-cache", "pkgnames", "linux-image-6.1.0-").Output()
		if err != nil {
			return nil, fmt.Errorf("apt-cache pkgnames: %w", err)
		}
		return kernelPackages(string(out)), nil
	}
	names, err := find()
	if err != nil {
		return err
	}
	if len(names) == 0 {
		if err := a.update(ctx); err != nil {
			return err
		}
		if names, err = find(); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("kernel: apt knows no package linux-image-6.1.0-*-cloud-amd64")
	}
	work := dir + ".new"
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(work)
	var failed error
	for i, name := range names {
		a.progress("downloading " + name)
		if failed = a.get(ctx, work, "download", name); failed == nil {
			if failed = unpackKernel(ctx, work, name); failed == nil {
				break
			}
		}
		if i == 0 { // the lists may be older than the archive
			a.updated = false
			if err := a.update(ctx); err != nil {
				return err
			}
		}
		if i == 2 {
			break
		}
	}
	if failed != nil {
		return fmt.Errorf("kernel: %w", failed)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Rename(work, dir)
}

// unpackKernel takes a downloaded package apart in place and keeps what a guest
// needs of it.
func unpackKernel(ctx context.Context, work, name string) error {
	debs, err := filepath.Glob(filepath.Join(work, name+"_*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("%s: %d packages in %s after the download, want one", name, len(debs), work)
	}
	tree := filepath.Join(work, "tree")
	if err := os.RemoveAll(tree); err != nil {
		return err
	}
	if err := run(ctx, "", nil, "dpkg-deb", "-x", debs[0], tree); err != nil {
		return err
	}
	images, err := filepath.Glob(filepath.Join(tree, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return fmt.Errorf("%s: %d kernel images in the package, want one", name, len(images))
	}
	if err := os.Rename(images[0], filepath.Join(work, "vmlinuz")); err != nil {
		return err
	}
	modules, order, err := moduleClosure(ctx, tree, guestModules)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	dir := filepath.Join(work, "modules")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, m := range order {
		if err := os.WriteFile(filepath.Join(dir, m+".ko"), modules[m], 0o644); err != nil {
			return err
		}
	}
	text := strings.Join(order, ".ko\n") + ".ko\n"
	if err := os.WriteFile(filepath.Join(dir, "order"), []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.RemoveAll(tree); err != nil {
		return err
	}
	if err := os.Remove(debs[0]); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(work, "package"), []byte(name+"\n"), 0o644)
}

// moduleClosure finds the wanted modules under tree with all they depend on, plain
// or compressed, and gives their contents and the order in which to load them.
func moduleClosure(ctx context.Context, tree string, wanted []string) (map[string][]byte, []string, error) {
	where := map[string]string{}
	err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base, _, ok := strings.Cut(d.Name(), ".ko"); ok && d.Type().IsRegular() {
			where[strings.ReplaceAll(base, "-", "_")] = path
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	contents := map[string][]byte{}
	var order []string
	var visit func(name string) error
	visit = func(name string) error {
		if _, done := contents[name]; done {
			return nil
		}
		path, ok := where[name]
		if !ok {
			return fmt.Errorf("module %s is not in the package", name)
		}
		b, err := readModule(ctx, path)
		if err != nil {
			return err
		}
		contents[name] = b
		deps, err := moduleDepends(b)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, d := range deps {
			if err := visit(d); err != nil {
				return fmt.Errorf("%s needs: %w", name, err)
			}
		}
		order = append(order, name)
		return nil
	}
	for _, w := range wanted {
		if err := visit(w); err != nil {
			return nil, nil, err
		}
	}
	return contents, order, nil
}

// readModule reads a module file, decompressing it by its suffix.
func readModule(ctx context.Context, path string) ([]byte, error) {
	tool := map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"}[filepath.Ext(path)]
	if tool == "" {
		return os.ReadFile(path)
	}
	out, err := exec.CommandContext(ctx, tool, "-dc", path).Output()
	if err != nil {
		return nil, fmt.Errorf("%s -dc %s: %w", tool, path, err)
	}
	return out, nil
}

// moduleDepends reads "depends=a,b" from a module's .modinfo section.
func moduleDepends(b []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("no .modinfo section")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for _, field := range bytes.Split(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(field, []byte("depends=")); ok && len(list) > 0 {
			return strings.Split(strings.ReplaceAll(string(list), "-", "_"), ","), nil
		}
	}
	return nil, nil
}
