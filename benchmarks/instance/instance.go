// Package instance reads the files that published instances of placement problems
// come in, and writes the answers to them.
//
// What comes in: a path. What goes out: the text, unpacked where the name ends in
// .gz, or a JSON value decoded from it; an answer, as a line of JSON in a file.
//
// What is promised: what is larger than [MaxBytes] once unpacked is refused before it
// fills the memory, and a fault names the file and the line that it is in. What a
// number means, and whether it is a sensible one, is the problem's own to say.
//
// Why apart: three benchmarks read files, and a reader that is generous in one of
// them only is found out by the wrong person.
package instance

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// MaxBytes bounds a file once unpacked; the largest of the ROADEF/EURO Challenge 2012
// has under 100 MB.
const MaxBytes = 1 << 30

// Read gives the text of a file.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the instance: %w", err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		r = z
	}
	return read(path, r, MaxBytes)
}

func read(path string, r io.Reader, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(text)) > most {
		return nil, fmt.Errorf("read %s: more than %d bytes once unpacked", path, most)
	}
	return text, nil
}

// ReadJSON decodes the one JSON value that a file holds.
func ReadJSON(path string, into any) error {
	text, err := Read(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s, line %d: %w", path, Line(text, offset(err, len(text))), err)
	}
	return nil
}

// WriteJSON writes a value as one line, an answer to an instance; nowhere if path is empty.
func WriteJSON(path string, v any) error {
	if path == "" {
		return nil
	}
	text, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(path, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// offset is how far into a text of n bytes a decoder's fault is.
func offset(err error, n int) int {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return int(syntax.Offset)
	case errors.As(err, &kind):
		return int(kind.Offset)
	}
	return n
}

// Line is the line, counted from 1, of the byte at an offset.
func Line(text []byte, offset int) int {
	return 1 + bytes.Count(text[:min(max(offset-1, 0), len(text))], []byte{'\n'})
}
