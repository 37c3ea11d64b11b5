package schemas_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"

	. "github.com/foreshift/foreshift/schemas"
)

// tester is a testing.T or a rapid.T.
type tester interface {
	Helper()
	Fatal(...any)
}

func encoded(t tester, m Message) []byte {
	t.Helper()
	b, err := Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantError wants an error whose text holds all of the words, and no message.
func wantError(t *testing.T, m Message, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", words)
		return
	}
	if m != nil {
		t.Errorf("a message came along with the error %v", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not name %q", err, w)
		}
	}
}

// sameMessage compares two messages as they are, NaN equal to NaN.
func sameMessage(a, b Message) bool { return same(reflect.ValueOf(a), reflect.ValueOf(b)) }

func same(a, b reflect.Value) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	switch a.Kind() {
	case reflect.Pointer:
		return a.IsNil() == b.IsNil() && (a.IsNil() || same(a.Elem(), b.Elem()))
	case reflect.Struct:
		for i := 0; i < a.NumField(); i++ {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() || a.Kind() == reflect.Slice && a.IsNil() != b.IsNil() {
			return false
		}
		for i := 0; i < a.Len(); i++ {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Float32, reflect.Float64:
		return a.Float() == b.Float() || math.IsNaN(a.Float()) && math.IsNaN(b.Float())
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// What goes over the bus comes back equal, and the bytes are the same each time.
func TestRoundTrip(t *testing.T) {
	for _, s := range Specs() {
		in := sampleOf(s.Kind)
		b := encoded(t, in)
		out := decoded(t, s.Kind, b)
		if !bytes.Equal(encoded(t, out), b) {
			t.Errorf("%s: decoding and encoding again gives other bytes", s.Kind)
		}
		if s.Kind != KindForecasts && !sameMessage(in, out) {
			t.Errorf("%s: sent %+v, received %+v", s.Kind, in, out)
		}
		if again := encoded(t, in); !bytes.Equal(again, b) {
			t.Errorf("%s: the same message gave two encodings", s.Kind)
		}
		byHeader, err := DecodeHeader(SchemaHeader(s.Kind), b)
		if err != nil || !sameMessage(byHeader, out) {
			t.Errorf("%s: by its header: %v", s.Kind, err)
		}
	}
}

// Many goroutines encode at once from one pool of buffers.
func TestEncodeConcurrently(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			m := []Message{sampleMetrics(40 + i), sampleSteps(30 + i), sampleForecasts(1+i, 3)}[i%3]
			want, err := Encode(m)
			for range 30 {
				b, again := Encode(m)
				if err != nil || again != nil || !bytes.Equal(b, want) {
					t.Errorf("%s: other bytes, or %v, %v", m.Kind(), err, again)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A decoded message shares no memory with the bytes it came from.
func TestDecodeAliasesNothing(t *testing.T) {
	for _, s := range Specs() {
		b := encoded(t, sampleOf(s.Kind))
		m := decoded(t, s.Kind, b)
		before := encoded(t, m)
		for i := range b {
			b[i] ^= 0xa5
		}
		if !bytes.Equal(encoded(t, m), before) {
			t.Errorf("%s: changes with the bytes it was read from", s.Kind)
		}
	}
}

func TestRegistry(t *testing.T) {
	seen := map[reflect.Type]bool{}
	for _, s := range Specs() {
		if got := s.New().Kind(); got != s.Kind {
			t.Errorf("%s makes a %s", s.Kind, got)
		}
		if seen[reflect.TypeOf(s.New())] {
			t.Errorf("%s: type is registered twice", s.Kind)
		}
		seen[reflect.TypeOf(s.New())] = true
		k, major, minor, err := ParseSchemaHeader(SchemaHeader(s.Kind))
		if err != nil || k != s.Kind || major != s.Major || minor != s.Minor {
			t.Errorf("%s: header %q reads as %s %d %d %v", s.Kind, SchemaHeader(s.Kind), k, major, minor, err)
		}
	}
	if SchemaHeader(KindCapacityHost) != "capacity.host/1.1" || SchemaHeader("nonsense") != "" {
		t.Error("headers are not what the contract says")
	}
}

func TestVersions(t *testing.T) {
	vm := encoded(t, sampleOf(KindVMEntry))
	extra := bytes.Replace(vm, []byte(`{"vm"`), []byte(`{"colour":{"r":[1,null,{"a":"b"}]},"vm"`), 1)
	extraRow := encodedWithExtraColumn(t)
	for _, c := range []struct {
		header string
		b      []byte
		kind   Kind   // decoded to; empty when refused
		is     error  // the sentinel
		word   string // named in the error
	}{
		{"vm/1.0", vm, KindVMEntry, nil, ""},
		{"vm/1.7", vm, KindVMEntry, nil, ""},
		{"vm/1.7", extra, KindVMEntry, nil, ""},
		{"vm/1.0", extra, "", nil, "colour"},
		{"metrics/1.1", extraRow, KindMetrics, nil, ""},
		{"metrics/1.0", extraRow, KindMetrics, nil, ""},
		{"vm/2.0", vm, "", ErrUnknownVersion, "vm/1.0"},
		{"vm/0.9", vm, "", ErrUnknownVersion, "vm/0.9"},
		{"metrics/3.0", extraRow, "", ErrUnknownVersion, "metrics/1.0"},
		{"volume/1.0", vm, "", ErrUnknownVersion, "volume"},
		{"volume/1.0", vm, "", ErrUnknownKind, "volume"},
		{"", vm, "", ErrUnknownVersion, "header"},
		{"vm", vm, "", ErrUnknownVersion, "header"},
		{"vm/1", vm, "", ErrUnknownVersion, "header"},
		{"vm/1.", vm, "", ErrUnknownVersion, "header"},
		{"vm/+1.0", vm, "", ErrUnknownVersion, "header"},
		{"vm/1.0.0", vm, "", ErrUnknownVersion, "header"},
		{"vm/99999.0", vm, "", ErrUnknownVersion, "header"},
		{strings.Repeat("x", 500) + "/1.0", vm, "", ErrUnknownVersion, "header"},
	} {
		m, err := DecodeHeader(c.header, c.b)
		if c.kind != "" {
			if err != nil || m.Kind() != c.kind {
				t.Errorf("%s: %v", c.header, err)
			}
			continue
		}
		wantError(t, m, err, c.word)
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v is not %v", c.header, err, c.is)
		}
	}
	if m, err := Decode("nonsense", nil); !errors.Is(err, ErrUnknownKind) || m != nil {
		t.Errorf("unknown kind: %v", err)
	}
}

func TestStrictJSON(t *testing.T) {
	good := string(encoded(t, sampleOf(KindVMEntry)))
	policy := string(encoded(t, samplePolicy()))
	swap := func(s, old, new string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("%q is not in the sample", old)
		}
		return strings.Replace(s, old, new, 1)
	}
	for name, c := range map[string]struct {
		kind Kind
		text string
		word string // empty: accepted
	}{
		"spaces":             {KindVMEntry, " \n\t" + good + "\r\n ", ""},
		"null map":           {KindVMEntry, swap(good, `{"app":"web"}`, "null"), ""},
		"null list":          {KindPolicy, swap(policy, `"cordoned":["host-2"]`, `"cordoned":null`), ""},
		"missing field":      {KindVMEntry, swap(good, `"name":"web-b",`, ``), ""},
		"upper-case id":      {KindVMEntry, swap(good, "3f1c8a52", "3F1C8A52"), ""},
		"escapes":            {KindVMEntry, swap(good, `"web-b"`, `"w\u0065\"\\b"`), ""},
		"unknown":            {KindVMEntry, swap(good, `"name"`, `"nom"`), "nom"},
		"unknown nested":     {KindPolicy, swap(policy, `"version":3`, `"version":3,"x":{"y":1}`), "x"},
		"twice":              {KindVMEntry, swap(good, `"name":"web-b"`, `"name":"a","name":"web-b"`), "name: duplicate"},
		"twice in a map":     {KindVMEntry, swap(good, `{"app":"web"}`, `{"app":"a","app":"b"}`), "labels.app: duplicate"},
		"twice, escaped":     {KindVMEntry, swap(good, `{"app":"web"}`, `{"app":"a","\u0061pp":"b"}`), "labels.app: duplicate"},
		"twice, id in cases": {KindPolicy, swap(policy, `"vm_modes":{`, `"vm_modes":{"3F1C8A52-0000-4000-8000-000000000001":"auto",`), "duplicate"},
		"other case":         {KindVMEntry, swap(good, `"name"`, `"Name"`), "Name: unknown"},
		"null text":          {KindVMEntry, swap(good, `"web-b"`, `null`), "name: is null"},
		"null time":          {KindVMEntry, swap(good, `"time":"2026-03-14T09:26:53.589793238Z"`, `"time":null`), "time: is null"},
		"null message":       {KindVMEntry, `null`, "object"},
		"list":               {KindVMEntry, `[` + good + `]`, "object"},
		"empty":              {KindVMEntry, ``, "object"},
		"two objects":        {KindVMEntry, good + good, "after top-level"},
		"garbage behind":     {KindVMEntry, good + "x", "after top-level"},
		"not UTF-8":          {KindVMEntry, swap(good, `web-b`, "web-\xff"), "UTF-8"},
		"number for text":    {KindVMEntry, swap(good, `"web-b"`, `7`), "name"},
		"object for text":    {KindVMEntry, swap(good, `"web-b"`, `{}`), "name"},
		"list for text":      {KindVMEntry, swap(good, `"web-b"`, `[]`), "name"},
		"text for number":    {KindPolicy, swap(policy, `"hold_steps":2`, `"hold_steps":"2"`), "hold_steps"},
		"fraction for whole": {KindPolicy, swap(policy, `"hold_steps":2`, `"hold_steps":2.5`), "hold_steps"},
		"negative unsigned":  {KindPolicy, swap(policy, `"version":3`, `"version":-3`), "version"},
		"huge number":        {KindPolicy, swap(policy, `"margin_steps":0.5`, `"margin_steps":1e999`), "margin_steps"},
		"NaN":                {KindPolicy, swap(policy, `"margin_steps":0.5`, `"margin_steps":NaN`), ""},
		"bad id":             {KindVMEntry, swap(good, "3f1c8a52", "3f1c8a5g"), "vm id"},
		"bad time":           {KindVMEntry, swap(good, "2026-03-14T", "2026-13-14T"), "time"},
		"year 1":             {KindVMEntry, swap(good, "2026-03", "0001-03"), "time"},
		"deep":               {KindVMEntry, swap(good, `{"app":"web"}`, strings.Repeat(`{"a":`, 100)+"1"+strings.Repeat("}", 100)), "labels"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Decode(c.kind, []byte(c.text))
			if name == "NaN" { // not JSON at all
				wantError(t, m, err, "decode policy")
				return
			}
			if c.word == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, m, err, c.word)
		})
	}
	for text, word := range map[string]string{`{"value":[1,null,2]}`: "value.1: is null", `{"match":{"app":null}}`: "match.app: is null", `{"start":null,"new":[null]}`: "start: is null"} {
		m, err := DecodeHeader("external/1.9", []byte(text)) // lenient, but null is not zero
		wantError(t, m, err, word)
	}
	// Deep nesting where the newer minor's unknown fields are passed over.
	deep := swap(good, `"name"`, `"new":`+strings.Repeat("[", 10000)+strings.Repeat("]", 10000)+`,"name"`)
	m, err := DecodeHeader("vm/1.9", []byte(deep))
	wantError(t, m, err, "nested deeper")
}

// allocatedBy is how many bytes f allocates.
func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A short text cannot make a service allocate: items are paid for by bytes.
func TestHostileJSONStaysSmall(t *testing.T) {
	base := `{"host":"h","site":"s","time":"2026-03-14T09:26:53Z","vms":[`
	for _, item := range []string{"{}", "null", `{"disks":[{},{},{}]}`} {
		text := base + strings.Repeat(item+",", 200000) + item + "]}"
		allocated := allocatedBy(func() {
			if _, err := Decode(KindCapacityHost, []byte(text)); err == nil {
				t.Error("no error")
			}
		})
		if limit := uint64(4*len(text) + 1<<16); allocated > limit {
			t.Errorf("%d bytes of %q items took %d bytes of memory, at most %d are allowed", len(text), item, allocated, limit)
		}
	}
	long := []byte(`{"cordoned":[` + strings.Repeat(`"",`, 600000) + `""]}`)
	if allocated := allocatedBy(func() {
		m, err := Decode(KindPolicy, long)
		wantError(t, m, err, "cordoned: more than")
	}); allocated > 1<<16 {
		t.Errorf("%d bytes of empty names took %d bytes of memory", len(long), allocated)
	}
	m, err := Decode(KindVMEntry, bytes.Repeat([]byte(" "), MaxMessage+1))
	wantError(t, m, err, "at most")
}

// On the wire there is no null for a list or map; in memory there is no empty one.
func TestEmptyListsHaveOneForm(t *testing.T) {
	a, b := samplePolicy(), samplePolicy()
	a.Weights, a.Pinned, a.Apart = nil, nil, nil
	b.Weights, b.Pinned, b.Apart = map[string]float64{}, []VMID{}, [][]VMID{}
	x, y := encoded(t, a), encoded(t, b)
	if !bytes.Equal(x, y) || bytes.Contains(x, []byte("null")) || !bytes.Contains(x, []byte(`"weights":{},"pinned":[],"apart":[]`)) {
		t.Errorf("nil gives\n%s\nempty gives\n%s", x, y)
	}
	if m := decoded(t, KindPolicy, x); !sameMessage(m, a) {
		t.Errorf("comes back as %+v", m)
	}
	if HashJSON(a) != HashJSON(b) || HashJSON(a) == HashJSON(samplePolicy()) {
		t.Error("the hash tells nil from empty, or nothing at all")
	}
}

// What we write, the standard library reads as the same value.
func TestJSONIsStandard(t *testing.T) {
	for _, s := range Specs() {
		if s.Encoding != JSON {
			continue
		}
		m := sampleOf(s.Kind)
		ours, theirs := s.New(), s.New()
		std, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(json.Unmarshal(encoded(t, m), ours), json.Unmarshal(std, theirs)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(ours, theirs) {
			t.Errorf("%s: standard library reads\n%+v\nand of its own writing\n%+v", s.Kind, ours, theirs)
		}
	}
}

func xxh64(t *testing.T, text string) string {
	t.Helper()
	return fmt.Sprintf("%016x", xxhash.Sum64String(text))
}

func TestHashJSON(t *testing.T) {
	if h := HashJSON(map[string]int{"b": 2, "a": 1}); h != HashJSON(map[string]int{"a": 1, "b": 2}) || len(h) != 16 {
		t.Errorf("hash %q depends on the order of keys or has not 16 digits", h)
	}
	if h := HashJSON([]any{1, "a"}); h != xxh64(t, `[1,"a"]`) {
		t.Errorf("hash %q", h)
	}
	if HashJSON(math.NaN()) != "" || HashJSON(make(chan int)) != "" {
		t.Error("a value without JSON has a hash")
	}
}

func TestEncodeRefuses(t *testing.T) {
	if _, err := Encode(nil); err == nil {
		t.Error("nil was encoded")
	}
	if _, err := Encode((*Plan)(nil)); err == nil {
		t.Error("a nil plan was encoded")
	}
	if _, err := JSONLines((*Metrics)(nil)); err == nil {
		t.Error("nil metrics were printed")
	}
	p := sampleOf(KindPlan).(*Plan)
	p.Actions[0].Predicted.Gain.Cost = math.NaN()
	_, err := Encode(p)
	wantError(t, nil, err, "actions[0].predicted.gain.cost_resource_seconds")
}

// A message that was cut short anywhere is an error and never a panic.
func TestTruncated(t *testing.T) {
	for _, s := range Specs() {
		b := encoded(t, sampleOf(s.Kind))
		stride := max(1, len(b)/2000)
		for n := 0; n < len(b); n += stride {
			if m, err := Decode(s.Kind, b[:n]); err == nil || m != nil {
				t.Fatalf("%s: the first %d of %d bytes were decoded", s.Kind, n, len(b))
			}
		}
		if s.Encoding == Arrow {
			if m, err := Decode(s.Kind, append(bytes.Clone(b), 0)); err == nil || m != nil {
				t.Errorf("%s: bytes behind the stream were passed over", s.Kind)
			}
		}
	}
}

// A flipped bit gives an error or a valid message, never a panic.
func TestFlippedBits(t *testing.T) {
	for _, s := range Specs() {
		b := encoded(t, sampleOf(s.Kind))
		stride := max(1, len(b)*8/1500)
		for bit := 0; bit < len(b)*8; bit += stride {
			b[bit/8] ^= 1 << (bit % 8)
			m, err := Decode(s.Kind, b)
			if (err == nil) == (m == nil) {
				t.Fatalf("%s, bit %d: message %v, error %v", s.Kind, bit, m, err)
			}
			if err == nil && m.Validate() != nil {
				t.Fatalf("%s, bit %d: an invalid message was decoded", s.Kind, bit)
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}
