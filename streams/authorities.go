package streams

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/nats-io/nkeys"
)

// Authorities are the pinned public keys (nkeys, "U...") whose word counts.
//
// Several keys per list let one be rotated in before the other is taken out. A key
// that is taken out stays in its list and gets a time in Retired: what it said
// before still counts as history, nothing that it says after does. Times are those
// the server stamped on the message, which a thief of the key cannot choose; where
// there is none, the time is now.
type Authorities struct {
	Commands  []string                `json:"commands"`          // placers
	Acts      []string                `json:"acts"`              // operators
	Actuators map[string][]string     `json:"actuators"`         // by host
	Records   []string                `json:"records"`           // recorders
	Tunnels   []string                `json:"tunnels,omitempty"` // tunnel roles
	Retired   map[string]schemas.Time `json:"retired,omitempty"` // by key: its word no longer counts from then on

	file *pinned // nil when not read from a file
}

// any time at all: for what must be genuine, however old.
const whenever schemas.Time = 0

// VerifyCommand checks that a placer orders it, now.
func (a *Authorities) VerifyCommand(s schemas.Signed) error {
	return a.now(func(a *Authorities, at schemas.Time) error {
		return a.CommandAt(s, at, ed25519)
	})
}

// GenuineCommand checks that a placer ordered it once, though its key may have been
// retired since. A move that has begun is ended by this, or none would be: nothing
// may be started by it.
func (a *Authorities) GenuineCommand(s schemas.Signed) error {
	return a.now(func(a *Authorities, _ schemas.Time) error {
		return a.CommandAt(s, whenever, ed25519)
	})
}

// VerifyActuator checks that the host's own actuator says it, now.
func (a *Authorities) VerifyActuator(host schemas.HostID, subject string, payload []byte, signature, signer string) error {
	return a.now(func(a *Authorities, at schemas.Time) error {
		return a.ActuatorAt(host, schemas.Signed{Subject: subject, Payload: payload, Signature: signature, Signer: signer}, at, ed25519)
	})
}

// now verifies what is to be acted on: the clock counts, and a file of keys that
// cannot be trusted any more lets nothing through.
func (a *Authorities) now(check func(*Authorities, schemas.Time) error) error {
	at := time.Now()
	a, err := a.current(at)
	if err != nil {
		return refused(schemas.ReasonUnknownSigner, "nobody's word counts: %v", err)
	}
	return check(a, schemas.At(at))
}

// Primitive checks one signature: nil when it is the signer's over subject and
// payload. The real one is Ed25519 over nkeys.
type Primitive func(signer, subject string, payload []byte, signature string) error

// CommandAt, ActuatorAt and EventAt are the same rules as those of VerifyCommand,
// VerifyActuator and of what deciders are told, without a clock or a file, and with a
// primitive of the caller's: for simulations. With time 0 a command need only have
// been genuine once.
func (a *Authorities) CommandAt(s schemas.Signed, at schemas.Time, p Primitive) error {
	return a.verifyWith(p, a.Commands, "commands", s, at)
}

// ActuatorAt is for requests and replies of actuators; see [Authorities.CommandAt].
func (a *Authorities) ActuatorAt(h schemas.HostID, s schemas.Signed, at schemas.Time, p Primitive) error {
	return a.verifyWith(p, a.Actuators[string(h)], "host "+string(h), s, at)
}

// EventAt is for messages of streams; see [Authorities.CommandAt].
func (a *Authorities) EventAt(s schemas.Signed, at schemas.Time, p Primitive) error {
	return a.eventWith(p, s, at)
}

// verifyEvent checks what deciders are told in the name of a placer, an actuator or
// an operator, stored at a time. Other messages pass. The heartbeat is the placer's,
// and a policy may be proposed by a placer.
func (a *Authorities) verifyEvent(s schemas.Signed, at schemas.Time) error {
	// A file that has become unreadable keeps its last good keys here: history must
	// not turn into dead letters for a moment's mistake.
	a, _ = a.current(time.Now())
	return a.eventWith(ed25519, s, at)
}

