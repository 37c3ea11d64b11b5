package libvirt

import (
	"context"
	"errors"
	"fmt"

	lv "github.com/digitalocean/go-libvirt"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// Class is what an error means to whoever called.
type Class uint8

// The classes. After Lost and TimedOut the call's result is unknown, and nothing is
// known of the VM.
const (
	Refused  Class = iota // the daemon said no
	NotFound              // the host has no such VM
	Aborted               // the job was ended on request
	Lost                  // the connection went
	TimedOut              // the deadline passed; the connection was closed
)

var classNames = [...]string{"refused", "not found", "aborted", "connection lost", "timed out"}

func (c Class) String() string { return classNames[c] }

// Error is a failed call.
type Error struct {
	Op    string
	Class Class
	Code  uint32 // libvirt's VIR_ERR_*, 0 when the daemon did not answer
	Err   error
}

func (e *Error) Error() string {
	if e.Code != 0 {
		return fmt.Sprintf("libvirt %s: %s (code %d): %v", e.Op, e.Class, e.Code, e.Err)
	}
	return fmt.Sprintf("libvirt %s: %s: %v", e.Op, e.Class, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Is makes Lost and TimedOut [migration.ErrUnclear].
func (e *Error) Is(target error) bool {
	return target == migration.ErrUnclear && (e.Class == Lost || e.Class == TimedOut)
}

// Reason is the error as a typed reason.
func (e *Error) Reason() schemas.Reason {
	code := schemas.ReasonLibvirt
	switch e.Class {
	case Refused:
		if lv.ErrorNumber(e.Code) == lv.ErrMigrateUnsafe {
			code = schemas.ReasonUnsafe // libvirt's own rule on caches and shared storage
		}
	case NotFound:
		code = schemas.ReasonNotHere
	case Aborted:
		code = schemas.ReasonAborted
	case Lost, TimedOut:
		code = schemas.ReasonConnectionLost
	}
	return schemas.Reason{Code: code, Detail: e.Error()}
}

// classify wraps what go-libvirt returned. Whatever is not the daemon's own word is
// a lost connection: EINVAL, ErrInterrupted, EOF and their like.
func classify(op string, err error) error {
	if err == nil {
		return nil
	}
	e := &Error{Op: op, Class: Lost, Err: err}
	var own lv.Error
	switch {
	case errors.As(err, &own):
		e.Code, e.Class = own.Code, Refused
		switch lv.ErrorNumber(own.Code) {
		case lv.ErrNoDomain, lv.ErrNoStoragePool, lv.ErrNoStorageVol:
			e.Class = NotFound
		case lv.ErrOperationAborted:
			e.Class = Aborted
		}
	case errors.Is(err, lv.ErrUnsupported):
		e.Class = Refused
	case errors.Is(err, context.DeadlineExceeded):
		e.Class = TimedOut
	}
	return e
}

func isNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Class == NotFound
}

func isRefused(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Class == Refused
}

func refuse(op, why string) error {
	return &Error{Op: op, Class: Refused, Err: errors.New(why)}
}
