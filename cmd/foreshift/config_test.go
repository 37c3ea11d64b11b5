package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigInitAndCheck(t *testing.T) {
	dir := t.TempDir()
	host := []string{"config", "init", "host", "--dir", dir, "--nats", "nats://127.0.0.1:4222", "--host", "h1", "--site", "here"}
	if out, err := foreshift(t, host...); err != nil || !strings.Contains(out, "agent.conf") || !strings.Contains(out, "next: ") {
		t.Fatal(out, err)
	}
	if _, err := foreshift(t, host...); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a file was replaced: %v", err)
	}
	file := filepath.Join(dir, configFile)
	out, err := foreshift(t, "config", "check", file)
	if err == nil || !strings.Contains(out, "actuator-h1.CTRL.nk") || !strings.Contains(out, "`foreshift streams auth` makes the keys") {
		t.Errorf("the keys are not missed: %v\n%s", err, out)
	}
	if out, err := foreshift(t, "streams", "auth", "--dir", dir, "--hosts", "h1"); err != nil {
		t.Fatal(out, err)
	}
	if out, err := foreshift(t, "config", "check", file); err != nil || !strings.Contains(out, "no fault; sections: actuator, fleet") {
		t.Errorf("%v\n%s", err, out)
	}
	text := "[fleet]\nnats = \"\"\nstate = \"" + dir + "\"\n[actuator]\nlisten = \"0.0.0.0:1\"\nlog = \"loud\"\nhost = \"a b\"\nuri = \"x\"\nbase-step = \"0s\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = foreshift(t, "config", "check", file)
	for _, want := range []string{"[fleet] nats", `listen = "0.0.0.0:1": only a loopback`, `log = "loud": want debug`, `host = "a b"`, `uri = "x"`, `base-step = "0s"`} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%q is not told: %v\n%s", want, err, out)
		}
	}
	if _, err := foreshift(t, "actuator", "--config", file); err == nil || !strings.Contains(err.Error(), `uri = "x"`) {
		t.Errorf("a service started on it: %v", err)
	}
	for _, bad := range [][]string{{"config", "init", "control", "--dir", dir}, {"config", "init", "both", "--dir", dir, "--nats", "nats://x"}, {"config", "init", "host", "--dir", t.TempDir(), "--nats", "nats://x"}, {"config", "check", "/no/such/file"}} {
		if _, err := foreshift(t, bad...); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

// The reference names every command that help names, and is the same every time.
func TestReference(t *testing.T) {
	a, err := foreshift(t, "reference")
	if err != nil {
		t.Fatal(err)
	}
	b, _ := foreshift(t, "reference")
	if a != b {
		t.Error("two references differ")
	}
	for _, want := range []string{"## foreshift host drain\n", "## foreshift config check\n", "--watch", "$ foreshift plan show last\n"} {
		if !strings.Contains(a, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(a, "## foreshift reference") {
		t.Error("it tells of itself")
	}
}
