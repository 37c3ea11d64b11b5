package schemas_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"

	. "github.com/foreshift/foreshift/schemas"
)

var (
	rewrite = flag.Bool("rewrite", false, "write the golden samples that are missing")
	force   = flag.Bool("force", false, "with -rewrite: write those that exist too; only before a version is released")
)

const goldenDir = "testdata/golden"

// goldenName is the file of a kind's version, without its ending.
func goldenName(s Spec) string {
	return filepath.Join(goldenDir, fmt.Sprintf("%s.v%d.%d", s.Kind, s.Major, s.Minor))
}

func writeGolden(t *testing.T, path string, b []byte) {
	t.Helper()
	if _, err := os.Stat(path); err == nil && !*force {
		return
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.MkdirAll(goldenDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Every message version that was ever sent is decoded for ever: the files are kept
// as they were, and their content as people read it does not change.
func TestGoldenDecodedForEver(t *testing.T) {
	if *rewrite {
		for _, s := range Specs() {
			m := sampleOf(s.Kind)
			b, err := Encode(m)
			if err != nil {
				t.Fatalf("%s: %v", s.Kind, err)
			}
			writeGolden(t, goldenName(s)+"."+s.Encoding.String(), b)
			lines, err := JSONLines(decoded(t, s.Kind, b))
			if err != nil {
				t.Fatal(err)
			}
			writeGolden(t, goldenName(s)+".lines", lines)
		}
	}
	paths, err := filepath.Glob(filepath.Join(goldenDir, "*.lines"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".lines")
		i := strings.LastIndex(name, ".v")
		if i < 0 {
			t.Fatalf("%s: want <kind>.v<major>.<minor>.lines", path)
		}
		kind, version := name[:i], name[i+2:]
		seen[name] = true
		t.Run(name, func(t *testing.T) {
			s, err := SpecOf(Kind(kind))
			if err != nil {
				t.Fatal(err)
			}
			b := readFile(t, filepath.Join(goldenDir, name+"."+s.Encoding.String()))
			m, err := DecodeHeader(kind+"/"+version, b)
			if err != nil {
				t.Fatal(err)
			}
			lines, err := JSONLines(m)
			if err != nil {
				t.Fatal(err)
			}
			want := plainNumbers(t, readFile(t, path))
			if header := kind + "/" + version; header == s.Header() && !bytes.Equal(lines, want) {
				t.Errorf("decodes to\n%s\nwant\n%s", cut(lines), cut(want))
			}
			// Fields that came with a later minor version may stand beside the old ones.
			have, old := objects(t, lines), objects(t, want)
			if len(have) != len(old) {
				t.Fatalf("%d lines, want %d", len(have), len(old))
			}
			for i := range old {
				if !holds(have[i], old[i]) {
					t.Errorf("line %d has lost something of\n%v", i, old[i])
				}
			}
		})
	}
	for _, s := range Specs() {
		if !seen[filepath.Base(goldenName(s))] {
			t.Errorf("%s has no golden sample; run: go test ./schemas -run Golden -rewrite", s.Header())
		}
	}
}

// Today's samples still give the bytes that were released with their version.
func TestGoldenEncodedAlike(t *testing.T) {
	for _, s := range Specs() {
		b, err := Encode(sampleOf(s.Kind))
		if err != nil {
			t.Fatalf("%s: %v", s.Kind, err)
		}
		want := readFile(t, goldenName(s)+"."+s.Encoding.String())
		if s.Encoding == JSON {
			want = plainNumbers(t, want)
		}
		if !bytes.Equal(b, want) {
			t.Errorf("%s: encodes to\n%q\nwant\n%q", s.Kind, cut(b), cut(want))
		}
	}
}

// The samples set every field, else the goldens would not show a field that is lost.
func TestSamplesAreFull(t *testing.T) {
	for _, s := range Specs() {
		if s.Encoding == JSON {
			full(t, string(s.Kind), reflect.ValueOf(sampleOf(s.Kind)).Elem())
		}
	}
}

func full(t *testing.T, path string, v reflect.Value) {
	for i := 0; i < v.NumField(); i++ {
		f, name := v.Field(i), path+"."+v.Type().Field(i).Name
		// The first item of a list stands for all; Score and Detail may be told or not.
		if f.Kind() == reflect.Slice && f.Len() > 0 && f.Index(0).Kind() == reflect.Struct {
			f = f.Index(0)
		}
		switch {
		case f.Kind() == reflect.Struct:
			full(t, name, f)
		case f.IsZero() && v.Type().Name() != "Reason" && v.Type().Name() != "InventoryVM":
			t.Errorf("%s is not set", name)
		}
	}
}

// Every golden JSON sample fits its JSON Schema, and the schema is no rubber stamp.
func TestGoldenFitsSchema(t *testing.T) {
	for _, s := range Specs() {
		if s.Encoding != JSON {
			continue
		}
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		sch, err := c.Compile(filepath.Join("v1", string(s.Kind)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(readFile(t, goldenName(s)+".json")))
		if err != nil {
			t.Fatal(err)
		}
		if err := sch.Validate(v); err != nil {
			t.Errorf("%s: %v", s.Kind, err)
		}
		o := v.(map[string]any)
		o["extra"] = 1
		if sch.Validate(o) == nil {
			t.Errorf("%s: the schema lets an unknown field through", s.Kind)
		}
		delete(o, "extra")
		for k := range o {
			if _, text := o[k].(string); text {
				o[k] = 7
				if sch.Validate(o) == nil {
					t.Errorf("%s: the schema lets a number through for %s", s.Kind, k)
				}
				break
			}
		}
	}
}

// objects parses lines of JSON.
func objects(t *testing.T, lines []byte) []any {
	t.Helper()
	var vs []any
	for _, line := range bytes.Split(bytes.TrimSpace(lines), []byte("\n")) {
		var v any
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("not JSON: %v: %s", err, cut(line))
		}
		vs = append(vs, v)
	}
	return vs
}

// holds reports whether all of old is in have.
func holds(have, old any) bool {
	switch o := old.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		for k, v := range o {
			ok = ok && holds(h[k], v)
		}
		return ok
	case []any:
		h, ok := have.([]any)
		ok = ok && len(h) == len(o)
		for i := range o {
			ok = ok && holds(h[i], o[i])
		}
		return ok
	}
	return reflect.DeepEqual(have, old)
}

func TestHolds(t *testing.T) {
	old := map[string]any{"a": 1.0, "l": []any{map[string]any{"x": nil}}}
	for _, c := range []struct {
		have any
		want bool
	}{
		{map[string]any{"a": 1.0, "l": []any{map[string]any{"x": nil, "y": 1.0}}, "new": 0.0}, true},
		{map[string]any{"a": 2.0, "l": []any{map[string]any{"x": nil}}}, false},
		{map[string]any{"a": 1.0, "l": []any{}}, false},
		{map[string]any{"l": []any{map[string]any{"x": nil}}}, false},
	} {
		if got := holds(c.have, old); got != c.want {
			t.Errorf("holds(%v) = %v, want %v", c.have, got, c.want)
		}
	}
}

// plainNumbers writes the numbers of lines of JSON in their shortest form, 1e-9 for
// 1e-09, and leaves all else: what was released before may hold the longer one.
func plainNumbers(t *testing.T, b []byte) []byte {
	t.Helper()
	var out []byte
	for line := range bytes.Lines(b) {
		v := jsontext.Value(bytes.TrimSuffix(line, []byte("\n")))
		end := line[len(v):]
		if err := v.Format(jsontext.CanonicalizeRawFloats(true)); err != nil {
			t.Fatal(err)
		}
		out = append(append(out, v...), end...)
	}
	return out
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decoded(t tester, k Kind, b []byte) Message {
	t.Helper()
	m, err := Decode(k, b)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// cut keeps failures readable.
func cut(b []byte) []byte {
	if len(b) > 600 {
		return append(append([]byte(nil), b[:600]...), "..."...)
	}
	return b
}
