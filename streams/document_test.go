package streams_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/foreshift/foreshift/streams"
)

var rewrite = flag.Bool("rewrite", false, "write generated pages anew")

func TestSubjectsPageIsUpToDate(t *testing.T) {
	const path = "../docs/SUBJECTS.md"
	var want bytes.Buffer
	if err := streams.WriteSubjects(&want); err != nil {
		t.Fatal(err)
	}
	if *rewrite {
		if err := os.MkdirAll("../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want.Bytes()) {
		t.Fatal("docs/SUBJECTS.md differs from the table: run `go test ./streams -run SubjectsPage -rewrite`")
	}
}
