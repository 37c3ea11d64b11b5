package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// odd writes files as people have them and gives their folder.
func odd(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	value := func(k int) float64 { return 50 + 30*math.Sin(2*math.Pi*float64(k)/288) + float64(k*7919%13)/4 }
	write := func(name, head, end string, n int, row func(k int) string) {
		var b bytes.Buffer
		b.WriteString(head + end)
		for k := range n {
			b.WriteString(row(k) + end)
		}
		if strings.HasSuffix(name, ".gz") {
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			if _, err := w.Write(b.Bytes()); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			b = z
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	write("good.csv", "vm,t,cpu", "\n", 2400, func(k int) string { return fmt.Sprintf("a,%d,%g", k, value(k)) })
	write("short.csv", "vm,t,cpu", "\n", 100, func(k int) string { return fmt.Sprintf("a,%d,%g", k, value(k)) })
	write("crlf.csv.gz", "series,t,cpu", "\r\n", 700, func(k int) string { return fmt.Sprintf("\"a,b\",%d,%g", k, value(k)) })
	write("stamps.csv", "series,timestamp,cpu", "\n", 700, func(k int) string {
		return fmt.Sprintf("a,%s,%g", begin.Add(time.Duration(k)*5*time.Minute).Format(time.RFC3339), value(k))
	})
	write("gaps.csv", "vm,t,cpu", "\n", 2400, func(k int) string {
		if k*7919%5 < 3 {
			return fmt.Sprintf("a,%d,", k)
		}
		return fmt.Sprintf("a,%d,%g", k, value(k))
	})
	write("constant.csv", "vm,t,cpu", "\n", 2400, func(k int) string { return fmt.Sprintf("a,%d,5", k) })
	write("bad.csv", "vm,t,cpu", "\n", 3, func(k int) string { return fmt.Sprintf("a,%.1f,5", float64(k)+.5) })
	return dir
}

func TestBenchForecastTakesOddFiles(t *testing.T) {
	dir := odd(t)
	for _, c := range []struct {
		args          string
		forecasts     int
		first, second string
	}{
		{"good.csv --horizon 24h", 1, "a,2016,1,", "a,2016,2,"},
		{"good.csv --horizon 6 --windows 3", 3, "a,2382,1,", "a,2382,2,"},
		{"crlf.csv.gz --horizon 1h --windows 1", 1, `"a,b",688,1,`, `"a,b",688,2,`},
		{"stamps.csv --horizon 2h --windows 2", 2, "a,5680876,1,", "a,5680876,2,"},
		{"gaps.csv", 1, "a,2016,1,", "a,2016,2,"},
		{"constant.csv --horizon 40h --windows 1", 1, "a,1920,1,5,5", "a,1920,2,5,5"},
	} {
		t.Run(c.args, func(t *testing.T) {
			f := strings.Fields(c.args)
			out := filepath.Join(t.TempDir(), "out.csv")
			r := root()
			var text bytes.Buffer
			r.SetOut(&text)
			r.SetErr(new(bytes.Buffer))
			r.SetArgs(append([]string{"bench", "forecast", "--metric", "cpu", "--model", "empirical", "--json", "--out", out, "--traces", filepath.Join(dir, f[0])}, f[1:]...))
			if err := r.ExecuteContext(t.Context()); err != nil {
				t.Fatal(err)
			}
			var got struct {
				Models map[string]struct {
					Forecasts int     `json:"forecasts"`
					Coverage  float64 `json:"coverage_80"`
				} `json:"models"`
			}
			if err := json.Unmarshal(text.Bytes(), &got); err != nil {
				t.Fatalf("%v: %s", err, text.Bytes())
			}
			if s := got.Models["empirical"]; s.Forecasts != c.forecasts || s.Coverage < .5 {
				t.Errorf("%+v", s)
			}
			b, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(string(b), "\n")
			if lines[0] != "series,origin,step,q0.1,q0.2,q0.3,q0.4,q0.5,q0.6,q0.7,q0.8,q0.9" || !strings.HasPrefix(lines[1], c.first) || !strings.HasPrefix(lines[2], c.second) {
				t.Errorf("%q", lines[:3])
			}
		})
	}
}

func TestBenchForecastSaysWhatIsWrong(t *testing.T) {
	dir := odd(t)
	for _, c := range []struct {
		args, say string
		usage     bool
	}{
		{"", "--traces is missing", true},
		{"--traces short.csv --metric cpu", "the longest has 100 steps", false},
		{"--traces good.csv --metric mem", `good.csv: no column "mem"; the file has vm, t, cpu`, false},
		{"--traces good.csv", "no metric is named; the file has vm, t, cpu", false},
		{"--traces bad.csv --metric cpu", `bad.csv: line 2: column t: "0.5" is not a whole number`, false},
		{"--traces none.csv --metric cpu", "none.csv: no such file", false},
		{"--traces good.csv --metric cpu --horizon 7m", "whole steps", true},
		{"--traces good.csv --metric cpu --horizon 900h", "not within 1..4032", false},
		{"--traces good.csv --metric cpu --model oracle", "there are auto", true},
		{"--traces good.csv --metric cpu --windows -1", "--windows -1", true},
		{"--traces good.csv --metric cpu --peers sas", `no peer "sas"`, true},
	} {
		r := root()
		r.SetOut(new(bytes.Buffer))
		r.SetErr(new(bytes.Buffer))
		args := strings.Fields(c.args)
		for k := range args {
			if strings.HasSuffix(args[k], ".csv") {
				args[k] = filepath.Join(dir, args[k])
			}
		}
		r.SetArgs(append([]string{"bench", "forecast"}, args...))
		err := r.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.say) || errors.As(err, new(usageError)) != c.usage {
			t.Errorf("%s: %v, want it to say %q (usage %v)", c.args, err, c.say, c.usage)
		}
	}
}
