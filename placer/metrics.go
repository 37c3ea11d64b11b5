package placer

import (
	"fmt"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the placer's figures for Prometheus.
type metrics struct {
	declined, told                             *prometheus.CounterVec
	decisions, plans, actions, commands        prometheus.Counter
	evaluations                                prometheus.Gauge
	before, after, hosts, vms, pressed, moving prometheus.Gauge
	unknown, duplicates                        prometheus.Gauge
	budgets                                    *prometheus.GaugeVec

	last         uint64 // decisions counted so far
	lastDeclined map[schemas.ReasonCode]uint64
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "foreshift", Subsystem: "placer", Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "foreshift", Subsystem: "placer", Name: name, Help: help})
	}
	m := &metrics{
		lastDeclined: map[schemas.ReasonCode]uint64{},
		declined:     prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "foreshift", Subsystem: "placer", Name: "declined_total", Help: "Declines in decisions, by reason: a VM that stays is counted once a decision."}, []string{"reason"}),
		decisions:    counter("decisions_total", "Decisions made."),
		evaluations:  gauge("evaluations", "Moves evaluated by the last decision."),
		plans:        counter("plans_published_total", "Plans published."),
		actions:      counter("plan_actions_total", "Moves in published plans."),
		commands:     counter("commands_published_total", "Commands published."),
		before:       gauge("unmet_before_core_seconds", "Expected unmet demand within the look-ahead without the last plan, weighted."),
		after:        gauge("unmet_after_core_seconds", "The same with it."),
		hosts:        gauge("hosts", "Hosts known."),
		vms:          gauge("vms", "VMs known."),
		pressed:      gauge("hosts_pressed", "Hosts whose pressure is above the trigger."),
		moving:       gauge("moves_under_way", "VMs whose move is under way or not yet seen to have ended."),
		unknown:      gauge("moves_unknown", "Moves whose end nobody knows: they hold all others."),
		duplicates:   gauge("vms_duplicate", "VMs seen running on two hosts: frozen, page somebody."),
		budgets:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "foreshift", Subsystem: "placer", Name: "budget_moves", Help: "Budgets of moves, by what is used and what is allowed: cluster at a time, hour attempts in 12 base steps."}, []string{"budget", "what"}),
		told:         prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "foreshift", Subsystem: "placer", Name: "messages_total", Help: "Messages published, by kind."}, []string{"kind"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.declined, m.decisions, m.evaluations, m.plans, m.actions, m.commands, m.before, m.after, m.hosts, m.vms, m.pressed, m.moving, m.unknown, m.duplicates, m.budgets, m.told} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("placer metrics: %w", err)
		}
	}
	return m, nil
}

// observe counts what was published.
func (m *metrics) observe(o streams.Out) {
	m.told.WithLabelValues(string(o.Msg.Kind())).Inc()
	switch msg := o.Msg.(type) {
	case *schemas.Plan:
		m.plans.Inc()
		m.actions.Add(float64(len(msg.Actions)))
	case *schemas.Command:
		m.commands.Inc()
	}
}

// set shows the figures of the last decision.
func (m *metrics) set(s Stats) {
	m.decisions.Add(float64(s.Decisions - m.last))
	m.last = s.Decisions
	m.evaluations.Set(float64(s.Evaluations))
	m.before.Set(s.Before)
	m.after.Set(s.After)
	m.hosts.Set(float64(s.Hosts))
	m.vms.Set(float64(s.VMs))
	m.pressed.Set(float64(s.Pressed))
	m.moving.Set(float64(s.UnderWay))
	m.unknown.Set(float64(s.Unknown))
	m.duplicates.Set(float64(s.Duplicates))
	for name, b := range s.Budgets {
		m.budgets.WithLabelValues(name, "used").Set(float64(b[0]))
		m.budgets.WithLabelValues(name, "allowed").Set(float64(b[1]))
	}
	for code, n := range s.Declined {
		m.declined.WithLabelValues(string(code)).Add(float64(n - m.lastDeclined[code]))
		m.lastDeclined[code] = n
	}
}
