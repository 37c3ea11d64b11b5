package results

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results.jsonl")
	if err := Append(path, Line{Bench: "a", Figures: map[string]float64{"ns/op": 3}}, Line{Bench: "b", Time: "then", Commit: "c", Machine: "m"}); err != nil {
		t.Fatal(err)
	}
	if err := Append(path, Line{Bench: "c"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var got [3]Line
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	for k := range got {
		if err := json.Unmarshal([]byte(lines[k]), &got[k]); err != nil {
			t.Fatal(err)
		}
	}
	if got[0].Time == "" || got[0].Commit == "" || !strings.Contains(got[0].Machine, "cores") || got[0].Figures.(map[string]any)["ns/op"] != 3. {
		t.Errorf("%+v", got[0])
	}
	if got[1].Time != "then" || got[1].Commit != "c" || got[1].Machine != "m" || got[2].Bench != "c" {
		t.Errorf("%+v %+v", got[1], got[2])
	}
	if err := Append(path, Line{Bench: "d", Figures: func() {}}); err == nil || !strings.Contains(err.Error(), "d:") {
		t.Errorf("%v", err)
	}
	if err := Append(filepath.Join(path, "x"), Line{}); err == nil {
		t.Error("a path below a file was taken")
	}
}
