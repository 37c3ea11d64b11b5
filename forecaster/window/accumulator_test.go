package window

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/foreshift/foreshift/schemas"
	"pgregory.net/rapid"
)

const minute = schemas.Time(time.Minute)

// epoch is a border of base steps, far from zero.
const epoch = schemas.Time(1_700_000_100e9)

func newAcc() *Accumulator {
	return NewAccumulator(memory.NewGoAllocator(), Limits{Base: 5 * time.Minute, Late: 72, Future: 5 * time.Minute, VMs: 10})
}

var vm1 = schemas.VMID{1}

// sample is one row with only CPU and memory.
func sample(host schemas.HostID, vm schemas.VMID, t schemas.Time, interval time.Duration, cpu, mem float32) *schemas.Metrics {
	m := &schemas.Metrics{Host: host, Site: "s", Agent: "a", Seq: 1, Time: []schemas.Time{t}, VM: []schemas.VMID{vm},
		IntervalS: []float32{float32(interval.Seconds())}, Flags: []schemas.Flags{0}, AllocCPU: []float32{1000}, AllocMem: []float32{1e9}}
	m.Cols[schemas.ColCPU], m.Cols[schemas.ColMem] = []float32{cpu}, []float32{mem}
	return m
}

func (a *Accumulator) feed(m *schemas.Metrics) { a.Fold(m, int64(m.Time[0])) }

func close5(t *testing.T, got, want float32, what string) {
	t.Helper()
	if math.Abs(float64(got-want)) > 1e-5*max(1, math.Abs(float64(want))) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func TestSamplesAreSharedOutByOverlap(t *testing.T) {
	a := newAcc()
	// 2 minutes before the border and 3 after, then the rest of the step.
	a.feed(sample("h1", vm1, epoch+3*minute, 5*time.Minute, 100, 7))
	a.feed(sample("h2", vm1, epoch+5*minute, 2*time.Minute, 200, 9))
	s := schemas.StepAt(epoch, 5*time.Minute)
	rows := a.Take(vm1.Partition(), s, nil)
	if len(rows) != 2 || rows[0].Step != s-1 || rows[1].Step != s {
		t.Fatalf("%+v", rows)
	}
	close5(t, rows[0].V[0], 100, "cpu before")
	close5(t, rows[0].Coverage, .4, "coverage before")
	if !schemas.IsNaN(rows[0].V[schemas.ColCPUMax]) {
		t.Fatal("less than half of the sample and of the step made a maximum")
	}
	close5(t, rows[1].V[0], (3*100+2*200)/5., "cpu")
	close5(t, rows[1].V[schemas.ColCPUMax], 200, "max")
	close5(t, rows[1].V[schemas.ColMemMax], 9, "max mem")
	close5(t, rows[1].Coverage, 1, "coverage")
	if rows[1].Host != "h2" {
		t.Fatalf("host %s, want the last", rows[1].Host)
	}
	if !schemas.IsNaN(rows[1].V[schemas.ColNetRx]) {
		t.Fatal("missing became a number")
	}
	if more := a.Take(vm1.Partition(), s, nil); len(more) != 0 {
		t.Fatalf("handed out twice: %+v", more)
	}
}

func TestWhatIsDropped(t *testing.T) {
	a := newAcc()
	p := vm1.Partition()
	s := schemas.StepAt(epoch, 5*time.Minute)
	full := func(step schemas.Step, cpu float32) *schemas.Metrics {
		return sample("h1", vm1, step.End(5*time.Minute), 5*time.Minute, cpu, 1)
	}
	want := func(what string, c Counts) {
		t.Helper()
		if a.Counts != c {
			t.Fatalf("%s: %+v, want %+v", what, a.Counts, c)
		}
	}
	a.feed(full(s, 1))
	a.feed(full(s, 1))
	want("double in an open step", Counts{Rows: 1, Duplicate: 1})
	a.Take(p, s, nil)
	a.Close(s)
	a.Fold(full(s, 1), int64(epoch+6*minute))
	want("double of a closed step", Counts{Rows: 1, Duplicate: 2})
	a.Fold(full(s+3, 1), int64(epoch))
	want("future", Counts{Rows: 1, Duplicate: 2, Future: 1})
	a.Fold(full(s-1, 5), int64(epoch+6*minute))
	want("late", Counts{Rows: 2, Late: 1, Duplicate: 2, Future: 1})
	if rows := a.Take(p, s, nil); len(rows) != 1 || rows[0].Step != s-1 || rows[0].V[0] != 5 {
		t.Fatalf("late: %+v", rows)
	}
	a.Fold(full(s-73, 1), int64(epoch+6*minute))
	bad := full(s, 1)
	bad.IntervalS[0] = schemas.NaN()
	a.Fold(bad, int64(epoch+6*minute))
	want("too late, invalid", Counts{Rows: 2, Late: 1, TooLate: 1, Duplicate: 2, Future: 1, Invalid: 1})
	paused := sample("h2", vm1, epoch+7*minute, time.Minute, 0, 0)
	paused.Flags[0] = schemas.FlagPaused
	a.feed(paused)
	want("paused copy elsewhere", Counts{Rows: 2, Late: 1, TooLate: 1, Duplicate: 2, Future: 1, Invalid: 1, Standby: 1})
	for n := byte(2); n <= 11; n++ {
		a.feed(sample("h", schemas.VMID{n}, epoch+7*minute, time.Minute, 1, 1))
	}
	if a.Counts.Full != 1 || a.Len() != 10 {
		t.Fatalf("bound: %+v, %d VMs", a.Counts, a.Len())
	}
	a.Evict(s + Rows + 10)
	if a.Len() != 0 {
		t.Fatalf("%d VMs left", a.Len())
	}
}

// Whatever order, phase and interval the samples come in, the sum over steps of mean
// times coverage is the integral of the demand, and a shuffled order or a round trip
// through the state gives the same rows.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type s struct {
			t     schemas.Time
			width time.Duration
			v     float32
		}
		var samples []s
		at := epoch + schemas.Time(rapid.Int64Range(0, 1e12).Draw(t, "phase"))
		from := at
		var integral float64
		for n := rapid.IntRange(1, 60).Draw(t, "samples"); n > 0; n-- {
			w := time.Duration(rapid.Int64Range(1e9, 900e9).Draw(t, "interval"))
			v := rapid.Float32Range(0, 100).Draw(t, "v")
			at += schemas.Time(w)
			samples = append(samples, s{at, w, v})
			integral += float64(v) * w.Seconds()
		}
		order := rapid.Permutation(samples).Draw(t, "order")
		shuffled, sorted := newAcc(), newAcc()
		shuffled.lim.Late, sorted.lim.Late = 500, 500
		half := len(order) / 2
		for i, x := range order {
			if i == half {
				b := shuffled.AppendState(nil)
				again := newAcc()
				again.lim.Late = 500
				if rest, err := again.LoadState(b); err != nil || len(rest) != 0 {
					t.Fatalf("load: %v, %d left", err, len(rest))
				}
				if !bytes.Equal(again.AppendState(nil), b) {
					t.Fatal("state changed on its way")
				}
				shuffled = again
			}
			shuffled.Fold(sample("h", vm1, x.t, x.width, x.v, x.v), int64(at))
		}
		for _, x := range samples {
			sorted.Fold(sample("h", vm1, x.t, x.width, x.v, x.v), int64(at))
		}
		a := shuffled.Take(vm1.Partition(), math.MaxInt64/2, nil)
		b := sorted.Take(vm1.Partition(), math.MaxInt64/2, nil)
		var sum, cover float64
		for i := range a {
			sum += float64(a[i].V[0]) * float64(a[i].Coverage) * 300
			cover += float64(a[i].Coverage) * 300
			if i >= len(b) || a[i].Step != b[i].Step || math.Abs(float64(a[i].V[0]-b[i].V[0])) > 1e-3 || !same(a[i].V[schemas.ColCPUMax], b[i].V[schemas.ColCPUMax]) {
				t.Fatalf("row %d: %+v, in order %+v", i, a[i], b)
			}
		}
		if want := time.Duration(at - from).Seconds(); math.Abs(cover-want) > 1e-3*want {
			t.Fatalf("covered %v s, want %v", cover, want)
		}
		if math.Abs(sum-integral) > 1e-3*max(1, integral) {
			t.Fatalf("integral %v, want %v", sum, integral)
		}
	})
}

