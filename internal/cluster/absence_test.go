package cluster

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// absent is a guard, or two that hold the same, and a cluster that breaks without.
type absent struct {
	names string // by commas
	Options
}

// readAbsent reads testdata/guards.txt.
func readAbsent(t *testing.T) []absent {
	t.Helper()
	f, err := os.Open("testdata/guards.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []absent
	for lines := bufio.NewScanner(f); lines.Scan(); {
		w := strings.Fields(lines.Text())
		if len(w) == 0 || w[0] == "#" {
			continue
		}
		if len(w) < 5 {
			t.Fatalf("guards.txt: %q: want guard, kind, seed, days, favourites", lines.Text())
		}
		o := Options{Kind: w[1], Seeds: 1, Faults: all(t), Without: w[0]}
		var bad [3]error
		o.First, bad[0] = strconv.ParseUint(w[2], 10, 64)
		o.Days, bad[1] = strconv.ParseFloat(w[3], 64)
		if w[4] != "-" {
			o.Favour, bad[2] = ParseFavourites(w[4])
		}
		for _, err := range bad {
			if err != nil {
				t.Fatalf("guards.txt: %q: %v", lines.Text(), err)
			}
		}
		out = append(out, absent{w[0], o})
	}
	return out
}

// TestAbsenceIsFound leaves out each guard: the cluster of its seed must then break an
// invariant, and none with every guard in its place.
func TestAbsenceIsFound(t *testing.T) {
	if os.Getenv("FORESHIFT_SIM_DAYS") == "" && os.Getenv("FORESHIFT_SIM_GUARDS") == "" {
		t.Skip("FORESHIFT_SIM_DAYS or FORESHIFT_SIM_GUARDS is not set: part of ./task test:sim")
	}
	seen := map[string]bool{}
	for _, a := range readAbsent(t) {
		for _, name := range strings.Split(a.names, ",") {
			seen[name] = true
		}
		t.Run(a.names, func(t *testing.T) {
			r := simulate(t, a.Options)
			if len(r.Regardless) > 0 {
				t.Fatalf("seed %d breaks with every guard in its place", r.Regardless)
			}
			if len(r.Violations) == 0 {
				t.Fatalf("without %s seed %d broke nothing; after a change of the simulation: FORESHIFT_SIM_FIND=%s go test -run TestFindSeeds -v ./internal/cluster", a.names, a.First, a.names)
			}
			if v := r.Violations[0]; v.Story == "" {
				t.Error("there is no story")
			} else {
				t.Log(v.Error())
			}
		})
	}
	for _, g := range Guards() {
		if !seen[g.Name] {
			t.Errorf("guard %s has no seed that finds its absence", g.Name)
		}
	}
}

// TestFindSeeds looks for the seeds of guards.txt, and prints its lines: of the guards
// in FORESHIFT_SIM_FIND, or all.
func TestFindSeeds(t *testing.T) {
	want := os.Getenv("FORESHIFT_SIM_FIND")
	if want == "" {
		t.Skip("FORESHIFT_SIM_FIND is not set: guards by blanks, or all")
	}
	names := strings.Fields(want)
	if want == "all" {
		names = nil
		for _, g := range Guards() {
			names = append(names, g.Name)
		}
	}
	for _, name := range names {
		fmt.Println(findSeed(t, name, number(t, "FORESHIFT_SIM_SEEDS", 400), time.Duration(number(t, "FORESHIFT_SIM_SECONDS", 30))*time.Second))
	}
}

// findSeed tries seeds on short days for half of the time, then on longer ones, and makes
// the day shorter with each that is found; its line of guards.txt is for the shortest.
func findSeed(t *testing.T, name string, seeds int, limit time.Duration) string {
	o := Options{Seeds: 1, Days: .05, Faults: all(t), Without: name}
	found, tried, begun := "", 0, time.Now()
	for i := 0; i < seeds && time.Since(begun) < limit && o.Days >= .02; i++ {
		if found == "" && o.Days < .2 && time.Since(begun) > limit/2 {
			i, o.Days = 0, .2
		}
		o.First = uint64(i + 1)
		tried++
		r := simulate(t, o)
		if len(r.Violations) == 0 {
			continue
		}
		v := r.Violations[0]
		at, err := time.ParseDuration(v.At)
		if err != nil {
			t.Fatal(err)
		}
		days := min(at.Hours()/24+.002, o.Days) // in the calm after its days some break
		favour := "-"
		if len(r.Favour) > 0 {
			favour = strings.Join(r.Favour, ",")
		}
		found = fmt.Sprintf("%-28s %-6s %3d %.3f %s  %s", name, r.Kind, v.Seed, days, favour, v.Invariant)
		o.Days = math.Round(days*700) / 1000
	}
	if found == "" {
		return fmt.Sprintf("# %s: not found in %d seeds", name, tried)
	}
	return found
}
