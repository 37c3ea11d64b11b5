package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/placer/policy/learning"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

func learningCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "learning [show | history | rollback VERSION]", Short: "What was learnt: costs of moves, effects, settings and their evidence, trust", Args: cobra.NoArgs}
	show := func(c *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
		defer cancel()
		l, err := at.learnt(ctx)
		if err != nil {
			return err
		}
		if at.json {
			return object(c.OutOrStdout(), l)
		}
		return l.text(c.OutOrStdout())
	}
	c.RunE = show
	back := policyRollbackCommand(at)
	back.Use, back.Short = "rollback VERSION", "Return to the settings of an earlier version of the policy; `foreshift learning history` names them"
	c.AddCommand(&cobra.Command{Use: "show", Short: "What has been learnt so far", Args: cobra.NoArgs, RunE: show},
		&cobra.Command{Use: "history", Short: "Changes of the policy, with the evidence of those that were learnt", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			return at.learningHistory(c)
		}}, back)
	return c
}

// learnt is what has been learnt so far.
type learnt struct {
	Costs    []learning.Known `json:"costs"`
	Moves    int              `json:"moves_judged"`              // whose durations the errors are of
	Plain    float64          `json:"duration_error_arithmetic"` // median, relative
	Learnt   float64          `json:"duration_error_learnt"`
	Effects  effectSums       `json:"effects"`
	Settings []setting        `json:"settings"`
	Trust    []trusted        `json:"trust"`
	Right    int              `json:"shadow_right"`
	Wrong    int              `json:"shadow_wrong"`
	Version  uint64           `json:"policy_version"`
}

// trusted is how far auto is trusted with a class of moves.
type trusted struct {
	schemas.Rung
	May schemas.Reason `json:"may"` // ok: auto makes such moves by itself
}

type setting struct {
	Name  string         `json:"setting"`
	Value float64        `json:"value"`
	Bound *schemas.Range `json:"bounds"` // nil: it is not changed
}

// effectSums counts what the moves certainly did.
type effectSums struct {
	Judged int            `json:"moves"`
	Better map[string]int `json:"better"` // by term: less of it, for certain
	Worse  map[string]int `json:"worse"`
}

func (p *place) learnt(ctx context.Context) (*learnt, error) {
	pic, err := p.picture(ctx)
	if err != nil {
		return nil, err
	}
	bus, err := p.connect(ctx, streams.RoleOperator)
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	moves, err := bus.History(ctx, streams.Input{Stream: streams.Migrations})
	if err != nil {
		return nil, err
	}
	plans, err := bus.History(ctx, streams.Input{Stream: streams.Plans, From: streams.FromSince, Since: ladderDays * 24 * time.Hour})
	if err != nil {
		return nil, err
	}
	steps, base, err := p.steps(ctx, ladderDays)
	if err != nil {
		return nil, err
	}
	capacity := map[schemas.HostID]float64{}
	for h, m := range pic.Reports {
		capacity[h] = float64(m.Capacity.CPU)
	}
	return summarise(pic.Policy, moves, plans, steps, capacity, base), nil
}

// ladderDays is how far back decisions in shadow are judged.
const ladderDays = 7

// summarise folds what was read.
func summarise(p policy.Policy, moves, plans []streams.Event, steps []*schemas.Steps, capacity map[schemas.HostID]float64, base time.Duration) *learnt {
	l := &learnt{Costs: []learning.Known{}, Version: p.Version, Effects: effectSums{Better: map[string]int{}, Worse: map[string]int{}}}
	var costs learning.Costs
	for _, e := range moves {
		switch m := e.Msg.(type) {
		case *schemas.Outcome:
			costs.Learn(m)
		case *schemas.Effect:
			l.Effects.add(m)
		}
	}
	l.Costs = costs.Summary()
	l.Plain, l.Learnt, l.Moves = costs.Errors()
	for _, name := range learning.Settings() {
		s := setting{Name: name, Value: learning.Value(&p, name)}
		if p.Learning != nil {
			if r, ok := p.Learning.Bounds[name]; ok {
				s.Bound = &r
			}
		}
		l.Settings = append(l.Settings, s)
	}
	ladder := judgeShadow(plans, moves, steps, capacity, base)
	l.Right, l.Wrong = ladder.Right, ladder.Wrong
	l.Trust = trust(&p, plans)
	return l
}

