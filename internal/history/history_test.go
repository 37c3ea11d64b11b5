package history

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

const base = 5 * time.Minute

func table() *Table {
	return New(Options{Base: base, End: schemas.Time(1.75e18)})
}

const good = "vm,time,host,cores,cpu_pct,mem_bytes\n" +
	"web,2026-03-14T15:00:00Z,h1,4,50,1e9\n" +
	"web,2026-03-14T15:05:00Z,h1,4,25,1e9\n" +
	"db,2026-03-14T15:00:00Z,h2,2,100,\n" +
	"db,2026-03-14T15:10:00Z,h1,2,10,2e9\n"

func messages(t *testing.T, tab *Table) []*schemas.Steps {
	t.Helper()
	ms, err := tab.Messages()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ms {
		if err := m.Validate(); err != nil {
			t.Fatal(err)
		}
	}
	return ms
}

// rows lists messages for people, in order.
func rows(ms []*schemas.Steps) (out []string) {
	for _, m := range ms {
		for i := range m.VM {
			cpu := schemas.NaN()
			if c := m.Cols[schemas.ColCPU]; c != nil {
				cpu = c[i]
			}
			out = append(out, fmt.Sprintf("%d %s %s cpu %v alloc %v", m.Step, m.VM[i].String()[:4], m.Host[i], cpu, m.AllocCPU[i]))
		}
	}
	return out
}

