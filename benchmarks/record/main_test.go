package main

import (
	"io"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const out = `goos: linux
pkg: example.test/x
cpu: Some CPU @ 2.0GHz
BenchmarkA-2   	  100	   12345 ns/op	  3.1e+06 values/cpu-s	       0 B/op
BenchmarkNote this is a log line
BenchmarkB-2   	       1	         9.5 ns/op
PASS
`
	rs, failed, err := parse(strings.NewReader(out), io.Discard)
	if err != nil || failed || len(rs) != 2 {
		t.Fatal(rs, failed, err)
	}
	a := rs[0]
	figures := a.Figures.(map[string]float64)
	if a.Bench != "example.test/x.BenchmarkA-2" || a.Runs != 100 || figures["values/cpu-s"] != 3.1e6 || figures["ns/op"] != 12345 || !strings.HasPrefix(a.Machine, "Some CPU @ 2.0GHz, ") {
		t.Fatalf("%+v", a)
	}
	if _, failed, _ = parse(strings.NewReader("--- FAIL: BenchmarkA\n"), io.Discard); !failed {
		t.Fatal("a failure was not seen")
	}
}
