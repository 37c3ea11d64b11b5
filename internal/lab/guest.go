package lab

import (
	"bytes"
	"compress/gzip"
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// guestSource is the guest program. It is built where the lab runs, so that an
// installed binary can start a lab as well as a clone can; it uses the standard
// library only and so needs no network to build.
//
//go:embed guest/main.go guest/boot.go guest/load.go guest/memory.go guest/disk.go guest/echo.go
var guestSource embed.FS

// buildGuest puts "initrd.gz" into the cache: the guest as PID 1 and the modules
// of the cached kernel. It does nothing when neither has changed.
func buildGuest(ctx context.Context, cache string, progress func(string)) error {
	id, err := guestID(cache)
	if err != nil {
		return err
	}
	stamp := filepath.Join(cache, "initrd.id")
	if have, err := os.ReadFile(stamp); err == nil && string(have) == id {
		return nil
	}
	progress("building the guest")
	work, err := os.MkdirTemp(cache, "guest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.CopyFS(work, guestSource); err != nil {
		return err
	}
	src := filepath.Join(work, "guest")
	if err := os.WriteFile(filepath.Join(src, "go.mod"), []byte("module guest\n\ngo 1.24\n"), 0o644); err != nil {
		return err
	}
	tool, err := goTool()
	if err != nil {
		return err
	}
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=", "GOWORK=off", "GO111MODULE=on"}
	if os.Getenv("HOME") == "" && os.Getenv("GOCACHE") == "" {
		env = append(env, "GOCACHE="+filepath.Join(cache, "go-build"))
	}
	if err := run(ctx, src, env, tool, "build", "-trimpath", "-ldflags=-s -w", "-o", "init", "."); err != nil {
		return fmt.Errorf("build the guest: %w", err)
	}
	image, err := packGuest(filepath.Join(src, "init"), filepath.Join(cache, "kernel", "modules"))
	if err != nil {
		return fmt.Errorf("pack the guest: %w", err)
	}
	tmp := filepath.Join(work, "initrd.gz")
	if err := os.WriteFile(tmp, image, 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(cache, "initrd.gz")); err != nil {
		return err
	}
	return os.WriteFile(stamp, []byte(id), 0o644)
}

// goTool finds the go command: on the path or where Debian and the Go project put it.
func goTool() (string, error) {
	if p, err := exec.LookPath("go"); err == nil {
		return p, nil
	}
	for _, p := range []string{"/usr/local/go/bin/go", "/usr/lib/go/bin/go"} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("build the guest: no go command on the path (the lab builds its guest where it runs)")
}

// guestID changes with the guest's source and with the kernel.
func guestID(cache string) (string, error) {
	h := xxhash.New()
	files, err := guestSource.ReadDir("guest")
	if err != nil {
		return "", err
	}
	for _, f := range files {
		b, err := guestSource.ReadFile("guest/" + f.Name())
		if err != nil {
			return "", err
		}
		_, _ = h.Write(b) // never fails
	}
	kernel, err := os.ReadFile(filepath.Join(cache, "kernel", "package"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%016x %s", h.Sum64(), strings.TrimSpace(string(kernel))), nil
}

// packGuest makes the compressed initial RAM disk.
func packGuest(init, modules string) ([]byte, error) {
	prog, err := os.ReadFile(init)
	if err != nil {
		return nil, err
	}
	files := []cpioFile{{Name: "init", Mode: modeExec, Data: prog}}
	for _, d := range []string{"proc", "sys", "dev", "modules"} {
		files = append(files, cpioFile{Name: d, Mode: modeDir})
	}
	entries, err := os.ReadDir(modules)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(modules, e.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, cpioFile{Name: "modules/" + e.Name(), Mode: modeFile, Data: b})
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := writeCPIO(z, files); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
