package schemas

import (
	"encoding"
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

// HashJSON is the xxhash64 of a value's canonical JSON in hex, 16 digits. In the
// canonical form map keys are sorted, fields stand in the order of their type, and
// an empty and a nil list are the same, so that a hash survives the bus. A value
// that has no JSON form (NaN, a channel) gives the empty string, which equals no
// hash.
func HashJSON(v any) string {
	b, err := appendJSON(nil, v)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%016x", xxhash.Sum64(b))
}

// appendJSON appends the canonical JSON of v: what encoding/json writes, but nil
// lists and maps as [] and {} (readers then need not know Go), no HTML escapes,
// and NaN refused by the name of its field.
func appendJSON(b []byte, v any) ([]byte, error) {
	rv := reflect.ValueOf(v)
	if !rv.IsValid() {
		return append(b, "null"...), nil
	}
	return appendValue(b, rv, "")
}

// jsonField is one field of a struct as it stands on the wire.
type jsonField struct {
	name      string
	index     int
	omitEmpty bool
	typ       reflect.Type
}

var jsonFieldCache sync.Map // reflect.Type -> []jsonField

// jsonFields lists the wire fields of a struct type. Foreshift's messages have no
// embedded structs and name every field.
func jsonFields(t reflect.Type) []jsonField {
	if f, ok := jsonFieldCache.Load(t); ok {
		return f.([]jsonField)
	}
	var fs []jsonField
	for i := 0; i < t.NumField(); i++ {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		fs = append(fs, jsonField{name, i, strings.Contains(opts, "omitempty"), f.Type})
	}
	got, _ := jsonFieldCache.LoadOrStore(t, fs)
	return got.([]jsonField)
}

var textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
var timeType = reflect.TypeFor[Time]()

func appendValue(b []byte, v reflect.Value, path string) ([]byte, error) {
	t := v.Type()
	if t == timeType {
		b = append(b, '"')
		b = append(b, Time(v.Int()).String()...)
		return append(b, '"'), nil
	}
	if t.Kind() != reflect.Pointer && t.Implements(textMarshaler) {
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return appendString(b, string(text)), nil
	}
	switch t.Kind() {
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.Float32, reflect.Float64:
		return appendFloat(b, v.Float(), t.Bits(), path)
	case reflect.String:
		return appendString(b, v.String()), nil
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		return appendValue(b, v.Elem(), path)
	case reflect.Slice, reflect.Array:
		return appendList(b, v, path)
	case reflect.Map:
		return appendMap(b, v, path)
	case reflect.Struct:
		return appendStruct(b, v, path)
	}
	return nil, fmt.Errorf("%s: a %s has no JSON form", path, t)
}

func appendFloat(b []byte, f float64, bits int, path string) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, fmt.Errorf("%s: %v is not a finite number", path, f)
	}
	// Plain digits as far as people read them, exponents beyond (ES6, as encoding/json).
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, bits), nil
}

func appendList(b []byte, v reflect.Value, path string) ([]byte, error) {
	if v.Type().Elem().Kind() == reflect.Uint8 && v.Kind() == reflect.Slice {
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, v.Bytes())
		return append(b, '"'), nil
	}
	b = append(b, '[')
	var err error
	for i := 0; i < v.Len(); i++ {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(b, v.Index(i), path); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return append(b, ']'), nil
}

func appendMap(b []byte, v reflect.Value, path string) ([]byte, error) {
	keys := make([]string, 0, v.Len())
	values := make(map[string]reflect.Value, v.Len())
	for it := v.MapRange(); it.Next(); {
		k := it.Key()
		var s string
		if k.Type().Implements(textMarshaler) {
			text, err := k.Interface().(encoding.TextMarshaler).MarshalText()
			if err != nil {
				return nil, fmt.Errorf("%s: key: %w", path, err)
			}
			s = string(text)
		} else if k.Kind() == reflect.String {
			s = k.String()
		} else {
			return nil, fmt.Errorf("%s: a key of type %s has no JSON form", path, k.Type())
		}
		keys = append(keys, s)
		values[s] = it.Value()
	}
	sort.Strings(keys)
	b = append(b, '{')
	var err error
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, k), ':')
		if b, err = appendValue(b, values[k], path); err != nil {
			return nil, fmt.Errorf("key %q: %w", clip(k), err)
		}
	}
	return append(b, '}'), nil
}

func appendStruct(b []byte, v reflect.Value, path string) ([]byte, error) {
	b = append(b, '{')
	first := true
	var err error
	for _, f := range jsonFields(v.Type()) {
		fv := v.Field(f.index)
		if f.omitEmpty && fv.IsZero() {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendString(b, f.name), ':')
		if b, err = appendValue(b, fv, f.name); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

const hexDigits = "0123456789abcdef"

// appendString quotes s. What is not UTF-8 becomes U+FFFD, as in encoding/json.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\t':
				b = append(b, '\\', 't')
			case '\r':
				b = append(b, '\\', 'r')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			b = append(b, s[start:i]...)
			b = append(b, "\ufffd"...)
			start = i + 1
		}
		i += n
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
