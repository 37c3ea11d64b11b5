package instance

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadJSON(t *testing.T) {
	dir := t.TempDir()
	for _, x := range []struct{ name, text, want string }{
		{"good", "{\"n\": 1}\n", ""},
		{"cut", "{\n \"n\": 1,", "line 2: unexpected end"},
		{"empty", "", "line 1: unexpected end"},
		{"a letter", "{\n \"n\": x\n}", "line 2: invalid character 'x'"},
		{"another kind", "{\n\n \"n\": \"x\"\n}", "line 3: json: cannot unmarshal string"},
		{"more", "{\"n\": 1}\n\n]", "line 3: invalid character ']'"},
	} {
		path := filepath.Join(dir, "in.json")
		if err := os.WriteFile(path, []byte(x.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var in struct{ N int }
		err := ReadJSON(path, &in)
		if x.want == "" {
			if err != nil || in.N != 1 {
				t.Errorf("%s: %+v, %v", x.name, in, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want the path and %q", x.name, err, x.want)
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte("1 2 3\n")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if text, err := Read(write("good.gz", packed.Bytes())); err != nil || string(text) != "1 2 3\n" {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := Read(write("cut.gz", packed.Bytes()[:packed.Len()-6])); err == nil {
		t.Error("half a file was taken")
	}
	if _, err := Read(write("plain.gz", []byte("1 2 3, which is plain text\n"))); !errors.Is(err, gzip.ErrHeader) {
		t.Errorf("plain text named .gz: %v", err)
	}
	if _, err := Read(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := read("big", strings.NewReader("12345"), 4); err == nil || !strings.Contains(err.Error(), "more than 4 bytes") {
		t.Errorf("5 bytes of 4: %v", err)
	}
	if text, err := read("fits", strings.NewReader("1234"), 4); err != nil || len(text) != 4 {
		t.Errorf("4 bytes of 4: %q, %v", text, err)
	}
}
