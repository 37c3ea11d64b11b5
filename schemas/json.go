package schemas

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// JSON is read and written by the Go team's encoding/json/v2. Its defaults are what
// a contract needs: a name given twice, in another case or not in UTF-8 is refused,
// and nil lists and maps are written as [] and {}. This file adds the bounds on
// hostile text, the refusal of null where Go has no nil, and the names of fields in
// errors.

// Bounds on JSON before anything is allocated for it.
const (
	maxDepth  = 16     // nesting of objects and lists
	maxLength = 524288 // items of one list, or names and values of one object

	// An object, list or null may cost a few hundred bytes of memory, however short
	// its text. Real ones are longer than this many bytes on average, so the bound
	// keeps the memory within a fixed multiple of the input; short messages have
	// some free.
	bytesPerItem = 32
	freeItems    = 1024
)

// canonical is the one JSON form of a value: fields in the order of their type, map
// keys sorted. What is not UTF-8 becomes U+FFFD: a dead letter tells of any garbage,
// and wherever else it matters Validate refuses it.
var canonical = json.JoinOptions(json.Deterministic(true), jsontext.AllowInvalidUTF8(true))

func encodeJSON(v any) ([]byte, error) {
	b, err := json.Marshal(v, canonical)
	if err != nil {
		return nil, wireError(err)
	}
	return b, nil
}

// HashJSON is the xxhash64 of a value's canonical JSON in hex, 16 digits. In the
// canonical form map keys are sorted, fields stand in the order of their type, and
// an empty and a nil list are the same, so that a hash survives the bus. A value
// that has no JSON form (NaN, a channel) gives the empty string, which equals no
// hash.
func HashJSON(v any) string {
	b, err := json.Marshal(v, canonical)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%016x", xxhash.Sum64(b))
}

// decodeJSON reads one JSON object into m. Strict is also closed to unknown fields.
func decodeJSON(m Message, b []byte, strict bool) error {
	if err := checkJSON(b); err != nil {
		return wireError(err)
	}
	if err := json.Unmarshal(b, m, json.RejectUnknownMembers(strict), json.WithUnmarshalers(noNull)); err != nil {
		return wireError(err)
	}
	dropEmpty(reflect.ValueOf(m).Elem())
	return nil
}

// checkJSON walks the tokens of the first value in b, which has to be an object of
// bounded depth and few enough items for its size. Names and UTF-8 are left to the
// decoder, which looks at them anyway.
func checkJSON(b []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(b), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if d.PeekKind() != jsontext.KindBeginObject {
		return errors.New("not a JSON object")
	}
	items := freeItems + len(b)/bytesPerItem
	for {
		t, err := d.ReadToken()
		if err != nil {
			return err
		}
		switch t.Kind() {
		case jsontext.KindBeginObject, jsontext.KindBeginArray, jsontext.KindNull:
			if items--; items < 0 {
				return fmt.Errorf("too many items for %d bytes of text", len(b))
			}
		}
		depth := d.StackDepth()
		if depth == 0 {
			return nil
		}
		if depth > maxDepth {
			return fmt.Errorf("%s: nested deeper than %d", wireName(d.StackPointer()), maxDepth)
		}
		if _, n := d.StackIndex(depth); n > maxLength {
			return fmt.Errorf("%s: more than %d items", wireName(d.StackPointer().Parent()), maxLength)
		}
	}
}

// noNull refuses null where Go has no nil: it would read as zero, and missing is
// never zero.
var noNull = json.UnmarshalFromFunc(func(d *jsontext.Decoder, v any) error {
	if d.PeekKind() == jsontext.KindNull {
		switch reflect.TypeOf(v).Elem().Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
		default:
			return errors.New("is null")
		}
	}
	return errors.ErrUnsupported // read it as usual
})

// wireError puts a JSON error in plain words and names the field as on the wire.
func wireError(err error) error {
	var at jsontext.Pointer
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		at, err = e.JSONPointer, fmt.Errorf("%w at byte %d", e.Err, e.ByteOffset)
	} else if e, ok := errors.AsType[*json.SemanticError](err); ok {
		if at, err = e.JSONPointer, e.Err; err == nil {
			err = fmt.Errorf("a JSON %s does not fit a %s", e.JSONKind, e.GoType)
		}
	}
	if at == "" {
		return err
	}
	return fmt.Errorf("%s: %w", wireName(at), err)
}

// wireName writes a place in JSON as vms.3.name.
func wireName(at jsontext.Pointer) string {
	return clip(strings.ReplaceAll(strings.TrimPrefix(string(at), "/"), "/", "."))
}

// dropEmpty makes empty lists and maps nil, so that a value that went over the bus
// equals the one that was sent.
func dropEmpty(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			dropEmpty(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			dropEmpty(v.Field(i))
		}
	case reflect.Map: // its values hold nothing to drop
		if v.Len() == 0 {
			v.SetZero()
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
			return
		}
		switch v.Type().Elem().Kind() {
		case reflect.Struct, reflect.Slice, reflect.Map, reflect.Pointer:
			for i := range v.Len() {
				dropEmpty(v.Index(i))
			}
		}
	}
}
