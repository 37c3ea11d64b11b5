package twosites

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
)

// deadlines of the three moves, from their common order.
var deadlines = [3]time.Duration{60 * time.Second, 90 * time.Second, 120 * time.Second}

// three is how three moves at once went.
type three struct {
	Sharing   string    `json:"sharing"`
	Ended     []float64 `json:"ended_s"` // each, from the common order; one that failed counts with the time of its end
	Total     float64   `json:"total_s"`
	Missed    int       `json:"missed"` // failed, or later than its deadline
	Volume    float64   `json:"volume_mb"`
	OtherMBps float64   `json:"other_mbps"` // of other traffic, while they went
	Wanted    float64   `json:"other_wanted_mbps"`
}

// TestLabThreeMoves: three moves over one link at once, shared out by the gateways, with
// fixed equal shares and without control. Shared out, all end in time, none takes what
// other traffic is guaranteed, and together they end sooner.
func TestLabThreeMoves(t *testing.T) {
	got := map[Sharing]three{}
	for _, how := range []Sharing{Shared, Equal, Free} {
		t.Run(how.String(), func(t *testing.T) {
			ctx, r := start(t, func(c *Config) { c.Share = how })
			x := r.three(ctx, t)
			got[how] = x
			b, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("three moves: %s", b)
			if how != Shared {
				return
			}
			if x.Missed > 0 {
				t.Errorf("%d deadlines missed; %s", x.Missed, r.story())
			}
			if x.OtherMBps < .9*x.Wanted {
				t.Errorf("other traffic had %.2f MB/s of the %.2f that it wanted and is guaranteed", x.OtherMBps, x.Wanted)
			}
			r.clean(ctx, t)
		})
	}
	for _, how := range []Sharing{Equal, Free} {
		ours, other := got[Shared], got[how]
		if len(ours.Ended) < 3 || len(other.Ended) < 3 {
			continue // one was not asked for, or failed and said so
		}
		if ours.Total >= other.Total || ours.Missed > other.Missed {
			t.Errorf("shared out: %.1f s in all, %d missed; %s: %.1f s, %d missed", ours.Total, ours.Missed, how, other.Total, other.Missed)
		}
	}
}

// three orders three moves at once and watches them to their ends, beside other traffic.
func (r *Rig) three(ctx context.Context, t *testing.T) three {
	t.Helper()
	if err := lab.InstallIperf3(ctx, r.cfg.Say); err != nil {
		t.Fatal(err)
	}
	r.up(t)
	var guests []*lab.Guest
	for i := range deadlines {
		g, err := r.Guest(ctx, i%2, lab.GuestSpec{Name: fmt.Sprintf("vm%d", i+1)})
		if err != nil {
			t.Fatal(err)
		}
		guests = append(guests, g)
	}
	time.Sleep(2500 * time.Millisecond) // the hosts' next word names them
	begun := time.Now()
	var ids []schemas.CommandID
	for i, g := range guests {
		id, err := r.Order(ctx, g, i%2, 2, deadlines[i])
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	x := three{Sharing: r.cfg.Share.String(), Wanted: .9 * reserved * float64(r.cfg.Rate) / 1e6}
	measured := make(chan error, 1)
	go func() {
		time.Sleep(5 * time.Second) // the first sends by then
		var err error
		x.OtherMBps, err = r.iperf(ctx, 0, 2, x.Wanted*1e6, 25*time.Second)
		measured <- err
	}()
	for i, id := range ids {
		o, err := r.Outcome(id, deadlines[i]+time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		took := o.Time.Std().Sub(begun)
		x.Ended, x.Total, x.Volume = append(x.Ended, took.Seconds()), x.Total+took.Seconds(), x.Volume+float64(o.Volume)/1e6
		if o.Result != schemas.ResultSucceeded || took > deadlines[i] {
			x.Missed++
		}
		t.Logf("%s: %s %s after %.1f s, of it %.1f s sending", guests[i].Name, o.Result, o.Reason, took.Seconds(), float64(o.Duration))
		at := r.Lab.Hosts[2].ID
		if o.Result != schemas.ResultSucceeded {
			at = r.Lab.Hosts[i%2].ID
		}
		if o.RunsAt != at {
			t.Errorf("%s runs at %q, not at %s", guests[i].Name, o.RunsAt, at)
		}
	}
	if err := <-measured; err != nil {
		t.Error(err)
	}
	for _, g := range guests {
		if rep := r.Lab.Beats.Report(g.Name); rep.Bad > 0 {
			t.Errorf("%s found %d bad pages", g.Name, rep.Bad)
		}
	}
	return x
}

// iperf is what iperf3 gets through from a host to another, in MB/s, when it sends so much
// (bytes/s), measured where it arrives: datagrams, which no losses slow down.
func (r *Rig) iperf(ctx context.Context, from, to int, want float64, over time.Duration) (float64, error) {
	h := r.Lab.Hosts
	served := make(chan error, 1)
	serve, stop := context.WithTimeout(ctx, over+30*time.Second)
	defer stop()
	go func() {
		_, err := h[to].Run(serve, lab.Iperf3, "-s", "-1", "-B", h[to].Address, "-p", "5201")
		served <- err
	}()
	var out string
	var err error
	for range 20 { // until the server listens
		time.Sleep(250 * time.Millisecond)
		out, err = h[from].Run(serve, lab.Iperf3, "-c", h[to].Address, "-p", "5201", "-J", "-t", fmt.Sprint(int(over.Seconds())), "-b", fmt.Sprint(int(want*8)), "-u", "-l", "1200")
		if err == nil {
			break
		}
	}
	if err != nil {
		return 0, fmt.Errorf("iperf3: %w: %s", err, out)
	}
	if err := <-served; err != nil {
		return 0, fmt.Errorf("iperf3 -s: %w", err)
	}
	var m struct {
		End struct {
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		return 0, fmt.Errorf("iperf3: %w: %s", err, out)
	}
	return m.End.Received.Bits / 8e6, nil
}
