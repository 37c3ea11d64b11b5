package twosites

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/internal/chart"
	"github.com/foreshift/foreshift/schemas"
)

// slower starts both roles anew with a lower rate while a move sends, and measures how
// long after the new share-out was told the move's speed is at it. The speed is what QEMU
// says of the last second or so, read every half second.
func (r *Rig) slower(t *testing.T, id schemas.CommandID, rate schemas.BytesPerSecond) {
	t.Helper()
	before := r.Progress(id)
	err := errors.Join(r.Kill(r.Sites.Private), r.Kill(r.Sites.Public))
	r.cfg.Rate = rate
	if err = errors.Join(err, r.Gateway(r.Sites.Private), r.Gateway(r.Sites.Public)); err != nil {
		t.Fatal(err)
	}
	var told, limited schemas.Time
	for late := time.Now().Add(30 * time.Second); time.Now().Before(late); time.Sleep(20 * time.Millisecond) {
		if l := r.Link(); told == 0 && l != nil && l.Bandwidth == rate && len(l.Shares) == 1 && l.Shares[0].Rate <= rate {
			told = l.Time
		}
		for _, p := range r.Progress(id)[len(before):] {
			if told == 0 || p.Phase != schemas.PhasePreCopy {
				continue
			}
			if limited == 0 && p.Limit > 0 && p.Limit <= rate {
				limited = p.Time
			}
			if p.Time > told && p.Speed > 0 && p.Speed <= 1.1*rate {
				took, ceiling := p.Time.Sub(told), limited.Sub(told)
				t.Logf("from %.1f to %.1f MB/s: the ceiling is seen %.2f s, the migration's speed (%.1f MB/s) %.2f s after the share-out was told", float64(before[len(before)-1].Speed)/1e6, float64(rate)/1e6, ceiling.Seconds(), float64(p.Speed)/1e6, took.Seconds())
				if took > 2*time.Second {
					t.Errorf("a changed rate took %s to show in the migration's speed", took)
				}
				return
			}
		}
	}
	t.Errorf("the move never sent at the new rate; told at %v, in force at %v", told, limited)
}

// plot draws a move's speed and what it might use.
func (r *Rig) plot(t *testing.T, id schemas.CommandID) {
	t.Helper()
	dir := os.Getenv("FORESHIFT_PLOTS")
	if dir == "" {
		return
	}
	speed, share := chart.Series{Name: "the migration's speed"}, chart.Series{Name: "its share as decided"}
	all := r.Progress(id)
	begun := all[0].Time
	for _, p := range all {
		if p.Phase == schemas.PhasePreCopy {
			speed.X, speed.Y = append(speed.X, p.Time.Sub(begun).Seconds()), append(speed.Y, float64(p.Speed)/1e6)
		}
	}
	last := 0.0
	r.mu.Lock()
	for i := range r.links {
		for _, s := range r.links[i].Shares {
			if at := r.links[i].Time.Sub(begun).Seconds(); s.Command == id && at > 0 {
				if n := len(share.Y); n > 0 { // a step
					share.X, share.Y = append(share.X, at), append(share.Y, last)
				}
				last = float64(s.Rate) / 1e6
				share.X, share.Y = append(share.X, at), append(share.Y, last)
			}
		}
	}
	r.mu.Unlock()
	svg := chart.Line(chart.Figure{Title: "A migration follows its share", Desc: "A VM crosses the tunnel while the link's rate is lowered; speed as QEMU tells it",
		X: chart.Axis{Label: "s"}, Y: chart.Axis{Label: "MB/s", Min: 0, Max: 12}}, []chart.Series{speed, share})
	if err := os.WriteFile(filepath.Join(dir, "tunnel-move.svg"), svg, 0o644); err != nil {
		t.Error(err)
	}
}

// story is what was decided and what was told of moves, by time: for a failed test.
func (r *Rig) story() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	last := ""
	for i := range r.links {
		l, line := &r.links[i], ""
		for _, s := range l.Shares {
			line += fmt.Sprintf(" %s %.1f floor %.1f waits=%t %s;", s.Command, float64(s.Rate)/1e6, float64(s.Floor)/1e6, s.Waits, s.Reason.Code)
		}
		if line += fmt.Sprintf(" loss %.2f other %.1f", float64(l.Loss), float64(l.Bandwidth-l.Free)/1e6); line != last {
			fmt.Fprintf(&b, "%s share-out %s:%s\n", l.Time.Std().Format("15:04:05.0"), l.By, line)
		}
		last = line
	}
	for i := range r.progress {
		p := &r.progress[i]
		fmt.Fprintf(&b, "%s %s %s round %d left %.1f sent %.1f at %.1f dirty %.1f limit %.1f\n", p.Time.Std().Format("15:04:05.0"), p.Command, p.Phase, p.Round, float64(p.Remaining)/1e6, float64(p.Processed)/1e6, float64(p.Speed)/1e6, float64(p.DirtyRate)/1e6, float64(p.Limit)/1e6)
	}
	return b.String()[max(0, b.Len()-16000):]
}
