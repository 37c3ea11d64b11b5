// Command gen writes the schemas of all messages as files, so that those who do
// not write Go have them too: a JSON Schema for each JSON kind, and for each Arrow
// kind its columns and metadata as readable JSON.
//
// What comes in: the Go types of package schemas, which are the contract. What goes
// out: schemas/v1/<kind>.json and schemas/v1/<kind>.arrow.json. A test compares the
// committed files with what it would write.
//
// Usage, from the top of the repository:
//
//	go run ./schemas/internal/gen -dir schemas/v1
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/foreshift/foreshift/schemas"
)

func main() {
	dir := flag.String("dir", filepath.Join("schemas", "v1"), "folder to write to")
	flag.Parse()
	if err := run(*dir); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(dir string) error {
	fs, err := files()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range fs {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.data, 0o644); err != nil {
			return err
		}
	}
	// What no kind makes any more must go, or people would read it.
	stale, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	for _, path := range stale {
		if !slices.ContainsFunc(fs, func(f file) bool { return f.name == filepath.Base(path) }) {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// file is one generated file.
type file struct {
	name string
	data []byte
}

// files makes them all, in the order of the registry.
func files() ([]file, error) {
	var fs []file
	for _, s := range schemas.Specs() {
		var v any
		var err error
		name := string(s.Kind) + ".json"
		if s.Encoding == schemas.Arrow {
			name = string(s.Kind) + ".arrow.json"
			v, err = arrowSchema(s)
		} else {
			v = jsonSchema(s)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Kind, err)
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(v); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Kind, err)
		}
		fs = append(fs, file{name, b.Bytes()})
	}
	return fs, nil
}

// urn names the schema of a kind and its major version.
func urn(s schemas.Spec) string {
	return "urn:foreshift:schema:" + string(s.Kind) + ":" + strconv.Itoa(s.Major)
}
