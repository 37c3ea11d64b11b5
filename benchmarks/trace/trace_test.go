package trace

import (
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
		{"no such column", "cpu", "vm,t,mem\na,1,2\n", `error: no column "cpu"; the file has vm, t, mem`},
		{"bad time", "cpu", "vm,t,cpu\na,-4,2\n", "error: line 2: t -4 is out of range"},
		{"short row", "cpu", "vm,t,cpu\na,4\n", "error: line 2: 2 fields, want 3"},
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
