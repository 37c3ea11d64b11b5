package chart

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// wave is a line with a gap.
func wave(name string, n int, phase float64) Series {
	s := Series{Name: name}
	for t := range n {
		y := 50 + 40*math.Sin(phase+2*math.Pi*float64(t)/24)
		if t == n/2 {
			y = math.NaN()
		}
		s.X, s.Y = append(s.X, float64(t)), append(s.Y, y)
	}
	return s
}

func examples() map[string][]byte {
	fan := Band{Name: "forecast"}
	for t := range 24 {
		x := 48 + float64(t)
		m := 50 + 40*math.Sin(2*math.Pi*x/24)
		fan.X, fan.Mid = append(fan.X, x), append(fan.Mid, m)
	}
	for _, w := range [...]float64{3, 1.5} {
		low, top := make([]float64, 24), make([]float64, 24)
		for t := range 24 {
			d := w * math.Sqrt(float64(t+1))
			low[t], top[t] = fan.Mid[t]-d, fan.Mid[t]+d
		}
		fan.Low, fan.Top = append(fan.Low, low), append(fan.Top, top)
	}
	reliable := Panel{Title: "cpu > 80 % within 6h", Curves: []Curve{
		{"all", "skill 0.75", []Bin{{.002, .001, 5000}, {.06, .05, 400}, {.4, .45, 60}, {.97, .95, 300}}},
		{"onsets", "skill 0.31", []Bin{{.002, .003, 4000}, {.09, .12, 200}, {.5, .41, 30}}}}}
	return map[string][]byte{
		"line": Line(Figure{Title: "Demand of two VMs", Desc: "Two daily waves, half a day apart.", X: Axis{Label: "hour"}, Y: Axis{Label: "CPU, %"}},
			[]Series{wave("web & shop", 72, 0), wave("<db>", 72, math.Pi)}, Mark{At: 80, Name: "limit"}, Mark{At: 48, Name: "now", Upright: true}),
		"fan": Fan(Figure{Title: "The next day", Desc: "The forecast follows the wave and widens.", X: Axis{Label: "hour"}, Y: Axis{Label: "CPU, %", Min: 0, Max: 100}},
			fan, []Series{wave("demand", 60, 0)}, Mark{At: 80, Name: "limit"}),
		"reliability": Reliability(Figure{Title: "Said and came", Desc: "Points lie near the diagonal."}, []Panel{reliable, reliable}),
		"scatter": Scatter(Figure{Title: "Cost and benefit", Desc: "Two policies are on the front.", X: Axis{Label: "moves"}, Y: Axis{Label: "unmet core-hours", Scale: Log}},
			[]Series{{Name: "ours", X: []float64{10, 20, 40}, Y: []float64{30, 9, 4}, Label: []string{"calm", "usual", "eager"}},
				{Name: "peers", X: []float64{18, 60, 0}, Y: []float64{60, 8, 800}, Label: []string{"react", "spread", "none"}}}, true),
		"bars": Bars(Figure{Title: "Without each expert", Desc: "The change in error.", Y: Axis{Label: "relative CRPS"}}, []string{"all", "no ETS", "no LSTM"},
			[]Series{{Name: "day", Y: []float64{.55, .56, .551}}, {Name: "hour", Y: []float64{.20, .22, -.01}}}, Mark{At: .6, Name: "bar"}),
		"empty": Line(Figure{Title: "Nothing", Desc: "There is nothing."}, nil),
	}
}

// TestGolden holds the pictures; look at them in testdata.
func TestGolden(t *testing.T) {
	for name, got := range examples() {
		path := filepath.Join("testdata", name+".svg")
		if *rewrite {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not as it was; -rewrite if the new picture is right", path)
		}
		wellFormed(t, got)
	}
}