func TestCSV(t *testing.T) {
	tab := table()
	if err := tab.CSV(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	ms := messages(t, tab)
	if got := rows(ms); len(got) != 4 {
		t.Fatalf("%v", got)
	}
	want := Counts{Rows: 4, VMs: 2, Steps: 3, Missing: 1, Gaps: 1}
	if tab.Counts != want {
		t.Errorf("counted %+v, want %+v", tab.Counts, want)
	}
	var cpu float32
	for _, m := range ms {
		for i, id := range m.VM {
			if id == ID("web") && m.Step == schemas.StepAt(schemas.At(time.Date(2026, 3, 14, 15, 5, 0, 0, time.UTC)), base) {
				cpu = m.Cols[schemas.ColCPU][i]
			}
		}
	}
	if cpu != 1000 {
		t.Errorf("a quarter of 4 cores is %v mCPU", cpu)
	}
}

// What is wrong is named with row and column, and nothing comes of it.
func TestFaultsAreNamed(t *testing.T) {
	var cut bytes.Buffer
	z := gzip.NewWriter(&cut)
	fmt.Fprint(z, strings.Repeat(good, 1)+strings.Repeat("db,2026-03-14T15:20:00Z,h1,2,10,2e9\n", 20000))
	z.Close()
	half := cut.String()[:cut.Len()/2]
	for name, c := range map[string]struct{ file, says string }{
		"empty":             {"", "empty"},
		"no rows":           {"vm,time,cpu_mcpu\n", "no rows"},
		"no vm":             {"host,time,cpu_mcpu\nx,1,1\n", "row 1: no column vm"},
		"no time":           {"vm,cpu_mcpu\nx,1\n", "row 1: no column time"},
		"no values":         {"vm,time,colour\nx,1,1\n", "row 1: no column with values"},
		"share of nothing":  {"vm,time,cpu_pct\nx,1700000000,1\n", "no column cores"},
		"twice":             {"vm,time,cpu_mcpu,cpu_mcpu\nx,1,1,1\n", "column cpu_mcpu is there twice"},
		"no number":         {"vm,time,cpu_mcpu\na,1700000000,5\na,1700000300,five\n", "row 3, column cpu_mcpu: \"five\" is no number"},
		"infinite":          {"vm,time,cpu_mcpu\na,1700000000,Inf\n", "row 2, column cpu_mcpu"},
		"negative":          {"vm,time,cpu_mcpu\na,1700000000,-5\n", "row 2, column cpu_mcpu: -5"},
		"no time in it":     {"vm,time,cpu_mcpu\na,yesterday,5\n", "row 2, column time: \"yesterday\""},
		"milliseconds":      {"vm,time,cpu_mcpu\na,1700000000000,5\n", "milliseconds"},
		"too few cells":     {"vm,time,cpu_mcpu\na,1700000000,5\na,17000003", "row 3"},
		"gzip cut short":    {half, "cut short"},
		"host no name":      {"vm,time,host,cpu_mcpu\na,1700000000,a b,5\n", "row 2"},
		"vm no name":        {"vm,time,cpu_mcpu\n,1700000000,5\n", "row 2"},
		"Parquet by chance": {"PAR1....", "row 1"},
	} {
		tab := table()
		err := tab.CSV(strings.NewReader(c.file))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	tab := table()
	if _, err := tab.Messages(); err == nil {
		t.Error("an import of nothing")
	}
	if err := tab.CSV(strings.NewReader("vm,t,cpu_mcpu\na,3,5\n")); err != nil {
		t.Fatal(err)
	}
	if err := tab.CSV(strings.NewReader(good)); err == nil {
		t.Error("step numbers and times in one import")
	}
}

// What can be repaired is, and is counted; and the order of rows and files does not
// matter.
func TestRepairsAreCounted(t *testing.T) {
	const messy = "vm,time,cpu_mcpu\n" +
		"a,1700000400,3\n" + // out of order
		"a,1700000100,1\n" +
		"a,1700000100,2\n" + // the same moment again: it stands
		"a,1700000160,4\n" + // the same step
		"b,1700000100,\n"
	tab := table()
	if err := tab.CSV(strings.NewReader(messy)); err != nil {
		t.Fatal(err)
	}
	ms := messages(t, tab)
	want := Counts{Rows: 5, VMs: 2, Steps: 2, Unsorted: 3, Duplicates: 1, Missing: 1, Averaged: 1}
	if tab.Counts != want {
		t.Errorf("counted %+v, want %+v", tab.Counts, want)
	}
	if got := strings.Join(rows(ms), "\n"); !strings.Contains(got, "cpu 3 ") {
		t.Errorf("mean of 2 and 4: %s", got)
	}
	two, one := table(), table()
	for _, s := range []string{"vm,time,cpu_mcpu\nb,1700000100,7\n", "vm,time,mem_bytes,cpu_mcpu\na,1700000100,9,8\n"} {
		if err := two.CSV(strings.NewReader(s)); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []string{"vm,time,mem_bytes,cpu_mcpu\na,1700000100,9,8\n", "vm,time,cpu_mcpu\nb,1700000100,7\n"} {
		if err := one.CSV(strings.NewReader(s)); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := rows(messages(t, two)), rows(messages(t, one)); !reflect.DeepEqual(a, b) || len(a) != 2 {
		t.Errorf("the order of files matters: %v, %v", a, b)
	}
}

func TestStepNumbersEndNow(t *testing.T) {
	tab := table()
	if err := tab.CSV(strings.NewReader("vm,t,cpu_mcpu\na,10,1\na,11,2\n")); err != nil {
		t.Fatal(err)
	}
	ms := messages(t, tab)
	if last := ms[len(ms)-1].Step; last != schemas.StepAt(tab.opt.End, base)-1 {
		t.Errorf("ends at step %d", last)
	}
}

// An export read back is what was exported; damage and other versions are refused.
func TestParquetRoundTrip(t *testing.T) {
	tab := table()
	if err := tab.CSV(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	ms := messages(t, tab)
	ms[0].Flags[0] |= schemas.FlagMigrating
	var b bytes.Buffer
	n, err := Export(&b, ms, base, nil)
	if err != nil || n != 4 {
		t.Fatal(n, err)
	}
	read := func(data []byte) (*Table, error) {
		tab := table()
		return tab, tab.Parquet(context.Background(), bytes.NewReader(data))
	}
	back, err := read(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	again := messages(t, back)
	if a, b := rows(ms), rows(again); !reflect.DeepEqual(a, b) || again[0].Flags[0]&schemas.FlagMigrating == 0 {
		t.Errorf("exported\n%v\nread\n%v", a, b)
	}
	for _, at := range []int{0, 3, 100, b.Len() / 2, b.Len() - 1} {
		if _, err := read(b.Bytes()[:at]); err == nil {
			t.Errorf("cut short at byte %d and yet read", at)
		}
	}
	for i := 4; i < b.Len(); i += 7 { // a flipped byte may go unnoticed, but ends nothing
		bad := bytes.Clone(b.Bytes())
		bad[i] ^= 0x55
		if tab, err := read(bad); err == nil {
			if _, err := tab.Messages(); err != nil {
				t.Logf("byte %d: %v", i, err)
			}
		}
	}
	other := bytes.Replace(b.Bytes(), []byte(keyVersion+"\x18\x011"), []byte(keyVersion+"\x18\x012"), 1)
	if _, err := read(other); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("another version: %v", err)
	}
	slow := New(Options{Base: time.Minute})
	if err := slow.Parquet(context.Background(), bytes.NewReader(b.Bytes())); err == nil || !strings.Contains(err.Error(), "base step") {
		t.Errorf("another base step: %v", err)
	}
}

func TestPrometheus(t *testing.T) {
	answer, asked := `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"vm":"web","host":"h1"},"values":[[1700000100,"1.5"],[1700000400,"2"]]},{"metric":{"vm":"db"},"values":[[1700000100,"NaN"]]}]}}`, 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/api/v1/query_range" || r.FormValue("step") != "300" {
			t.Errorf("asked %s %v", r.URL, r.Form)
		}
		fmt.Fprint(w, answer)
	}))
	defer srv.Close()
	q := Prometheus{URL: srv.URL, Queries: []string{"cpu_cores=rate(x[5m])"}, VM: "vm", Host: "host", From: time.Unix(1700000000, 0), To: time.Unix(1700000500, 0), Step: base}
	tab := table()
	if err := tab.Prometheus(context.Background(), q); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(rows(messages(t, tab)), "\n"); !strings.Contains(got, "h1 cpu 1500 ") || tab.Rows != 3 || tab.Missing != 1 {
		t.Errorf("%s %+v", got, tab.Counts)
	}
	for says, a := range map[string]string{
		"bad query":      `{"status":"error","error":"bad query"}`,
		"not a matrix":   `{"status":"success","data":{"resultType":"vector","result":[]}}`,
		"no values":      `{"status":"success","data":{"resultType":"matrix","result":[]}}`,
		"without label":  `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"pod":"web"},"values":[[1700000100,"1"]]}]}}`,
		"lack something": `{"status":"success","warnings":["partial"],"data":{"resultType":"matrix","result":[]}}`,
		"no number":      `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"vm":"a"},"values":[[1700000100,"x"]]}]}}`,
		"not what":       `<html>`,
	} {
		answer = a
		if err := table().Prometheus(context.Background(), q); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	q.Queries = []string{"colour=x"}
	if err := table().Prometheus(context.Background(), q); err == nil {
		t.Error("a query of no column")
	}
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("vm,t,cpu_mcpu\na,3,5\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		tab := table()
		if tab.CSV(bytes.NewReader(b)) != nil {
			return
		}
		ms, err := tab.Messages()
		if err != nil {
			return
		}
		for _, m := range ms {
			if err := m.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
