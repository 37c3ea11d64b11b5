package cluster

import (
	"errors"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// What an actuator makes of its looks at its own host.

// note writes down what a look has shown, whatever becomes of what it was for.
func (a *actuator) note(g *guest, here migration.Here) error {
	rec := a.journal.record(g)
	seen := rec.Seen(here)
	if seen == rec {
		return nil
	}
	err := a.journal.write(entry{g: g, record: &seen})
	if err != nil && !errors.Is(err, errDied) {
		return &migration.Refusal{Why: schemas.Reason{Code: schemas.ReasonJournal, Detail: err.Error()}}
	}
	return err
}

// noted is a refusal, if any, once what the look has shown is written down.
func (a *actuator) noted(g *guest, here migration.Here, why schemas.Reason) error {
	if err := a.note(g, here); err != nil {
		return err
	}
	if !why.OK() {
		return &migration.Refusal{Why: why}
	}
	return nil
}

// Signs of life, as the real receiver judges them.
const (
	leastCPU = uint64(time.Millisecond)
	steady   = 10 * time.Second
)

func (a *actuator) life(g *guest, s migration.Seen) migration.LifeSign {
	base, now := &a.lives[g.index], a.w.now // not by a clock that is set
	if s.Copy != migration.Running {
		*base = lifeBase{}
		return migration.NoLife
	}
	switch {
	case base.at == 0:
		*base = lifeBase{now, s.CPU}
	case s.CPU >= base.cpu+leastCPU:
		return migration.LifeCPU
	case now-base.at >= int64(steady):
		return migration.LifeSteady
	}
	return migration.NoLife
}
