package pressure

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/foreshift/foreshift/benchmarks/trace"
	"github.com/foreshift/foreshift/forecaster/pressure"
	"github.com/foreshift/foreshift/forecaster/window"
	"github.com/foreshift/foreshift/schemas"
)

// TestFitStarts prints the coefficients that the head starts with, from traces that
// are not part of the repository, named as file:metric:limit. The last 9 days, on which
// scores are taken, are left out.
//
//	FORESHIFT_SETS=a.csv.gz:cpu_pct:80,b.csv.gz:cpu_pct:50 go test ./benchmarks/pressure -run FitStarts -v -timeout 1h
func TestFitStarts(t *testing.T) {
	sets := os.Getenv("FORESHIFT_SETS")
	if sets == "" {
		t.Skip("FORESHIFT_SETS is not set")
	}
	head, early := pressure.NewHeadOf(1<<20, 50), pressure.NewHeadOf(1, 50)
	for _, set := range strings.Split(sets, ",") {
		f := strings.Split(set, ":")
		limit, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		series, err := trace.Read(f[0], f[1])
		if err != nil {
			t.Fatal(err)
		}
		first, end := series[0].Start, 0
		for i := range series {
			first, end = min(first, series[i].Start), max(end, series[i].End())
		}
		var in pressure.Input
		in.Limit = float32(limit)
		for i := range series {
			var v vm
			v.fill(&series[i], first, end, in.Limit)
			for _, o := range [...]int{6 * day, 12 * day} { // the hours of the first days are known
				in.Y, in.Long, in.Step = v.y[max(0, o-window.Rows):o], &v.long, schemas.Step(first+o-1)
				early.Learn(&in, 0)
			}
			for o := 13 * day; o < end-first-testDays*day; o += 3 * hour {
				in.Y, in.Step = v.y[o-window.Rows:o], schemas.Step(first+o-1)
				head.Learn(&in, 0)
			}
		}
	}
	head.Fit(schemas.Step(100 * day))
	w, n := head.Coefficients(schemas.CPU)
	for i := range w {
		for s := range w[i] {
			row := ""
			for _, x := range w[i][s] {
				row += strconv.FormatFloat(x, 'f', 3, 64) + ", "
			}
			t.Logf("%d %d (%d): {%s},", i, s, n[i][s], row)
		}
	}
}
