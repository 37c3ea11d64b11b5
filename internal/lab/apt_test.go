package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const deb822 = `# the usual
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://other.example/debian
Suites: bookworm-backports
Components: main

Types: deb-src
URIs: http://other.example/debian
Suites: bookworm-backports
Components: main
`

func TestBackportsFromDeb822(t *testing.T) {
	all := parseDeb822(deb822)
	if len(all) != 2 {
		t.Fatalf("%d entries, want 2 (disabled and source-only ones left out): %+v", len(all), all)
	}
	if hasSuite(all, "bookworm-backports") {
		t.Error("a disabled backports entry counts as present")
	}
	if !strings.Contains(all[1].Options[0][1], "\n abc\n") {
		t.Errorf("the inline key was lost: %q", all[1].Options)
	}
	got, err := backportsEntry(all, "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Types: deb\n", "URIs: http://mirror.example/debian\n", "Suites: bookworm-backports\n", "Components: main\n", "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("entry lacks %q:\n%s", want, got)
		}
	}
	if !hasSuite(parseDeb822(got), "bookworm-backports") {
		t.Errorf("the entry does not read back:\n%s", got)
	}
}

func TestBackportsFromOneLineStyle(t *testing.T) {
	dir := t.TempDir()
	text := "# deb http://commented.example/debian bookworm main\n" +
		"deb-src http://mirror.example/debian bookworm main\n" +
		"deb [arch=amd64,i386 signed-by=/etc/apt/keyrings/k.gpg] http://mirror.example/debian bookworm main non-free # trailing\n" +
		"deb\thttp://security.example bookworm-security main\n" +
		"deb [broken http://x bookworm main\n"
	if err := os.WriteFile(filepath.Join(dir, "sources.list"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	all, err := readSources(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 {
		t.Fatalf("%d entries, want 2: %+v", len(all), all)
	}
	got, err := backportsEntry(all, "bookworm")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"URIs: http://mirror.example/debian\n", "Architectures: amd64 i386\n", "Signed-By: /etc/apt/keyrings/k.gpg\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("entry lacks %q:\n%s", want, got)
		}
	}
}

func TestBackportsNeedTheSuiteItself(t *testing.T) {
	if _, err := backportsEntry(parseLines("deb http://x trixie main\n"), "bookworm"); err == nil || !strings.Contains(err.Error(), "bookworm") {
		t.Errorf("error %v does not name the missing suite", err)
	}
}

func TestSourcesAcrossFiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sources.list.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a.list":     "deb http://one.example/debian bookworm main\n",
		"b.sources":  "Types: deb\nURIs: http://two.example/debian\nSuites: bookworm-backports\nComponents: main\n",
		"c.disabled": "deb http://three.example/debian sid main\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "sources.list.d", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all, err := readSources(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || !hasSuite(all, "bookworm-backports") || hasSuite(all, "sid") {
		t.Errorf("sources %+v", all)
	}
}

func TestQEMUVersion(t *testing.T) {
	for text, want := range map[string]int{
		"QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\n": 10,
		"QEMU emulator version 7.2.15 (Debian 1:7.2+dfsg-7+deb12u12)":           7,
		"QEMU emulator version 9.2.90 (v10.0.0-rc0)":                            9,
		"nonsense": 0, "": 0, "version x": 0,
	} {
		if got := qemuMajor(text); got != want {
			t.Errorf("%q: major %d, want %d", text, got, want)
		}
	}
}

func TestKernelPackages(t *testing.T) {
	names := "linux-image-6.1.0-9-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64\nlinux-image-6.1.0-56-cloud-amd64-dbg\n" +
		"linux-image-6.1.0-57-cloud-amd64-unsigned\nlinux-image-6.1.0-55-amd64\nlinux-image-6.12.100+deb12-cloud-amd64\nlinux-image-6.1.0-10-cloud-amd64\n"
	got := kernelPackages(names)
	want := []string{"linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-10-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64"}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("newest first: %v, want %v", got, want)
	}
}
