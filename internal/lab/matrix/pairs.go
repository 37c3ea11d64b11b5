package matrix

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/foreshift/foreshift/internal/lab"
	"github.com/foreshift/foreshift/schemas"
)

// Handover is one way to move a guest, measured once.
type Handover struct {
	Wall schemas.Millis `json:"wall_ms"` // from the request to the word that it is done
	Gap  schemas.Millis `json:"gap_ms"`  // longest silence of the guest's heartbeat in that time
	Own  schemas.Millis `json:"own_ms"`  // of the wall time, with no call of libvirt under way; ours only
}

// Pair is libvirt's own migration and Foreshift's of the same guest, one after the
// other; which comes first alternates.
type Pair struct {
	Virsh     Handover `json:"virsh"`
	Foreshift Handover `json:"foreshift"`
}

// PairsReport compares the two.
type PairsReport struct {
	Pairs     []Pair        `json:"pairs"`
	Virsh     Handover      `json:"virsh_median"`
	Foreshift Handover      `json:"foreshift_median"`
	WallRatio schemas.Ratio `json:"wall_ratio"` // of the medians
	GapRatio  schemas.Ratio `json:"gap_ratio"`
	Costs     CostsReport   `json:"costs"`    // what was foretold of ours, once half of them had taught
	Failures  []string      `json:"failures"` // of the bars
}

// The bars: what coming to an agreement between two hosts may cost over libvirt's
// own migration, which comes to none.
const (
	maxWallRatio = 1.10
	maxGapRatio  = 1.10
	maxGapMore   = schemas.Millis(50)
	maxOwn       = schemas.Millis(300)
)

// judgePairs takes the medians and holds them to the bars. It is pure.
func judgePairs(pairs []Pair) PairsReport {
	r := PairsReport{Pairs: pairs}
	median := func(of func(Pair) schemas.Millis) schemas.Millis {
		v := make([]float64, len(pairs))
		for i, p := range pairs {
			v[i] = float64(of(p))
		}
		return schemas.Millis(median(v))
	}
	r.Virsh = Handover{Wall: median(func(p Pair) schemas.Millis { return p.Virsh.Wall }), Gap: median(func(p Pair) schemas.Millis { return p.Virsh.Gap })}
	r.Foreshift = Handover{Wall: median(func(p Pair) schemas.Millis { return p.Foreshift.Wall }), Gap: median(func(p Pair) schemas.Millis { return p.Foreshift.Gap }),
		Own: median(func(p Pair) schemas.Millis { return p.Foreshift.Own })}
	if r.Virsh.Wall > 0 && r.Virsh.Gap > 0 {
		r.WallRatio = schemas.Ratio(float64(r.Foreshift.Wall) / float64(r.Virsh.Wall))
		r.GapRatio = schemas.Ratio(float64(r.Foreshift.Gap) / float64(r.Virsh.Gap))
	}
	fail := func(format string, a ...any) { r.Failures = append(r.Failures, fmt.Sprintf(format, a...)) }
	if len(pairs) == 0 {
		fail("no pair was measured")
	}
	if r.WallRatio > maxWallRatio {
		fail("median wall time %.2f times libvirt's, want at most %.2f", r.WallRatio, maxWallRatio)
	}
	if r.GapRatio > maxGapRatio && r.Foreshift.Gap > r.Virsh.Gap+maxGapMore {
		fail("median heartbeat gap %d ms against libvirt's %d ms", int(r.Foreshift.Gap), int(r.Virsh.Gap))
	}
	if r.Foreshift.Own > maxOwn {
		fail("%d ms of a move are outside libvirt's calls, want at most %d", int(r.Foreshift.Own), int(maxOwn))
	}
	return r
}

