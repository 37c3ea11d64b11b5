package streams

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/schemas"
	"github.com/nats-io/nkeys"
)

// signedText is what a signature covers: the subject, a line feed, the payload.
// The subject is inside, so that a genuine message cannot be passed off on
// another subject.
func signedText(subject string, payload []byte) []byte {
	b := make([]byte, 0, len(subject)+1+len(payload))
	b = append(b, subject...)
	b = append(b, '\n')
	return append(b, payload...)
}

// Sign gives the value of header Foreshift-Signature: Ed25519 over the subject, a
// line feed and the payload, in base64. Empty when the key cannot sign, which
// every verification refuses.
func Sign(kp nkeys.KeyPair, subject string, payload []byte) string {
	sig, err := kp.Sign(signedText(subject, payload))
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(sig)
}

// SignatureError says why a message is not taken as authentic.
type SignatureError struct{ Reason schemas.Reason }

func (e *SignatureError) Error() string { return e.Reason.String() }

// ReasonOf gives the typed reason of a failed verification.
func ReasonOf(err error) schemas.Reason {
	var s *SignatureError
	switch {
	case err == nil:
		return schemas.Reason{Code: schemas.ReasonOK}
	case errors.As(err, &s):
		return s.Reason
	default:
		return schemas.Reason{Code: schemas.ReasonInvalid, Detail: err.Error()}
	}
}

func refused(code schemas.ReasonCode, format string, args ...any) error {
	return &SignatureError{schemas.Reason{Code: code, Detail: fmt.Sprintf(format, args...)}}
}

// Authorities are the pinned public keys (nkeys, "U...") whose word counts.
// Several keys per list let one be rotated in before the other is taken out.
type Authorities struct {
	Commands  []string            `json:"commands"`  // placers
	Acts      []string            `json:"acts"`      // operators
	Actuators map[string][]string `json:"actuators"` // by host
	Records   []string            `json:"records"`   // recorders
}

// VerifyCommand checks that a placer ordered it.
func (a *Authorities) VerifyCommand(s schemas.Signed) error {
	return verify(a.Commands, "commands", s.Subject, s.Payload, s.Signature, s.Signer)
}

// VerifyAct checks that an operator said it. The heartbeat is the placer's, and a
// policy may be proposed by a placer.
func (a *Authorities) VerifyAct(s schemas.Signed) error {
	keys := a.Acts
	switch s.Subject {
	case SubjectAct(schemas.ActHeartbeat):
		keys = a.Commands
	case SubjectAct(schemas.ActPolicy):
		keys = slices.Concat(a.Acts, a.Commands)
	}
	return verify(keys, "acts", s.Subject, s.Payload, s.Signature, s.Signer)
}

// VerifyActuator checks that the host's own actuator said it.
func (a *Authorities) VerifyActuator(host schemas.HostID, subject string, payload []byte, signature, signer string) error {
	return verify(a.Actuators[string(host)], "host "+string(host), subject, payload, signature, signer)
}

func verify(keys []string, what, subject string, payload []byte, signature, signer string) error {
	if signature == "" || signer == "" {
		return refused(schemas.ReasonBadSignature, "%s: not signed", subject)
	}
	if !slices.Contains(keys, signer) {
		return refused(schemas.ReasonUnknownSigner, "%s: %.60s has no authority over %s", subject, signer, what)
	}
	pub, err := nkeys.FromPublicKey(signer)
	if err != nil {
		return refused(schemas.ReasonUnknownSigner, "%s: %.60s is not a public nkey", subject, signer)
	}
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return refused(schemas.ReasonBadSignature, "%s: not base64", subject)
	}
	if err := pub.Verify(signedText(subject, payload), sig); err != nil {
		return refused(schemas.ReasonBadSignature, "%s: %v", subject, err)
	}
	return nil
}

// verifyEvent checks what deciders are told in the name of a placer or an
// operator. Other messages pass.
func (a *Authorities) verifyEvent(s schemas.Signed) error {
	var check func(schemas.Signed) error
	switch {
	case matches("acts.*", s.Subject):
		check = a.VerifyAct
	case matches("migrations.*.command.*.*", s.Subject):
		check = a.VerifyCommand
	case matches("migrations.*.outcome.*", s.Subject):
		host := s.Subject[strings.LastIndexByte(s.Subject, '.')+1:]
		return a.VerifyActuator(schemas.HostID(host), s.Subject, s.Payload, s.Signature, s.Signer)
	default:
		return nil
	}
	return check(s)
}

// LoadAuthorities reads the pinned keys. The file must not be writable by others:
// who can write it can move VMs.
func LoadAuthorities(path string) (*Authorities, error) {
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
	all := slices.Concat(a.Commands, a.Acts, a.Records)
	for _, k := range a.Actuators {
		all = append(all, k...)
	}
	for _, k := range all {
		if !nkeys.IsValidPublicUserKey(k) {
			return nil, fmt.Errorf("authorities: %s: %.60q is not a public user nkey", path, k)
		}
	}
	return &a, nil
}

// Save writes the pinned keys.
func (a *Authorities) Save(path string) error {
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("authorities: %w", err)
	}
	return writeFile(path, append(b, '\n'), 0o644)
}