func TestLoadStateRefusesRubbish(t *testing.T) {
	a := newAcc()
	a.feed(sample("h1", vm1, epoch+3*minute, 5*time.Minute, 100, 7))
	b := a.AppendState(nil)
	for n := range b {
		if _, err := newAcc().LoadState(b[:n]); err == nil {
			t.Fatalf("took the first %d of %d bytes", n, len(b))
		}
	}
}

func TestRecentIsTheLastHour(t *testing.T) {
	a := newAcc()
	for i := range 1000 {
		a.feed(sample("h", vm1, epoch+schemas.Time(i)*10e9, 10*time.Second, float32(i), 1))
	}
	times, cpu, _ := a.byID[vm1].View()
	if len(times) != recentRows || cpu[recentRows-1] != 999 || times[recentRows-1]-times[0] != (recentRows-1)*10e9 {
		t.Fatalf("%d samples, last %v", len(times), cpu[len(cpu)-1])
	}
}

// BenchmarkFold reports CPU ns per value of a message of 50 VMs with 10 columns.
func BenchmarkFold(b *testing.B) {
	const n = 50
	m := &schemas.Metrics{Host: "h", Site: "s", Agent: "a", Seq: 1}
	for i := range n {
		m.VM = append(m.VM, schemas.VMID{byte(i), 1})
		m.Time, m.IntervalS, m.Flags = append(m.Time, 0), append(m.IntervalS, 10), append(m.Flags, 0)
		m.AllocCPU, m.AllocMem = append(m.AllocCPU, 1), append(m.AllocMem, 1)
		for c := range base {
			m.Cols[c] = append(m.Cols[c], float32(i))
		}
	}
	a := NewAccumulator(memory.NewGoAllocator(), Limits{Base: 5 * time.Minute, Late: 72, Future: 5 * time.Minute, VMs: 100})
	var rows []Row
	b.ReportAllocs()
	b.ResetTimer()
	from := cpuNow()
	for k := range b.N {
		t := epoch + schemas.Time(k)*10e9
		for i := range m.Time {
			m.Time[i] = t
		}
		a.Fold(m, int64(t))
		if k%30 == 29 {
			s := schemas.StepAt(t, 5*time.Minute) - 1
			for p := range schemas.Partitions {
				rows = a.Take(p, s, rows[:0])
			}
			a.Close(s)
		}
	}
	b.ReportMetric(float64((cpuNow()-from).Nanoseconds())/float64(b.N)/float64(n*base), "cpu-ns/value")
}