// measured starts the actuators anew, so that they do not wait at steps, with their calls
// of libvirt counted by a meter. The gates that these calls go through are this process:
// it runs ahead of others as the hosts do, whom virsh calls without a gate.
func (f *Fleet) measured(meter *lab.CallMeter) error {
	if err := lab.Prioritise(os.Getpid()); err != nil {
		return err
	}
	for i, p := range f.actuators {
		if err := p.kill(); err != nil {
			return err
		}
		if err := p.wait(); err != nil {
			return err
		}
		f.gates[i].Cut()
		f.gates[i].Meter = meter
		p.spec.Steps = false
		if err := p.start(); err != nil {
			return err
		}
	}
	return nil
}

// Pairs measures n pairs.
func (f *Fleet) Pairs(ctx context.Context, n int, say func(string)) (PairsReport, error) {
	meter, t := &lab.CallMeter{}, &teller{}
	if err := f.measured(meter); err != nil {
		return PairsReport{}, err
	}
	if err := f.moved(ctx, meter, t, labNIC, nil); err != nil { // warm: caches, connections
		return PairsReport{}, err
	}
	var pairs []Pair
	for i := range n {
		var p Pair
		ways := []func() error{
			func() error { return f.virsh(ctx, &p.Virsh) },
			func() error { return f.moved(ctx, meter, t, labNIC, &p.Foreshift) },
		}
		for _, k := range []int{i % 2, 1 - i%2} {
			if err := ways[k](); err != nil {
				return judgePairs(pairs), err
			}
		}
		pairs = append(pairs, p)
		say(fmt.Sprintf("pair %2d: virsh %5.0f ms, gap %4.0f ms; foreshift %5.0f ms, gap %4.0f ms, own %3.0f ms", i+1, p.Virsh.Wall, p.Virsh.Gap, p.Foreshift.Wall, p.Foreshift.Gap, p.Foreshift.Own))
	}
	r := judgePairs(pairs)
	r.Costs = judgeCosts(t.moves, (n+1)/2)
	return r, nil
}

// gap is the longest silence of the guest in the time of a move. A heartbeat takes a
// moment to arrive.
func (f *Fleet) gap(from, to time.Time) schemas.Millis {
	time.Sleep(100 * time.Millisecond)
	return schemas.Millis(f.Lab.Beats.Report(f.guest.Name).Silence(from, to).Milliseconds())
}

// rested lets what the last move stirred up come to rest.
const rested = time.Second

func (f *Fleet) virsh(ctx context.Context, to *Handover) error {
	src, err := f.where(ctx)
	if err != nil {
		return err
	}
	pause(ctx, rested)
	began := time.Now()
	if _, err := f.Lab.Hosts[src].Migrate(ctx, f.guest, f.Lab.Hosts[1-src], f.Lab.Hosts[1-src].URI); err != nil {
		return err
	}
	end := time.Now()
	*to = Handover{Wall: schemas.Millis(end.Sub(began).Milliseconds()), Gap: f.gap(began, end)}
	return nil
}

// moved makes one move of ours, foretold at a link's speed.
func (f *Fleet) moved(ctx context.Context, meter *lab.CallMeter, t *teller, speed schemas.BytesPerSecond, to *Handover) error {
	src, err := f.where(ctx)
	if err != nil {
		return err
	}
	pause(ctx, rested)
	c, err := f.order(ctx, src, 1-src)
	if err != nil {
		return err
	}
	t.tell(c, f.guest.Memory, f.guest.DirtyRate, speed)
	calls, began := time.Duration(0), time.Now()
	if meter != nil {
		calls = meter.Total()
	}
	if err := f.send(ctx, c, string(c.ID)); err != nil {
		return err
	}
	o, ok := f.outcome(ctx, c.ID, 2*moveLimit, anyEnd)
	end := time.Now()
	if !ok || o.Result != schemas.ResultSucceeded {
		return fmt.Errorf("the move %s ended as %q: %s", c.ID, o.Result, o.Reason)
	}
	t.hear(&o, speed)
	if to != nil {
		wall := end.Sub(began)
		*to = Handover{Wall: schemas.Millis(wall.Milliseconds()), Gap: f.gap(began, end), Own: schemas.Millis((wall - (meter.Total() - calls)).Milliseconds())}
	}
	return nil
}
