package schemas

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Bounds on JSON before anything is allocated for it.
const (
	maxDepth = 16     // nesting of objects and lists
	maxItems = 262144 // items of one list or keys of one map

	// A list item, object or null may cost a few hundred bytes of memory, however
	// short its text. Real ones are longer than this many bytes on average, so the
	// bound keeps the memory within a small multiple of the input.
	bytesPerItem = 16
)

// decodeJSON reads one JSON object into m. It scans the text first, along the Go
// type: encoding/json alone would let through a field that is given twice, differs
// in case, or is null, and would allocate for as many empty list items as a hostile
// text can hold. Strict is also closed to unknown fields.
func decodeJSON(m Message, b []byte, strict bool) error {
	if !utf8.Valid(b) {
		return errors.New("not UTF-8")
	}
	s := scanner{b: b, strict: strict, items: 64 + len(b)/bytesPerItem}
	t := reflect.TypeOf(m).Elem()
	s.space()
	if s.peek() != '{' {
		return errors.New("not a JSON object")
	}
	if err := s.value(t, 0); err != nil {
		return err
	}
	if s.space(); s.i != len(b) {
		return fmt.Errorf("trailing bytes after the object, at %d", s.i)
	}
	if err := json.Unmarshal(b, m); err != nil {
		return plainJSONError(err)
	}
	dropEmpty(reflect.ValueOf(m).Elem())
	return nil
}

// plainJSONError names the field of a type error as on the wire.
func plainJSONError(err error) error {
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) && t.Field != "" {
		return fmt.Errorf("%s: a JSON %s does not fit a %s", t.Field, clip(t.Value), t.Type)
	}
	return err
}

// scanner walks JSON text along a Go type and checks what encoding/json does not.
// What it does not understand it leaves to encoding/json to refuse.
type scanner struct {
	b      []byte
	i      int
	strict bool
	items  int // how many more list items, objects and nulls are allowed
}

var errSyntax = errors.New("malformed JSON")

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek is the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) syntax() error {
	if s.i >= len(s.b) {
		return fmt.Errorf("%w: ends too early, at byte %d", errSyntax, len(s.b))
	}
	return fmt.Errorf("%w at byte %d", errSyntax, s.i)
}

// charge counts an item that costs memory beyond its text.
func (s *scanner) charge() error {
	if s.items--; s.items < 0 {
		return fmt.Errorf("too many items for %d bytes of text", len(s.b))
	}
	return nil
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// scalarText tells the types that are text in JSON, whatever they are in Go.
func scalarText(t reflect.Type) bool {
	return t == timeType || reflect.PointerTo(t).Implements(textUnmarshaler)
}

// value scans one value that goes into type t; nil t means an unknown field.
func (s *scanner) value(t reflect.Type, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	for t != nil && t.Kind() == reflect.Pointer {
		if s.space(); s.peek() == 'n' {
			return s.null(t)
		}
		t = t.Elem()
	}
	s.space()
	switch s.peek() {
	case '{':
		return s.object(t, depth)
	case '[':
		return s.list(t, depth)
	case '"':
		_, err := s.text()
		return err
	case 'n':
		return s.null(t)
	case 0:
		return s.syntax()
	}
	return s.literal()
}

// null is allowed where Go has a nil.
func (s *scanner) null(t reflect.Type) error {
	if err := s.charge(); err != nil {
		return err
	}
	if t != nil {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
		default:
			return errors.New("is null")
		}
	}
	return s.literal()
}

// literal passes over a number, true, false or null.
func (s *scanner) literal() error {
	start := s.i
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ',', ']', '}', ' ', '\t', '\n', '\r':
			if s.i == start {
				return s.syntax()
			}
			return nil
		case '{', '[', '"', ':':
			return s.syntax()
		}
		s.i++
	}
	if s.i == start {
		return s.syntax()
	}
	return nil
}

// text passes over a string and gives what stands between its quotes.
func (s *scanner) text() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.syntax()
	}
	start := s.i + 1
	for i := start; i < len(s.b); i++ {
		switch s.b[i] {
		case '"':
			s.i = i + 1
			return s.b[start:i], nil
		case '\\':
			i++
		}
	}
	s.i = len(s.b)
	return nil, s.syntax()
}

// key reads an object's key and the colon after it.
func (s *scanner) key() ([]byte, error) {
	s.space()
	start := s.i
	k, err := s.text()
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(k, '\\') >= 0 {
		var plain string
		if err := json.Unmarshal(s.b[start:s.i], &plain); err != nil {
			return nil, s.syntax()
		}
		k = []byte(plain)
	}
	s.space()
	if s.peek() != ':' {
		return nil, s.syntax()
	}
	s.i++
	return k, nil
}

