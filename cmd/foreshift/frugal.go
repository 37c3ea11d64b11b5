package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// frugal keeps the console's own process small: most of what it reads is garbage once
// it is folded, and a collector that waits for as much garbage as there is live data
// would double it. What it holds has few pointers, so collecting often costs little.
// What an issue of forecasts has left free goes back to the system once it is quiet,
// for the next one is minutes away.
func frugal(ctx context.Context) {
	if !collectAt(10) {
		return
	}
	go func() {
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		var quiet quietness
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
			metrics.Read(s)
			if quiet.giveBack(s[0].Value.Uint64(), s[1].Value.Uint64()) {
				debug.FreeOSMemory()
			}
		}
	}()
}

// collectAt collects garbage when it is this share of what lives, in percent, unless who
// set GOGC or GOMEMLIMIT has decided that himself. It pays where most of what lives are
// large arrays without pointers, which the collector need not look through.
func collectAt(percent int) bool {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return false
	}
	debug.SetGCPercent(percent)
	return true
}

// quietness tells when free memory is worth giving back: when much lies free, and
// little was allocated since the last look.
type quietness struct{ allocated uint64 }

const (
	muchFree   = 4 << 20
	fewInATick = 8 << 20
)

func (q *quietness) giveBack(allocated, free uint64) bool {
	few := allocated-q.allocated < fewInATick
	q.allocated = allocated
	return few && free > muchFree
}
