package schemas_test

import (
	"bytes"
	"encoding/json"
	"testing"

	. "github.com/foreshift/foreshift/schemas"
)

// kindsOf lists the kinds of an encoding in the order of the registry.
func kindsOf(e Encoding) []Spec {
	var ss []Spec
	for _, s := range Specs() {
		if s.Encoding == e {
			ss = append(ss, s)
		}
	}
	return ss
}

// fuzzDecode holds for all bytes: an error, or a valid message that goes over the
// bus again unchanged; and memory in proportion to the input.
func fuzzDecode(f *testing.F, e Encoding) {
	specs := kindsOf(e)
	for i, s := range specs {
		b := sampleBytes(f, s)
		if s.Kind == KindForecasts { // a small one: the fuzzer is quicker
			b = encodedSmall(f)
		}
		f.Add(uint8(i), b)
		f.Add(uint8(i+1), b)
		f.Add(uint8(i), b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, i uint8, b []byte) {
		s := specs[int(i)%len(specs)]
		later, laterErr := DecodeHeader(string(s.Kind)+"/1.99", b)
		m, err := Decode(s.Kind, b)
		if err != nil {
			if m != nil {
				t.Fatalf("a message came along with the error %v", err)
			}
			return
		}
		if laterErr != nil || !sameMessage(m, later) {
			t.Fatalf("as a newer minor version: %v", laterErr)
		}
		if err := m.Validate(); err != nil {
			t.Fatalf("decoded, but invalid: %v", err)
		}
		once := encoded(t, m)
		again := decoded(t, s.Kind, once)
		if !sameMessage(m, again) {
			t.Fatalf("decoded\n%+v\nand after encoding\n%+v", m, again)
		}
		if !bytes.Equal(encoded(t, again), once) {
			t.Fatal("two encodings differ")
		}
		lines, err := JSONLines(m)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(lines) {
			if !json.Valid(line) {
				t.Fatalf("line is not JSON: %s", cut(line))
			}
		}
	})
}

func encodedSmall(f *testing.F) []byte {
	f.Helper()
	b, err := Encode(sampleForecasts(1, 1))
	if err != nil {
		f.Fatal(err)
	}
	return b
}

func sampleBytes(f *testing.F, s Spec) []byte {
	f.Helper()
	b, err := Encode(sampleOf(s.Kind))
	if err != nil {
		f.Fatal(err)
	}
	return b
}

func FuzzDecodeJSON(f *testing.F)  { fuzzDecode(f, JSON) }
func FuzzDecodeArrow(f *testing.F) { fuzzDecode(f, Arrow) }

func FuzzParseVMID(f *testing.F) {
	f.Add("3f1c8a52-0000-4000-8000-00000000002a")
	f.Add("3F1C8A52-0000-4000-8000-00000000002A")
	f.Add("3f1c8a52-0000-4000-8000_00000000002a")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVMID(s)
		if err != nil {
			return
		}
		if back, err := ParseVMID(v.String()); err != nil || back != v {
			t.Fatalf("%q -> %s -> %s, %v", s, v, back, err)
		}
		if !bytes.EqualFold([]byte(s), []byte(v.String())) {
			t.Fatalf("%q reads as %s", s, v)
		}
	})
}

func FuzzTime(f *testing.F) {
	f.Add([]byte(`"2026-03-14T09:26:53.589793238Z"`))
	f.Add([]byte(`"2026-03-14T09:26:53+01:00"`))
	f.Add([]byte(`""`))
	f.Add([]byte(`"2250-12-31T23:59:59.999999999-23:59"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v, back Time
		if json.Unmarshal(b, &v) != nil {
			return
		}
		out, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &back); err != nil || back != v {
			t.Fatalf("%s -> %d -> %s -> %d, %v", b, v, out, back, err)
		}
	})
}
