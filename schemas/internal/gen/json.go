package main

import (
	"reflect"

	"github.com/invopop/jsonschema"

	"github.com/foreshift/foreshift/schemas"
)

// jsonSchema reflects the Go type of a kind.
func jsonSchema(s schemas.Spec) *jsonschema.Schema {
	r := &jsonschema.Reflector{ExpandedStruct: true, Anonymous: true, Mapper: mapped, LookupComment: common}
	sch := r.ReflectFromType(reflect.TypeOf(s.New()).Elem())
	sch.ID = jsonschema.ID(urn(s))
	sch.Title = "Foreshift " + string(s.Kind)
	sch.Description = s.Title + "; header " + schemas.HeaderSchema + ": " + s.Header()
	return sch
}

const idPattern = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

func text(description string) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Description: description}
}

func token(description string) *jsonschema.Schema {
	s := text(description)
	s.Pattern = "^[A-Za-z0-9_-]{0,64}$"
	return s
}

// words is a closed set of values.
func words[T ~string](description string, vs ...T) *jsonschema.Schema {
	s := text(description)
	for _, v := range vs {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}

// mapped gives the types that are text on the wire their form.
func mapped(t reflect.Type) *jsonschema.Schema {
	switch reflect.New(t).Interface().(type) {
	case *schemas.VMID:
		s := text("the VM: UUID of its libvirt domain; all zero when none")
		s.Pattern = idPattern
		return s
	case *schemas.Time:
		s := text("time, RFC 3339 in UTC; empty when unknown")
		s.Pattern = `^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9:]+))?$`
		return s
	case *schemas.HostID:
		return token("id of a host")
	case *schemas.SiteID:
		return token("id of a site")
	case *schemas.PlanID:
		return token("id of a plan")
	case *schemas.CommandID:
		return token("id of a move")
	case *schemas.VMState:
		return words("state of a libvirt domain", schemas.VMRunning, schemas.VMPaused, schemas.VMShutOff, schemas.VMCrashed, schemas.VMOther, schemas.VMStopping)
	case *schemas.Cause:
		return words("why there is pressure", schemas.CauseOwnLimit, schemas.CauseHostContention)
	case *schemas.Mode:
		return words("how much Foreshift may do by itself; empty when not told", "", schemas.ModeObserve, schemas.ModeRecommend, schemas.ModeApprove, schemas.ModeAuto)
	case *schemas.ActKind:
		return words("what the operator does", schemas.ActKinds...)
	case *schemas.ActionState:
		return words("where the move stands", schemas.ActionPlanned, schemas.ActionWaiting, schemas.ActionCommanded)
	case *schemas.Op:
		return words("what is asked", schemas.OpObserve, schemas.OpPrepare, schemas.OpFinish, schemas.OpResume, schemas.OpRelease)
	case *schemas.Result:
		return words("how the command ended", schemas.ResultSucceeded, schemas.ResultFailed, schemas.ResultRefused, schemas.ResultUnknown)
	case *schemas.Phase:
		return words("where the move stands", schemas.PhaseAccepted, schemas.PhasePrepare, schemas.PhaseDisk, schemas.PhasePreCopy, schemas.PhaseSwitchover,
			schemas.PhaseHandOver, schemas.PhaseFinish, schemas.PhaseResume, schemas.PhaseConfirm, schemas.PhaseRollback, schemas.PhaseDone, schemas.PhaseUnknown)
	}
	return nil
}

// common describes the fields that mean the same in every message, by their type
// or else by their name.
func common(t reflect.Type, field string) string {
	if field == "" || t.Kind() != reflect.Struct {
		return ""
	}
	if f, ok := t.FieldByName(field); ok {
		if m := mapped(f.Type); m != nil {
			return m.Description
		}
	}
	switch field {
	case "Name":
		return "name, for people"
	case "Labels":
		return "labels, as operators give them"
	case "Match":
		return "labels of the VMs concerned; empty = all"
	case "Header":
		return "NATS headers of the message"
	case "Payload":
		return "the message's bytes, base64"
	case "Stream":
		return "name of the stream"
	case "Subject":
		return "NATS subject"
	case "Signature":
		return "nkeys signature over subject and payload"
	case "Signer":
		return "public nkey of the signer"
	case "Path":
		return "path on the host"
	}
	return ""
}
