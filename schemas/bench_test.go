package schemas_test

import (
	"testing"

	. "github.com/foreshift/foreshift/schemas"
)

func benchEncode(b *testing.B, m Message) {
	b.ReportAllocs()
	for b.Loop() {
		out, err := Encode(m)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(out)))
	}
}

func benchDecode(b *testing.B, m Message) {
	in, err := Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(m.Kind(), in); err != nil {
			b.Fatal(err)
		}
	}
}

// The figures to hold: metrics of 50 rows encode in less than 40 us.

func BenchmarkEncodeMetrics50(b *testing.B)   { benchEncode(b, sampleMetrics(50)) }
func BenchmarkDecodeMetrics50(b *testing.B)   { benchDecode(b, sampleMetrics(50)) }
func BenchmarkEncodeSteps50(b *testing.B)     { benchEncode(b, sampleSteps(50)) }
func BenchmarkDecodeSteps50(b *testing.B)     { benchDecode(b, sampleSteps(50)) }
func BenchmarkEncodeForecasts64(b *testing.B) { benchEncode(b, sampleForecasts(64, NumScenarios)) }
func BenchmarkDecodeForecasts64(b *testing.B) { benchDecode(b, sampleForecasts(64, NumScenarios)) }

func capacity50() Message {
	m := sampleOf(KindCapacityHost).(*CapacityHost)
	m.VMs = sampleInventory(50)
	return m
}

func BenchmarkEncodeCapacity50(b *testing.B) { benchEncode(b, capacity50()) }
func BenchmarkDecodeCapacity50(b *testing.B) { benchDecode(b, capacity50()) }

func BenchmarkEncodePlan(b *testing.B) { benchEncode(b, sampleOf(KindPlan)) }
func BenchmarkDecodePlan(b *testing.B) { benchDecode(b, sampleOf(KindPlan)) }

func BenchmarkHashPlan(b *testing.B) {
	m := sampleOf(KindPlan)
	b.ReportAllocs()
	for b.Loop() {
		HashJSON(m)
	}
}

func BenchmarkJSONLinesForecasts64(b *testing.B) {
	m := sampleForecasts(64, NumScenarios)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := JSONLines(m); err != nil {
			b.Fatal(err)
		}
	}
}
