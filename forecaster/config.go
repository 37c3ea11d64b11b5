package forecaster

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Config of a forecaster. The zero value of a field means its default.
type Config struct {
	Base  time.Duration // length of the base step; default 5 min
	Grace time.Duration // how long after its end a step stays open; default base/10, at least the smaller of base and 2 s
	// LateLimit is how far back samples may correct a closed step; default 72 steps.
	LateLimit time.Duration
	Future    time.Duration // how far ahead of stream time a sample may be; default base, at least 2 s
	// LimitRatio is the share of its allocation a VM may use of CPU and memory before
	// its demand counts as unserved; default .95.
	LimitRatio float64
	MaxVMs     int // default 20000: about 4 GB of windows, models and garbage
	// Workers is how many goroutines work on a step; what comes out does not depend on
	// it. Default: one a processor, at most one a resource.
	Workers int
	// TuneEvery is how often the network is trained on the fleet's history; negative is
	// never. Default a day of base steps, at least 6 hours.
	TuneEvery time.Duration
	Retry     time.Duration // when a publication that never showed up is tried again; default 5 s
	// LeaseTTL is how long an instance that has died keeps others from taking over its
	// partitions; real time. Default 2 s.
	LeaseTTL time.Duration
	// SnapshotEvery is how often what was learnt of a partition is stored; what was learnt
	// since is learnt anew after a crash. Default an hour of base steps, at least a minute.
	SnapshotEvery time.Duration
	// Lease gives the revision of the lease held, put into every message; nil is 0.
	Lease func() uint64
}

// WithDefaults fills what is zero.
func (c Config) WithDefaults() Config {
	if c.Base == 0 {
		c.Base = schemas.DefaultBase
	}
	if c.Grace == 0 {
		c.Grace = max(c.Base/10, min(c.Base, 2*time.Second))
	}
	if c.LateLimit == 0 {
		c.LateLimit = 72 * c.Base
	}
	if c.Future == 0 {
		c.Future = max(c.Base, 2*time.Second)
	}
	if c.LimitRatio == 0 {
		c.LimitRatio = .95
	}
	if c.MaxVMs == 0 {
		c.MaxVMs = 20000
	}
	if c.Retry == 0 {
		c.Retry = 5 * time.Second
	}
	if c.Workers == 0 {
		c.Workers = min(runtime.GOMAXPROCS(0), schemas.NumResources)
	}
	if c.TuneEvery == 0 {
		c.TuneEvery = max(schemas.StepsPerDay*c.Base, 6*time.Hour)
	}
	if c.SnapshotEvery == 0 {
		c.SnapshotEvery = max(12*c.Base, time.Minute)
	}
	if c.LeaseTTL == 0 {
		c.LeaseTTL = 2 * time.Second
	}
	if c.Lease == nil {
		c.Lease = func() uint64 { return 0 }
	}
	return c
}

// Validate reports all faults at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("forecaster config: %s: %s", field, fmt.Sprintf(format, args...)))
	}
	if c.Base < time.Millisecond || c.Base > 24*time.Hour {
		bad("base", "%v is not within 1ms..24h", c.Base)
	}
	if c.Grace < 0 {
		bad("grace", "%v is negative", c.Grace)
	}
	if n := c.lateSteps(); c.Base > 0 && (n < 1 || n > schemas.StepsPerDay) {
		bad("late limit", "%v is %d base steps, want 1..%d", c.LateLimit, n, schemas.StepsPerDay)
	}
	if c.Future < 0 {
		bad("future", "%v is negative", c.Future)
	}
	if c.LimitRatio <= 0 || c.LimitRatio > 10 {
		bad("limit_ratio", "%v is not within 0..10", c.LimitRatio)
	}
	if c.MaxVMs < 1 || c.MaxVMs > 1<<20 {
		bad("max_vms", "%d is not within 1..%d", c.MaxVMs, 1<<20)
	}
	if c.Workers < 1 || c.Workers > 1024 {
		bad("workers", "%d is not within 1..1024", c.Workers)
	}
	if c.LeaseTTL < 200*time.Millisecond || c.LeaseTTL > time.Minute {
		bad("lease_ttl", "%v is not within 200ms..1m", c.LeaseTTL)
	}
	if c.SnapshotEvery < time.Second {
		bad("snapshot_every", "%v is below 1s", c.SnapshotEvery)
	}
	if c.Retry <= 0 {
		bad("retry", "%v must be above 0", c.Retry)
	}
	return errors.Join(errs...)
}

func (c Config) lateSteps() int {
	if c.Base <= 0 {
		return 0
	}
	return int(c.LateLimit / c.Base)
}