// wellFormed parses the XML and gives its elements and text.
func wellFormed(t interface{ Fatalf(string, ...any) }, svg []byte) (elements []xml.StartElement, text string) {
	d := xml.NewDecoder(bytes.NewReader(svg))
	var all strings.Builder
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements, all.String()
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		switch x := tok.(type) {
		case xml.StartElement:
			elements = append(elements, x.Copy())
		case xml.CharData:
			all.Write(x)
		}
	}
}

func TestIsAccessibleAndSelfContained(t *testing.T) {
	for name, svg := range examples() {
		elements, text := wellFormed(t, svg)
		if elements[0].Name.Local != "svg" || elements[1].Name.Local != "title" || elements[2].Name.Local != "desc" {
			t.Errorf("%s: does not begin with a title and a description", name)
		}
		for _, want := range []string{"prefers-color-scheme:dark", "--chart-ink"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %s", name, want)
			}
		}
		for _, e := range elements {
			for _, a := range e.Attr {
				if a.Name.Local == "href" || strings.Contains(a.Value, "url(") {
					t.Errorf("%s: %s %s=%s", name, e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

// A line of many points stays small and keeps a single spike.
func TestManyPoints(t *testing.T) {
	var s Series
	for k := range 200_000 {
		s.X, s.Y = append(s.X, float64(k)), append(s.Y, math.Sin(float64(k)))
	}
	s.Y[77_777] = 50
	svg := Line(Figure{Y: Axis{Min: 0, Max: 50}}, []Series{s})
	if len(svg) > 60_000 {
		t.Errorf("%d bytes", len(svg))
	}
	if !strings.Contains(string(svg), " 50V") { // the top of the panel
		t.Error("the spike is lost")
	}
}

// Whatever the numbers and names, the picture is XML without a place that is none.
func TestAnything(t *testing.T) {
	value := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, -1, 1e308, 5e-324}))
	rapid.Check(t, func(t *rapid.T) {
		draw := func(what string) []float64 { return rapid.SliceOfN(value, 0, 12).Draw(t, what) }
		s := []Series{{Name: rapid.String().Draw(t, "name"), X: draw("x"), Y: draw("y"), Label: []string{"a"}}}
		if n := min(len(s[0].X), len(s[0].Y)); true {
			s[0].X, s[0].Y = s[0].X[:n], s[0].Y[:n]
		}
		f := Figure{Title: rapid.String().Draw(t, "title"), X: Axis{Scale: Scale(rapid.IntRange(0, 2).Draw(t, "x scale"))}, Y: Axis{Scale: Scale(rapid.IntRange(0, 2).Draw(t, "y scale"))}}
		m := Mark{At: value.Draw(t, "mark"), Upright: rapid.Bool().Draw(t, "upright")}
		for _, svg := range [][]byte{Line(f, s, m), Scatter(f, s, true, m), Bars(f, []string{"a", "b"}, s, m),
			Fan(f, Band{X: s[0].X, Mid: s[0].Y, Low: [][]float64{draw("low")}, Top: [][]float64{draw("top")}}, s, m),
			Reliability(f, []Panel{{Curves: []Curve{{Name: "a", Bins: []Bin{{value.Draw(t, "said"), value.Draw(t, "came"), 3}}}}}})} {
			elements, _ := wellFormed(t, svg)
			for _, e := range elements {
				for _, a := range e.Attr {
					if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
						t.Fatalf("%s=%s", a.Name.Local, a.Value)
					}
				}
			}
		}
	})
}

// A legend that finds no room in its row goes on under the axes: no series is without a
// name.
func TestLegendNamesEverySeries(t *testing.T) {
	var all []Series
	for i := range 11 {
		all = append(all, Series{Name: fmt.Sprintf("series number %d", i), X: []float64{0, 1}, Y: []float64{0, float64(i)}})
	}
	svg := string(Line(Figure{Title: "t", Desc: "d", X: Axis{Label: "x"}, Y: Axis{Label: "y"}}, all))
	for _, s := range all {
		if !strings.Contains(svg, ">"+s.Name+"<") {
			t.Errorf("%s is not named", s.Name)
		}
	}
}
