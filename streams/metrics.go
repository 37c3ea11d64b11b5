package streams

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the counters of one bus.
type metrics struct {
	deadLetters *prometheus.CounterVec // service, stream
	lostLetters *prometheus.CounterVec // service, stream: refused messages whose dead letter could not be written
	published   *prometheus.CounterVec // stream
	received    *prometheus.CounterVec // service, stream
	failed      *prometheus.CounterVec // stream, why
	verdicts    *prometheus.CounterVec // durable, verdict
}

func newMetrics() *metrics {
	c := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "foreshift", Name: name, Help: help}, labels)
	}
	return &metrics{
		deadLetters: c("dead_letters_total", "Messages that could not be used and became dead letters.", "service", "stream"),
		lostLetters: c("dead_letters_lost_total", "Messages that could not be used and whose dead letter could not be written.", "service", "stream"),
		published:   c("published_total", "Messages that a stream has acknowledged.", "stream"),
		received:    c("received_total", "Messages received and decoded.", "service", "stream"),
		failed:      c("publish_failures_total", "Messages that could not be published, by reason.", "stream", "why"),
		verdicts:    c("work_verdicts_total", "Verdicts on the messages of durable consumers.", "durable", "verdict"),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.deadLetters, m.lostLetters, m.published, m.received, m.failed, m.verdicts}
}

// Register offers the bus's counters to a registry; a nil registry and counters
// that are there already are fine.
func (b *Bus) Register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range b.metrics.all() {
		var already prometheus.AlreadyRegisteredError
		if err := r.Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// Why a publish failed, as a label.
func whyFailed(err error) string {
	switch {
	case errors.Is(err, ErrLostRace):
		return "lost_race"
	case errors.Is(err, ErrDenied), errors.Is(err, ErrNoRoute), errors.Is(err, ErrNoSigner):
		return "denied"
	case errors.Is(err, ErrMissing):
		return "missing"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	}
	return "error"
}