// trust is how far the newest plan trusted the classes of moves.
func trust(p *policy.Policy, plans []streams.Event) []trusted {
	out := []trusted{}
	for i := len(plans) - 1; i >= 0; i-- {
		if m, ok := plans[i].Msg.(*schemas.Plan); ok {
			l := learning.Ladder{Rungs: m.Basis.Rungs}
			for _, r := range l.Rungs {
				out = append(out, trusted{r, l.May(p, r.Class)})
			}
			break
		}
	}
	return out
}

func (s *effectSums) add(e *schemas.Effect) {
	s.Judged++
	for name, c := range e.Terms {
		switch {
		case c.High < 0:
			s.Better[name]++
		case c.Low > 0:
			s.Worse[name]++
		}
	}
}

// judgeShadow goes through plans, commands and base steps in the order of time.
func judgeShadow(plans, moves []streams.Event, steps []*schemas.Steps, capacity map[schemas.HostID]float64, base time.Duration) *learning.Ladder {
	type moment struct {
		at schemas.Time
		do func(l *learning.Ladder)
	}
	var all []moment
	for _, e := range plans {
		if m, ok := e.Msg.(*schemas.Plan); ok {
			all = append(all, moment{m.Time, func(l *learning.Ladder) { l.Foresee(m) }})
		}
	}
	for _, e := range moves {
		if m, ok := e.Msg.(*schemas.Command); ok {
			all = append(all, moment{m.Issued, func(l *learning.Ladder) { l.Made(m) }})
		}
	}
	for i := 0; i < len(steps); {
		step := steps[i].Step
		load := map[schemas.HostID]float64{}
		for ; i < len(steps) && steps[i].Step == step; i++ {
			m := steps[i]
			for k, h := range m.Host {
				if c := m.Cols[schemas.ColCPU]; c != nil && c[k] == c[k] {
					load[h] += float64(c[k])
				}
			}
		}
		at := step.End(base)
		for _, h := range slices.Sorted(maps.Keys(load)) {
			if c := capacity[h]; c > 0 {
				short := load[h] > c
				all = append(all, moment{at, func(l *learning.Ladder) { l.Measured(h, at, short, base) }})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b moment) int { return int(min(max(a.at-b.at, -1), 1)) })
	var l learning.Ladder
	for _, m := range all {
		m.do(&l)
	}
	return &l
}

func (l *learnt) text(w io.Writer) error {
	if len(l.Costs) == 0 {
		fmt.Fprintln(w, "no move has taught yet what moves take: arithmetic alone is used")
	} else {
		fmt.Fprintf(w, "what moves take, compared with arithmetic (median error of the last %d durations: %.0f %% by arithmetic, %.0f %% as learnt)\n", l.Moves, 100*l.Plain, 100*l.Learnt)
		rows := [][]string{{"SITES", "UP TO GIB", "MOVES", "DURATION", "DOWNTIME", "BYTES"}}
		for _, k := range l.Costs {
			sites := string(k.From)
			if k.To != k.From {
				sites += " - " + string(k.To)
			}
			rows = append(rows, []string{sites, fmt.Sprint(1 << k.Class), fmt.Sprint(k.Moves), fmt.Sprintf("x %.2f", k.Duration), fmt.Sprintf("x %.2f", k.Downtime), fmt.Sprintf("x %.2f", k.Volume)})
		}
		if err := table(w, rows...); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\n%d moves have a known effect\n", l.Effects.Judged)
	if l.Effects.Judged > 0 {
		rows := [][]string{{"TERM", "LESS, FOR CERTAIN", "MORE, FOR CERTAIN"}}
		names := map[string]bool{}
		for _, m := range []map[string]int{l.Effects.Better, l.Effects.Worse} {
			for n := range m {
				names[n] = true
			}
		}
		for _, n := range slices.Sorted(maps.Keys(names)) {
			rows = append(rows, []string{n, fmt.Sprint(l.Effects.Better[n]), fmt.Sprint(l.Effects.Worse[n])})
		}
		if err := table(w, rows...); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "\nsettings of policy version %d\n", l.Version)
	rows := [][]string{{"SETTING", "VALUE", "MAY BE CHANGED"}}
	for _, s := range l.Settings {
		may := "no: the policy has no bounds for it"
		if s.Bound != nil {
			may = fmt.Sprintf("from %g to %g", s.Bound.Low, s.Bound.High)
		}
		rows = append(rows, []string{s.Name, fmt.Sprintf("%.4g", s.Value), may})
	}
	if err := table(w, rows...); err != nil {
		return err
	}
	fmt.Fprintf(w, "\ntrust: in the last %d days %d decisions in shadow came true, %d did not\n", ladderDays, l.Right, l.Wrong)
	if len(l.Trust) == 0 {
		_, err := fmt.Fprintln(w, "no class of moves has been judged; `auto_after` and `demote_after` in the policy's `learning` ask for proof")
		return err
	}
	rows = [][]string{{"MOVES", "CAME TRUE", "DID NOT", "AUTO"}}
	for _, t := range l.Trust {
		may := string(t.May.Code)
		if t.May.Detail != "" {
			may = t.May.Detail
		}
		rows = append(rows, []string{t.Class, fmt.Sprint(t.Right), fmt.Sprint(t.Wrong), may})
	}
	return table(w, rows...)
}

// policyChange is one change of the policy.
type policyChange struct {
	Time     schemas.Time      `json:"time"`
	By       string            `json:"by"`
	Why      string            `json:"why"`
	Version  uint64            `json:"version"`
	Rollback bool              `json:"rollback"`
	Evidence *schemas.Evidence `json:"evidence"` // nil: a person set it
}

func (p *place) learningHistory(c *cobra.Command) error {
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	bus, err := p.connect(ctx, streams.RoleOperator)
	if err != nil {
		return err
	}
	defer bus.Close()
	events, err := bus.History(ctx, streams.Input{Stream: streams.Acts, Filters: []string{streams.SubjectAct(schemas.ActPolicy), streams.SubjectAct(schemas.ActRollback)}})
	if err != nil {
		return err
	}
	out := []policyChange{}
	rows := [][]string{{"TIME", "BY", "VERSION", "WHAT", "EVIDENCE"}}
	for _, e := range events {
		a, ok := e.Msg.(*schemas.Act)
		if !ok {
			continue
		}
		ch := policyChange{Time: schemas.Time(e.Time), By: a.By, Why: a.Why, Version: a.Version, Rollback: a.Act == schemas.ActRollback, Evidence: a.Evidence}
		what, why := "set by a person", dash(a.Why)
		if a.Policy != nil {
			ch.Version = a.Policy.Version
		}
		switch x := a.Evidence; {
		case ch.Rollback:
			what = fmt.Sprintf("back to version %d", a.Version)
		case x != nil:
			what, why = "", ""
			for i, m := range append([]schemas.Changed{x.Changed}, x.With...) {
				if i > 0 {
					what, why = what+", ", why+" and "
				}
				what += fmt.Sprintf("%s from %.4g to %.4g", m.Setting, m.From, m.To)
				why += fmt.Sprintf("%.4g", m.Tried)
			}
			why += fmt.Sprintf(" would have saved %.3g core-s a day (%.3g to %.3g) in %d days", x.Saved, x.Low, x.High, x.Samples)
		}
		out = append(out, ch)
		rows = append(rows, []string{ch.Time.Std().Format(time.RFC3339), a.By, fmt.Sprint(ch.Version), what, why})
	}
	if p.json {
		return object(c.OutOrStdout(), map[string]any{"changes": out})
	}
	if len(out) == 0 {
		_, err := fmt.Fprintln(c.OutOrStdout(), "the policy was never changed; `foreshift policy` shows it")
		return err
	}
	return table(c.OutOrStdout(), rows...)
}
