package lab

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// goodEvidence is a demonstration as it should be: two days of 72 s cross 600 mCPU
// from second 45 to 60; on the third the rising guest is moved at second 20.
func goodEvidence() Evidence {
	t0 := time.Unix(1_700_000_000, 0)
	id := schemas.VMID{15: 7}
	e := Evidence{Limit: 600, HostIDs: []schemas.HostID{"lab-a", "lab-b", "lab-c"}, Start: t0, Day: 72 * time.Second, Watched: 2}
	for i := range 3 * 288 {
		at := t0.Add(time.Duration(i) * 250 * time.Millisecond)
		sec := math.Mod(float64(i)/4, 72)
		rising := 150.0
		if sec >= 45 && sec < 60 {
			rising = 500
		}
		s := Sample{Time: at, CPU: []float64{250 + rising, 0, 0}}
		if i >= 2*288+80 {
			s.CPU = []float64{250, rising, 0}
		}
		e.Samples = append(e.Samples, s)
	}
	day3 := t0.Add(144 * time.Second)
	e.Prediction = &schemas.PressureHost{Host: "lab-a", Score: .93, Time: schemas.At(day3.Add(time.Second)), Onset: schemas.At(day3.Add(44 * time.Second))}
	e.Action = &schemas.Action{VM: id, Source: "lab-a", Destination: "lab-b", Reason: schemas.Reason{Code: schemas.ReasonOK, Detail: "relieves lab-a"}, Predicted: schemas.Prediction{Onset: schemas.At(day3.Add(43 * time.Second))}}
	e.Outcomes = []*schemas.Outcome{{VM: id, Source: "lab-a", Destination: "lab-b", Result: schemas.ResultSucceeded, Started: schemas.At(day3.Add(17 * time.Second)), Time: schemas.At(day3.Add(20 * time.Second))}}
	beats := GuestReport{Beats: 4000, Pages: 100000, First: t0, Last: t0.Add(216 * time.Second),
		Gaps: []Gap{{day3.Add(18 * time.Second), day3.Add(18*time.Second + 480*time.Millisecond)}}}
	e.Guests = []GuestEvidence{
		{ID: schemas.VMID{15: 6}, Name: "steady", Beats: GuestReport{Beats: 4000, Pages: 100000, Last: beats.Last}, Seen: WatchReport{Looks: 1000, MaxRunning: 1}, EndAt: 0},
		{ID: id, Name: "rising", Beats: beats, Seen: WatchReport{Looks: 1000, MaxRunning: 1, None: 2}, EndAt: 1},
	}
	return e
}

func TestJudge(t *testing.T) {
	v := Judge(goodEvidence())
	if !v.OK {
		t.Fatalf("a good demonstration fails: %v", v.Failures)
	}
	if v.Downtime != 480*time.Millisecond || v.VM != "rising" || v.Source != "lab-a" || v.Dest != "lab-b" || v.Running != 1 {
		t.Errorf("verdict %+v", v)
	}
	if v.Lead < 24*time.Second || v.Lead > 26*time.Second {
		t.Errorf("lead %v, want about 25 s: moved by second 20, crossing from second 45", v.Lead)
	}
	for i, want := range []bool{true, true, false} {
		if got := len(v.Days[i].Crossed) > 0; got != want {
			t.Errorf("day %d crossed: %v", i+1, got)
		}
		if len(v.Days[i].Would) != 1 {
			t.Errorf("day %d: the whole demand crosses %d times, want 1", i+1, len(v.Days[i].Would))
		}
	}
}