func (s *scanner) list(t reflect.Type, depth int) error {
	var elem reflect.Type
	if t != nil {
		switch {
		case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
			elem = t.Elem()
		default:
			return fmt.Errorf("a JSON list does not fit a %s", t)
		}
	}
	if err := s.charge(); err != nil {
		return err
	}
	s.i++
	for n := 0; ; n++ {
		s.space()
		if n == 0 && s.peek() == ']' {
			s.i++
			return nil
		}
		if n == maxItems {
			return fmt.Errorf("more than %d items", maxItems)
		}
		if err := s.value(elem, depth+1); err != nil {
			return at(fmt.Sprintf("[%d]", n), err)
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
		case ']':
			s.i++
			return nil
		default:
			return s.syntax()
		}
	}
}

// object scans a struct, a map or an unknown object.
func (s *scanner) object(t reflect.Type, depth int) error {
	var fields []jsonField
	var elem reflect.Type
	isStruct := false
	if t != nil {
		switch {
		case scalarText(t):
			return fmt.Errorf("a JSON object does not fit a %s", t)
		case t.Kind() == reflect.Struct:
			isStruct, fields = true, jsonFields(t)
		case t.Kind() == reflect.Map:
			elem = t.Elem()
		default:
			return fmt.Errorf("a JSON object does not fit a %s", t)
		}
	}
	if err := s.charge(); err != nil {
		return err
	}
	s.i++
	var given uint64             // fields of a struct that were given
	var keys map[string]struct{} // keys of anything else
	fold := t != nil && !isStruct && scalarText(t.Key())
	for n := 0; ; n++ {
		s.space()
		if n == 0 && s.peek() == '}' {
			s.i++
			return nil
		}
		k, err := s.key()
		if err != nil {
			return err
		}
		next := elem
		if isStruct {
			i, err := s.field(fields, k, n)
			if err != nil {
				return err
			}
			next = nil
			if i >= 0 {
				if given&(1<<i) != 0 {
					return fmt.Errorf("%s: is given twice", fields[i].name)
				}
				given |= 1 << i
				next = fields[i].typ
			}
		} else {
			if fold { // ids are read in either case
				k = bytes.ToLower(k)
			}
			if _, twice := keys[string(k)]; twice {
				return fmt.Errorf("%s: is given twice", clip(string(k)))
			}
			if len(keys) == maxItems {
				return fmt.Errorf("more than %d keys", maxItems)
			}
			if keys == nil {
				keys = make(map[string]struct{})
			}
			keys[string(k)] = struct{}{}
			if err := s.charge(); err != nil {
				return err
			}
		}
		if err := s.value(next, depth+1); err != nil {
			return at(string(k), err)
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
		case '}':
			s.i++
			return nil
		default:
			return s.syntax()
		}
	}
}

// field finds a struct's field by its exact name; -1 for one to pass over. Fields
// mostly come in their order, the n-th key being the n-th field.
func (s *scanner) field(fields []jsonField, k []byte, n int) (int, error) {
	if n < len(fields) && fields[n].name == string(k) {
		return n, nil
	}
	for i := range fields {
		if fields[i].name == string(k) {
			return i, nil
		}
	}
	for i := range fields {
		// encoding/json would take it for the field, whoever reads it otherwise not.
		if strings.EqualFold(fields[i].name, string(k)) {
			return 0, fmt.Errorf("%s: must be written %s", clip(string(k)), fields[i].name)
		}
	}
	if s.strict {
		return 0, fmt.Errorf("%s: unknown field", clip(string(k)))
	}
	return -1, nil
}

// at puts the name of the enclosing field before a fault.
func at(name string, err error) error {
	if errors.Is(err, errSyntax) {
		return err
	}
	return fmt.Errorf("%s: %w", clip(name), err)
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
		for i := 0; i < v.NumField(); i++ {
			dropEmpty(v.Field(i))
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
			return
		}
		switch v.Type().Elem().Kind() {
		case reflect.Struct, reflect.Slice, reflect.Map, reflect.Pointer:
			for i := 0; i < v.Len(); i++ {
				dropEmpty(v.Index(i))
			}
		}
	case reflect.Map:
		// Values of maps are scalars, flat structs or lists of strings: nothing to drop.
		if v.Len() == 0 {
			v.SetZero()
		}
	}
}
