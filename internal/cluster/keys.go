package cluster

import (
	"fmt"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// keyring is who may say what. The lists and their rules are the real ones
// ([streams.Authorities]); a signature is a keyed hash in place of Ed25519, which
// costs a hundred times as much and is not what is in question here.
type keyring struct {
	w    *world
	auth *streams.Authorities
}

const (
	keyPlacer   = "placer"
	keyRetired  = "placer-retired"
	keyOperator = "operator"
	keyHostile  = "hostile"
)

func keyOfHost(h schemas.HostID) string { return "actuator-" + string(h) }

func newKeyring(w *world, hosts []*host) *keyring {
	a := &streams.Authorities{Commands: []string{keyPlacer, keyRetired}, Acts: []string{keyOperator}, Actuators: map[string][]string{}, Retired: map[string]schemas.Time{keyRetired: schemas.Time(epoch)}}
	for _, h := range hosts {
		a.Actuators[string(h.id)] = []string{keyOfHost(h.id)}
	}
	return &keyring{w, a}
}

// sign makes what only the holder of the key can make.
func sign(key, subject string, payload []byte) string {
	h := xxhash.New()
	_, _ = h.WriteString("secret of " + key + "\n" + subject + "\n") // a hash never fails
	_, _ = h.Write(payload)
	return fmt.Sprintf("%016x", h.Sum64())
}

// primitive stands for Ed25519.
func primitive(signer, subject string, payload []byte, signature string) error {
	if signature != sign(signer, subject, payload) {
		return fmt.Errorf("%s: not signed by %s", subject, signer)
	}
	return nil
}

// command says whether a placer orders it, now.
func (k *keyring) command(s schemas.Signed, now int64) error {
	if k.w.without("signature") || k.w.without("order-signature") {
		return nil
	}
	return k.auth.CommandAt(s, schemas.Time(now), primitive)
}

// genuine says whether a placer ordered it once.
func (k *keyring) genuine(s schemas.Signed) error {
	if k.w.without("order-signature") {
		return nil
	}
	return k.auth.CommandAt(s, 0, primitive)
}

// event says whether a decider may believe a message of a stream.
func (k *keyring) event(m *message) error {
	switch {
	case m.subject == heartbeatSubject && k.w.without("heartbeat-signature"),
		m.subject != heartbeatSubject && strings.HasPrefix(m.subject, "acts.") && k.w.without("act-signature"),
		strings.Contains(m.subject, ".outcome.") && k.w.without("outcome-signature"),
		strings.Contains(m.subject, ".command.") && k.w.without("command-signature"):
		return nil
	}
	return k.auth.EventAt(m.signed(), schemas.Time(m.at), primitive)
}

var heartbeatSubject = streams.SubjectAct(schemas.ActHeartbeat)
