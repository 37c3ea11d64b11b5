package cluster

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
)

func all(t testing.TB) []int {
	t.Helper()
	f, err := ParseFaults("all")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func simulate(t testing.TB, o Options) *Result {
	t.Helper()
	r, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func clean(t testing.TB, r *Result) {
	t.Helper()
	for _, v := range r.Violations {
		t.Errorf("seed %d: %v\n%s", v.Seed, v.Error(), v.Story)
	}
}

// number reads a number from the environment.
func number(t testing.TB, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number above 0", name, s)
	}
	return n
}

// TestSameSeedSameHistory: a seed decides of everything. FORESHIFT_SIM_SEEDS says how
// many are simulated twice.
func TestSameSeedSameHistory(t *testing.T) {
	seeds := number(t, "FORESHIFT_SIM_SEEDS", 24)
	for _, kind := range []string{"storm", "placer"} {
		o := Options{First: 1, Seeds: (seeds + 1) / 2, Days: .05, Faults: all(t), Kind: kind}
		a, b := simulate(t, o), simulate(t, o)
		if a.Hash != b.Hash || a.Counts != b.Counts {
			t.Errorf("%s: %s and %s, %+v and %+v", kind, a.Hash, b.Hash, a.Counts, b.Counts)
		}
		o.First = 2
		if c := simulate(t, o); c.Hash == a.Hash {
			t.Errorf("%s: other seeds have the same history", kind)
		}
	}
}

// TestQuietClusterMoves: without faults every command is carried out.
func TestQuietClusterMoves(t *testing.T) {
	r := simulate(t, Options{First: 3, Seeds: 2, Days: .1, Kind: "storm"})
	clean(t, r)
	if c := r.Counts; c.Started < 100 || c.Succeeded < c.Started*9/10 || c.Unknown > 0 {
		t.Errorf("%+v", c)
	}
}

// TestDays: clusters under all faults keep the invariants, and what is meant to happen
// does. FORESHIFT_SIM_DAYS makes it the 50 of the pipeline, or any number.
func TestDays(t *testing.T) {
	n := number(t, "FORESHIFT_SIM_DAYS", 4)
	r := simulate(t, Options{First: 1000, Seeds: n, Days: 1, Faults: all(t)})
	clean(t, r)
	c := r.Counts
	t.Logf("%d days, %s: %+v", r.Seeds, r.Hash, c)
	if c.Succeeded == 0 || c.Failed == 0 || c.Unknown == 0 || c.Refused == 0 || c.Redelivered == 0 {
		t.Errorf("not everything that should happens: %+v", c)
	}
}

// TestRegressions simulates the clusters in which something was found.
func TestRegressions(t *testing.T) {
	f, err := os.Open("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	n := 0
	for lines.Scan() {
		w := strings.Fields(lines.Text())
		if len(w) < 4 || w[0] == "#" {
			continue
		}
		seed, err := strconv.ParseUint(w[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		days, err := strconv.ParseFloat(w[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		n++
		clean(t, simulate(t, Options{First: seed, Seeds: 1, Days: days, Faults: all(t), Kind: w[0]}))
	}
	if err := lines.Err(); err != nil || n == 0 {
		t.Fatalf("%d seeds read: %v", n, err)
	}
}

func TestUnknownNames(t *testing.T) {
	if _, err := ParseFaults("F1,F99"); err == nil {
		t.Error("F99 is taken for a fault")
	}
	if _, err := Run(Options{Seeds: 1, Days: 1, Without: "no-such-guard"}); err == nil {
		t.Error("a guard that does not exist can be left out")
	}
	if n := len(Guards()); n < 30 {
		t.Errorf("%d guards", n)
	}
}
