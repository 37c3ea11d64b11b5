package trace

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct{ name, metric, in, want string }{
		{"tidy, any order, gaps", "cpu", "vm,t,cpu\nb,3,5\na,2,1\na,4,x\na,5,2\n", "a@2:1 - - 2;b@3:5"},
		{"share of a capacity", "mem_pct_of_cap", "vm,t,mem_mb,mem_cap_mb\na,0,1,4\na,1,3,0\n", "a@0:25 -"},
		{"metric in rows", "cpu_pct", "series,metric,t,y,split\ns,cpu_pct,1,7,train\ns,cpu_pct,2,8,test\nr,nr,1,9,train\n", "s@1:7 8 test 1"},
		{"timestamps", "value", "series,timestamp,value\nn,1970-01-01 00:05:00,2\nn,1970-01-01T00:10:00Z,3\n", "n@1:2 3"},
		{"wide", "", "20110303,0,4,5\n20110303,1,6,7\n", "20110303/0@0:4 5;20110303/1@0:6 7"},
		{"carriage returns, a byte order mark, blanks", "cpu", "\ufeffvm, t,cpu\r\na, 1, 5\r\na,2.0,NA\r\na,3,7\r\n", "a@1:5 - 7"},
		{"semicolons", "cpu", "vm;t;cpu\na;1;5\n", "a@1:5"},
		{"tabs, quotes", "cpu", "vm\tt\tcpu\n\"a b\"\t1\t5\n", "a b@1:5"},
		{"Unix time", "v", "vm,timestamp,v\na,300,1\na,900.5,2\nb,1700000000000,3\nb,1700000300,4\n", "a@1:1 - 2;b@5666666:3 4"},
		{"hourly timestamps", "v", "vm,timestamp,v\na,2024-01-01 00:00,1\na,2024-01-01 00:10,2\n", "a@5680224:1 - 2"},
		{"empty", "v", "", "error: the file is empty"},
		{"header only", "v", "vm,t,v\n", `error: no rows of "v"`},
		{"words", "v", "vm,t,v\na,1,hello\na,2,\n", `error: "v" has no number in any row, but for instance "hello"`},
		{"no metric named", "", "vm,t,v\na,1,1\n", "error: no metric is named; the file has vm, t, v"},
		{"nothing", "v", "vm,t,v\na,1,NaN\na,2,\n", `error: "v" has no value in any row`},
		{"no name", "v", "vm,t,v\n,1,3\n", "error: line 2: column vm is empty"},
		{"fraction of a bin", "v", "vm,t,v\na,1,3\na,1.5,3\n", `error: line 3: column t: "1.5" is not a whole number`},
		{"no time", "v", "vm,timestamp,v\na,noon,3\n", `error: line 2: column timestamp: "noon" is neither RFC 3339 nor Unix seconds`},
		{"seconds for bins", "v", "vm,t,v\na,0,1\na,300,1\na,600,1\na,900,1\na,1200,1\na,1500,1\na,1800,1\na,2100,1\na,2400,1\na,2700,1\n",
			"error: series a: t goes up by 300, not by 1: if it is in seconds, call the column timestamp"},
		{"a quote too many", "v", "vm,t,v\na,1,\"3\n", "error: parse error on line 2, column 8: extraneous or missing \" in quoted-field"},
		{"no such column", "cpu", "vm,t,mem\na,1,2\n", `error: no column "cpu"; the file has vm, t, mem`},
		{"bad time", "cpu", "vm,t,cpu\na,-4,2\n", "error: line 2: t -4 is out of range"},
		{"short row", "cpu", "vm,t,cpu\na,4\n", "error: line 2: 2 fields: column cpu is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Decode(strings.NewReader(c.in), c.metric)
			if got := show(s, err); got != c.want {
				t.Fatalf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func show(series []Series, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	var out []string
	for _, s := range series {
		var v []string
		for _, y := range s.Y {
			if y != y {
				v = append(v, "-")
			} else {
				v = append(v, strconv.FormatFloat(float64(y), 'g', -1, 32))
			}
		}
		line := s.ID + "@" + strconv.Itoa(s.Start) + ":" + strings.Join(v, " ")
		if s.Test > 0 {
			line += " test " + strconv.Itoa(s.Test)
		}
		out = append(out, line)
	}
	return strings.Join(out, ";")
}

// What a name does not say: gzip is told by its content.
func TestReadsGzipByContent(t *testing.T) {
	dir := t.TempDir()
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write([]byte("vm,t,v\na,1,5\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"packed.csv": z.Bytes(), "packed.csv.gz": z.Bytes(), "plain.csv.gz": []byte("vm,t,v\na,1,5\n")} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := show(Read(path, "v")); got != "a@1:5" {
			t.Errorf("%s: %s", name, got)
		}
	}
	cut := filepath.Join(dir, "cut.csv.gz")
	if err := os.WriteFile(cut, z.Bytes()[:z.Len()-9], 0o600); err != nil {
		t.Fatal(err)
	}
	if got := show(Read(cut, "v")); !strings.Contains(got, cut) || !strings.Contains(got, "unexpected EOF") {
		t.Errorf("%s", got)
	}
}

func TestMultiply(t *testing.T) {
	a, err := Decode(strings.NewReader("vm,t,v,c\na,1,5,2\na,2,6,\nb,1,7,3\n"), "v")
	if err != nil {
		t.Fatal(err)
	}
	by, err := Decode(strings.NewReader("vm,t,c\na,1,2\n"), "c")
	if err != nil {
		t.Fatal(err)
	}
	Multiply(a, by)
	if got := show(a, nil); got != "a@1:10 -;b@1:-" {
		t.Error(got)
	}
}

// Whatever a file holds, it is read or refused.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"vm,t,v\na,1,5\n", "series,metric,src,t,y,split\ns,v,x,1,2,test\n", "20110303,0,4,5\n", "vm;timestamp;v\na;2024-01-01 00:00;1\n", "\ufeff\"", "vm,t,v\na,9e11,1\na,0,1\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		series, err := Decode(bytes.NewReader(b), "v")
		if err != nil {
			return
		}
		for _, s := range series {
			if len(s.Y) == 0 || s.Start < 0 || s.Test < 0 || s.Test > len(s.Y) {
				t.Fatalf("%+v", s)
			}
		}
	})
}
