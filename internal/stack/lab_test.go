package stack

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/foreshift/foreshift/internal/lab"
)

// The whole of Foreshift on real hypervisors: a load that recurs is foreseen, and a
// guest is moved before its host's limit is crossed.
func TestLabDemo(t *testing.T) {
	if os.Getenv("FORESHIFT_LAB") == "" {
		t.Skip("lab skipped: set FORESHIFT_LAB=1, or run ./task test:lab")
	}
	if os.Geteuid() != 0 {
		t.Skip(lab.ErrNotRoot)
	}
	agent := filepath.Join(t.TempDir(), "foreshift-agent")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", agent, "../../cmd/foreshift-agent").CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	v, err := lab.Demo(t.Context(), lab.DemoConfig{Stack: NewLab(agent, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))), Out: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	if !v.OK {
		t.Fatalf("the demonstration did not show what it should: %v", v.Failures)
	}
}
