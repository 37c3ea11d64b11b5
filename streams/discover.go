package streams

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/micro"
)

// serviceVersion is the version of what services say of themselves to `nats micro`.
const serviceVersion = "1.0.0"

// serviceHealth is where an inspector asks a service how it is.
func serviceHealth(name string) string { return "$SRV.HEALTH." + name }

// announce lets `nats micro ls`, `info`, `stats` and `ping` find the service in TEL, and
// answers an inspector how far it is. A role without TEL, or one that may not, stays
// unseen.
func (sh *shell) announce() (stop func() error, err error) {
	stop = func() error { return nil }
	if sh.Bus.Tel == nil || !found(sh.Bus.Role) {
		return stop, nil
	}
	begun := time.Now()
	s, err := micro.AddService(sh.Bus.Tel.NC, micro.Config{Name: sh.Name, Version: serviceVersion, Description: "Foreshift " + sh.Name,
		Metadata: map[string]string{"role": sh.Bus.Role}, QueueGroupDisabled: true,
		Endpoint: &micro.EndpointConfig{Subject: serviceHealth(sh.Name), QueueGroupDisabled: true, Handler: micro.HandlerFunc(func(r micro.Request) {
			b, err := json.Marshal(map[string]any{"service": sh.Name, "up_s": time.Since(begun).Seconds(), "cut": sh.seen.Load()})
			if err == nil {
				err = r.Respond(b)
			}
			if err != nil {
				sh.log.Debug("health not answered", "err", err)
			}
		})}})
	if err != nil {
		return stop, fmt.Errorf("announce: %w", err)
	}
	return s.Stop, nil
}

// found reports whether services of a role can be discovered.
func found(name string) bool {
	r, err := roleOf(name)
	return err == nil && r.in[Tel].found
}