func (a *Authorities) eventWith(p Primitive, s schemas.Signed, at schemas.Time) error {
	var keys []string
	what := ""
	switch {
	case matches("acts.*", s.Subject):
		keys, what = a.Acts, "acts"
		switch s.Subject {
		case SubjectAct(schemas.ActHeartbeat):
			keys = a.Commands
		case SubjectAct(schemas.ActPolicy):
			keys = slices.Concat(a.Acts, a.Commands)
		}
	case matches("migrations.*.command.*.*", s.Subject):
		keys, what = a.Commands, "commands"
	case matches("migrations.*.outcome.*", s.Subject):
		host := s.Subject[strings.LastIndexByte(s.Subject, '.')+1:]
		keys, what = a.Actuators[host], "host "+host
	case matches("$KV.tunnels.>", s.Subject):
		keys, what = a.Tunnels, "tunnels"
	default:
		return nil
	}
	return a.verifyWith(p, keys, what, s, at)
}

func (a *Authorities) verifyWith(p Primitive, keys []string, what string, s schemas.Signed, at schemas.Time) error {
	if err := verify(p, keys, what, s); err != nil {
		return err
	}
	if since, ok := a.Retired[s.Signer]; ok && at >= since {
		return refused(schemas.ReasonUnknownSigner, "%s: %.60s was retired at %s", s.Subject, s.Signer, since.Std().Format(time.RFC3339))
	}
	return nil
}

// refresh is how long a change of the file may take to count.
const refresh = time.Second

// pinned is a file of keys that is read again when it changes.
type pinned struct {
	path string

	mu    sync.Mutex
	next  time.Time // not looked at before
	stamp stamp
	keys  *Authorities
	fault error
}

type stamp struct {
	mod  time.Time
	size int64
	mode os.FileMode
}

// current gives the keys in force, with the last good ones when err is not nil.
func (a *Authorities) current(now time.Time) (*Authorities, error) {
	if a.file == nil {
		return a, nil
	}
	p := a.file
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Before(p.next) {
		return p.keys, p.fault
	}
	p.next = now.Add(refresh)
	st, err := os.Stat(p.path)
	if err != nil {
		p.stamp, p.fault = stamp{}, fmt.Errorf("authorities: %w", err)
		return p.keys, p.fault
	}
	if s := (stamp{st.ModTime(), st.Size(), st.Mode()}); s != p.stamp {
		p.stamp = s
		var k *Authorities
		if k, p.fault = readAuthorities(p.path); p.fault == nil {
			p.keys = k
		}
	}
	return p.keys, p.fault
}

// LoadAuthorities reads the pinned keys, and reads them again whenever the file has
// changed. It must not be writable by others: who can write it can move VMs.
func LoadAuthorities(path string) (*Authorities, error) {
	k, err := readAuthorities(path)
	if err != nil {
		return nil, err
	}
	a := *k
	a.file = &pinned{path: path, keys: k}
	return &a, nil
}

func readAuthorities(path string) (*Authorities, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("authorities: %w", err)
	}
	if m := st.Mode().Perm(); m&0o022 != 0 {
		return nil, fmt.Errorf("authorities: %s has mode %04o and is writable by others: run `chmod 0644 %s`", path, m, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("authorities: %w", err)
	}
	var a Authorities
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("authorities: %s: %w", path, err)
	}
	for _, k := range a.keys() {
		if !nkeys.IsValidPublicUserKey(k) {
			return nil, fmt.Errorf("authorities: %s: %.60q is not a public user nkey", path, k)
		}
	}
	return &a, nil
}

// keys are all that are named, in any list.
func (a *Authorities) keys() []string {
	all := slices.Concat(a.Commands, a.Acts, a.Records, a.Tunnels)
	for _, k := range a.Actuators {
		all = append(all, k...)
	}
	for k := range a.Retired {
		all = append(all, k)
	}
	return all
}

// Save writes the pinned keys.
func (a *Authorities) Save(path string) error {
	b, err := json.MarshalIndent(a, "", "  ")
	if err == nil {
		err = json.Unmarshal(b, &Authorities{}) // what cannot be read back stays out of the file
	}
	if err != nil {
		return fmt.Errorf("authorities: %w", err)
	}
	return writeFile(path, append(b, '\n'), 0o644)
}