// Whatever is wrong with a demonstration is found and named.
func TestJudgeFindsFaults(t *testing.T) {
	stay := func(e *Evidence) { // as if the guest had not moved
		for i := range e.Samples {
			e.Samples[i].CPU = []float64{e.Samples[i].Total(), 0, 0}
		}
	}
	flat := func(e *Evidence, from, to int) {
		for i := from; i < to; i++ {
			e.Samples[i].CPU = []float64{300, 0, 0}
		}
	}
	for name, c := range map[string]struct {
		spoil func(*Evidence)
		want  string
	}{
		"no crossing without the move": {func(e *Evidence) { flat(e, 288, 576) }, "nothing was to be prevented"},
		"crossed all the same":         {stay, "crossed all the same"},
		"a quiet last day":             {func(e *Evidence) { flat(e, 576, 864) }, "would not have crossed"},
		"few measurements":             {func(e *Evidence) { e.Samples = e.Samples[:600] }, "measurements"},
		"no measurements":              {func(e *Evidence) { e.Samples = nil }, "measurements"},
		"no prediction":                {func(e *Evidence) { e.Prediction = nil }, "predicted"},
		"a reaction":                   {func(e *Evidence) { e.Action.Predicted.Onset = e.Outcomes[0].Started - 1 }, "a reaction"},
		"no move":                      {func(e *Evidence) { e.Outcomes = nil }, "no move succeeded"},
		"a failed move": {func(e *Evidence) {
			e.Outcomes = append(e.Outcomes, &schemas.Outcome{Result: schemas.ResultFailed, Reason: schemas.Reason{Detail: "link cut"}})
		}, "link cut"},
		"a move from elsewhere":  {func(e *Evidence) { e.Outcomes[0].Source = "lab-c" }, "watched host"},
		"move after the peak":    {func(e *Evidence) { e.Outcomes[0].Time = schemas.At(e.Start.Add(200 * time.Second)) }, "after the crossing"},
		"an unknown VM moved":    {func(e *Evidence) { e.Outcomes[0].VM = schemas.VMID{1} }, "none of the guests"},
		"long silence":           {func(e *Evidence) { e.Guests[1].Beats.Gaps[0].To = e.Guests[1].Beats.Gaps[0].From.Add(3 * time.Second) }, "silent for 3s"},
		"silent ever since":      {func(e *Evidence) { e.Guests[1].Beats.Last = e.Outcomes[0].Started.Std() }, "silent"},
		"damaged page":           {func(e *Evidence) { e.Guests[0].Beats.Bad = 1 }, "damaged"},
		"rebooted":               {func(e *Evidence) { e.Guests[1].Beats.Resets = 1 }, "booted again"},
		"never heard":            {func(e *Evidence) { e.Guests[0].Beats = GuestReport{} }, "never heard"},
		"two copies":             {func(e *Evidence) { e.Guests[1].Seen.MaxRunning = 2 }, "exactly one"},
		"never looked":           {func(e *Evidence) { e.Guests[1].Seen = WatchReport{} }, "exactly one"},
		"not at the destination": {func(e *Evidence) { e.Guests[1].EndAt = 2 }, "does not run on lab-b"},
		"lost":                   {func(e *Evidence) { e.Guests[0].EndAt = -1 }, "exactly one host"},
	} {
		e := goodEvidence()
		c.spoil(&e)
		v := Judge(e)
		if all := strings.Join(v.Failures, "\n"); v.OK || !strings.Contains(all, c.want) {
			t.Errorf("%s: ok %v, failures %q lack %q", name, v.OK, all, c.want)
		}
	}
}

func TestCrossingsIgnoreBlips(t *testing.T) {
	t0 := time.Unix(1000, 0)
	series := func(high ...[2]float64) []Sample {
		var out []Sample
		for i := range 200 {
			sec := float64(i) / 4
			x := 400.0
			for _, h := range high {
				if sec >= h[0] && sec < h[1] {
					x = 700
				}
			}
			out = append(out, Sample{Time: t0.Add(time.Duration(sec * float64(time.Second))), CPU: []float64{x}})
		}
		return out
	}
	for _, c := range []struct {
		name string
		in   []Sample
		want int
	}{
		{"none", series(), 0}, {"a blip", series([2]float64{10, 11}), 0}, {"one", series([2]float64{10, 15}), 1},
		{"two", series([2]float64{10, 15}, [2]float64{30, 40}), 2}, {"to the end", series([2]float64{40, 60}), 1}, {"empty", nil, 0},
	} {
		got := Crossings(c.in, Sample.Total, 600)
		if len(got) != c.want {
			t.Errorf("%s: %d crossings, want %d", c.name, len(got), c.want)
		}
	}
	c := Crossings(series([2]float64{10, 15}), Sample.Total, 600)[0]
	if from := c.From.Sub(t0).Seconds(); from < 9 || from > 10 || math.Abs(c.Peak-700) > 1e-6 {
		t.Errorf("crossing from %v s, peak %v", from, c.Peak)
	}
}

func TestDemandFromCounters(t *testing.T) {
	before := parseCounters(strings.Split("Domain: 'a'\n  vcpu.current=1\n  vcpu.0.time=1000000000\n  vcpu.0.delay=500\n\nDomain: 'b'\n  vcpu.0.time=5000000000\n  vcpu.0.delay=0\n  vcpu.0.time=x", "\n"))
	after := parseCounters(strings.Split("Domain: 'a'\n  vcpu.0.time=1100000000\n  vcpu.0.delay=25000500\nDomain: 'b'\n  vcpu.0.time=100\nDomain: 'c'\n  vcpu.0.time=9000000000\nnonsense", "\n"))
	// a ran 100 ms and waited 25 ms of 250 ms; b was started again; c has just come.
	if got := demand(before, after, 250*time.Millisecond); math.Abs(got-500) > 1e-9 {
		t.Errorf("demand %v mCPU, want 500", got)
	}
	if got := demand(before, after, 0); got != 0 {
		t.Errorf("no time passed, yet a demand of %v", got)
	}
}

func TestStoryTellsTheVerdict(t *testing.T) {
	var out bytes.Buffer
	e := goodEvidence()
	newStory(&out).verdict(e, Judge(e))
	for _, want := range []string{"VERDICT: moved before the crossing", "lead time        24.", "480 ms", "0 damaged of 200000", "chance 0.93", "without the move: crossed at +188."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the story lacks %q:\n%s", want, out.String())
		}
	}
	out.Reset()
	newStory(&out).verdict(Evidence{HostIDs: []schemas.HostID{"lab-a"}}, Judge(Evidence{HostIDs: []schemas.HostID{"lab-a"}}))
	if !strings.Contains(out.String(), "NOT shown") || !strings.Contains(out.String(), "no move succeeded") {
		t.Errorf("an empty demonstration:\n%s", out.String())
	}
}
