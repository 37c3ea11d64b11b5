package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const dir = "../../v1"

// The committed schemas are what the types say.
func TestNoDrift(t *testing.T) {
	fs, err := files()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, f := range fs {
		want[f.name] = true
		have, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil {
			t.Errorf("%v; run: go run ./schemas/internal/gen", err)
			continue
		}
		if !bytes.Equal(have, f.data) {
			t.Errorf("%s differs from the Go types; run: go run ./schemas/internal/gen", f.name)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !want[e.Name()] {
			t.Errorf("%s is of no kind; run: go run ./schemas/internal/gen", e.Name())
		}
	}
}

// A file that nobody makes any more is removed, and nothing else is.
func TestRunRemovesStale(t *testing.T) {
	tmp := t.TempDir()
	for _, name := range []string{"gone.json", "README.md"} {
		if err := os.WriteFile(filepath.Join(tmp, name), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(tmp); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tmp, "gone.json")); !os.IsNotExist(err) {
		t.Errorf("gone.json is still there (%v)", err)
	}
	for _, name := range []string{"README.md", "plan.json", "metrics.arrow.json"} {
		if _, err := os.Stat(filepath.Join(tmp, name)); err != nil {
			t.Error(err)
		}
	}
}

var (
	unitInName = regexp.MustCompile(`(?:^|_)(mcpu|bytes|bytes_per_second|ratio|seconds|ms|ns|steps?|core_seconds|resource_seconds)$`)
	unitInText = regexp.MustCompile(`\b(mCPU|bytes|bytes/s|ms|s|seconds|ratio|share|0\.\.1|steps|count|number|unit|same unit|steps|hash|release|epoch)\b`)
)

// units finds the numbers whose unit nobody tells.
func units(path string, v any, bad *[]string) {
	m, ok := v.(map[string]any)
	if !ok {
		return
	}
	props, _ := m["properties"].(map[string]any)
	for name, p := range props {
		prop, _ := p.(map[string]any)
		description, _ := prop["description"].(string)
		if numeric(prop) && !unitInName.MatchString(name) && !unitInText.MatchString(description) {
			*bad = append(*bad, path+"."+name)
		}
		units(path+"."+name, prop, bad)
	}
	defs, _ := m["$defs"].(map[string]any)
	for name, d := range defs {
		units(path+":"+name, d, bad)
	}
}

// numeric tells numbers, and lists and maps of numbers.
func numeric(p map[string]any) bool {
	if p == nil {
		return false
	}
	if t := p["type"]; t == "number" || t == "integer" {
		return true
	}
	items, _ := p["items"].(map[string]any)
	values, _ := p["additionalProperties"].(map[string]any)
	return numeric(items) || numeric(values)
}

func TestEveryNumberTellsItsUnit(t *testing.T) {
	fs, err := files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fs {
		var v map[string]any
		if err := json.Unmarshal(f.data, &v); err != nil {
			t.Fatal(err)
		}
		var bad []string
		units(f.name, v, &bad)
		cols, _ := v["columns"].([]any)
		for _, c := range cols {
			col, _ := c.(map[string]any)
			typ, _ := col["type"].(string)
			name, _ := col["name"].(string)
			if (strings.Contains(typ, "float") || strings.Contains(typ, "timestamp")) && col["unit"] == nil {
				bad = append(bad, f.name+"."+name)
			}
		}
		for _, b := range bad {
			t.Errorf("%s: neither name nor description tells the unit", b)
		}
	}
	// The rule can fail.
	var bad []string
	units("x", map[string]any{"properties": map[string]any{
		"speed": map[string]any{"type": "number", "description": "how fast"},
		"list":  map[string]any{"type": "array", "items": map[string]any{"type": "integer"}},
		"name":  map[string]any{"type": "string"},
	}}, &bad)
	if len(bad) != 2 {
		t.Errorf("planted violations found: %q, want 2", bad)
	}
}

// Every schema names itself and is closed.
func TestShape(t *testing.T) {
	fs, err := files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fs {
		kind := strings.TrimSuffix(strings.TrimSuffix(f.name, ".json"), ".arrow")
		var v map[string]any
		if err := json.Unmarshal(f.data, &v); err != nil {
			t.Fatal(err)
		}
		if v["$id"] != "urn:foreshift:schema:"+kind+":1" {
			t.Errorf("%s: $id is %v", f.name, v["$id"])
		}
		if v["title"] == "" || v["description"] == "" {
			t.Errorf("%s: has no title or description", f.name)
		}
		if strings.HasSuffix(f.name, ".arrow.json") {
			continue
		}
		closed(t, f.name, v)
	}
}

func closed(t *testing.T, path string, v map[string]any) {
	if v["type"] == "object" && v["additionalProperties"] == nil {
		t.Errorf("%s: is open to unknown fields", path)
	}
	for _, key := range []string{"properties", "$defs"} {
		for name, p := range asMap(v[key]) {
			closed(t, path+"."+name, asMap(p))
		}
	}
}

func asMap(v any) map[string]any { m, _ := v.(map[string]any); return m }
