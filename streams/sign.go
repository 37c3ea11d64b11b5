package streams

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

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

// verify checks that one of the keys says it.
func verify(check Primitive, keys []string, what string, s schemas.Signed) error {
	if s.Signature == "" || s.Signer == "" {
		return refused(schemas.ReasonBadSignature, "%s: not signed", s.Subject)
	}
	if !slices.Contains(keys, s.Signer) {
		return refused(schemas.ReasonUnknownSigner, "%s: %.60s has no authority over %s", s.Subject, s.Signer, what)
	}
	return check(s.Signer, s.Subject, s.Payload, s.Signature)
}

// ed25519 is the real [Primitive].
func ed25519(signer, subject string, payload []byte, signature string) error {
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
