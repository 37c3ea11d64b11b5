package web

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/foreshift/foreshift/console/live"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// comparisons are plans beside those that would have been made without a forecast. One
// is worked out at a time, away from the page that asked, and the last few are kept.
type comparisons struct {
	mu   sync.Mutex
	by   map[schemas.PlanID]comparison
	made []schemas.PlanID // in order
	busy bool
}

type comparison struct {
	Begun         time.Time
	With, Without *schemas.Plan // Without is nil until it is done
	Fault         string
}

const (
	maxComparisons = 8
	compareTimeout = time.Minute
)

func (s *Server) planOf(r *request) *sheet {
	id := schemas.PlanID(r.PathValue("plan"))
	if err := schemas.CheckToken("plan", string(id)); err != nil {
		return notFound("plans", err.Error(), "The newest plan is on the page of plans.")
	}
	newest, earlier := s.cfg.Model.Plans()
	if newest == nil || newest.ID != id && !slices.ContainsFunc(earlier, func(l live.PlanLine) bool { return l.ID == id }) {
		return notFound("plans", fmt.Sprintf("Plan %s is not among the newest.", id), "Older ones: foreshift plan show "+string(id)+" --compare.")
	}
	sh := &sheet{title: "Plan " + string(id), nav: "plans", wide: true}
	c := s.comparison(id)
	sh.regions = []region{{"compare", "compare", map[string]any{"ID": id, "C": c}}}
	return sh
}

// comparison gives what is known of one, and begins it when nobody has asked before.
func (s *Server) comparison(id schemas.PlanID) comparison {
	c := &s.compared
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.by[id]; ok {
		return known
	}
	if c.busy {
		return comparison{Begun: s.cfg.Now()}
	}
	if c.by == nil {
		c.by = map[schemas.PlanID]comparison{}
	}
	if len(c.made) == maxComparisons {
		delete(c.by, c.made[0])
		c.made = c.made[1:]
	}
	begun := comparison{Begun: s.cfg.Now()}
	c.by[id], c.made, c.busy = begun, append(c.made, id), true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), compareTimeout)
		defer cancel()
		done := begun
		var err error
		if done.With, err = s.findPlan(ctx, id); err == nil && s.cfg.Compare != nil {
			done.Without, err = s.cfg.Compare(ctx, done.With)
		}
		if err != nil {
			done.Fault = err.Error()
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.busy = false
		if _, ok := c.by[id]; ok {
			c.by[id] = done
		}
	}()
	return begun
}

// findPlan gives a plan whole: the newest from memory, an older one from the bus.
func (s *Server) findPlan(ctx context.Context, id schemas.PlanID) (*schemas.Plan, error) {
	if p, _ := s.cfg.Model.Plans(); p != nil && p.ID == id {
		return p, nil
	}
	events, err := s.cfg.Bus.Last(ctx, streams.Plans, streams.SubjectPlan(id))
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if p, ok := e.Msg.(*schemas.Plan); ok {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no plan %s is kept", id)
}
