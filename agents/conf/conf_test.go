package conf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// That the agent understands what is written is tested where Telegraf is at hand,
// in package run.

func TestWriteReplacesTheFileWholeAndForTheOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.conf")
	s := Settings{URL: "nats://127.0.0.1:4222", Credentials: dir, Hosts: []Host{{ID: "h1", Site: "a", URI: "qemu:///system"}}}
	if err := Write(path, s); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Hosts[0].ID = "not a token"
	if Write(path, s) == nil {
		t.Fatal("want an error")
	}
	second, err := os.ReadFile(path)
	if err != nil || string(first) != string(second) {
		t.Error("a refused Write must leave the file as it was")
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if es, err := os.ReadDir(dir); err != nil || len(es) != 1 {
		t.Errorf("left behind: %v, %v", es, err)
	}
	if err := Write(filepath.Join(dir, "none", "agent.conf"), Settings{}); err == nil {
		t.Error("want an error")
	}
}

func TestSameSettingsGiveTheSameText(t *testing.T) {
	s := Settings{URL: "u", Credentials: "d", VMLabels: map[string]map[string]string{"a": {"1": "x", "2": "y"}, "b": {"3": "z"}},
		Hosts: []Host{{ID: "h", Site: "s", URI: "u", Capacity: schemas.Amounts{CPU: 2000}, Labels: map[string]string{"k": "v", "l": "w", "m": "x"}}}}
	first, err := s.TOML()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if again, err := s.TOML(); err != nil || again != first {
			t.Fatal("the text differs")
		}
	}
	for _, want := range []string{`interval = "10s"`, `flush_interval = "5s"`, "cores = 2.0", `role = "agent"`} {
		if !strings.Contains(first, want) {
			t.Errorf("%s is missing in\n%s", want, first)
		}
	}
}
