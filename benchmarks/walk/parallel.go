package walk

import (
	"context"
	"runtime"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// Shards is the number of groups of series that share a bank, as partitions do in a
// fleet; so what is learnt across series is the same whatever the number of cores.
const Shards = 16

// Shard is the group of a series.
func Shard(name string) int { return int(xxhash.Sum64String(name) % Shards) }

// Parallel runs f(0..n-1) on some threads, 0 for as many as there are cores, and gives
// the first error by number. Each call has a thread to itself, so that [CPU] is its own.
func Parallel(ctx context.Context, workers, n int, f func(int) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	errs := make([]error, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for i := range next {
				errs[i] = f(i)
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			errs[i] = ctx.Err()
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
