package scale

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/nats-io/nats.go/jetstream"
)

// figures reads a process's metrics by name and labels, as the text format writes them.
func (p *proc) figures(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	out := map[string]float64{}
	sc := bufio.NewScanner(res.Body)
	for sc.Scan() {
		name, value, ok := strings.Cut(sc.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && !strings.HasPrefix(name, "#") {
			out[name] = v
		}
	}
	return out, sc.Err()
}

func partitions(stage string) string {
	return fmt.Sprintf("foreshift_forecaster_partitions{stage=%q}", stage)
}

// until asks again and again until ok, and says how long that took.
func until(ctx context.Context, within time.Duration, what string, ok func() (bool, error)) (time.Duration, error) {
	begun := time.Now()
	for {
		good, err := ok()
		if good {
			return time.Since(begun), nil
		}
		if time.Since(begun) > within || ctx.Err() != nil {
			return 0, fmt.Errorf("%s: not within %v (%w)", what, within, err)
		}
		time.Sleep(25 * time.Millisecond)
	}
}

// even waits until the processes hold all partitions, none more than its share.
func (r *rig) even(ctx context.Context, within time.Duration, procs ...*proc) (time.Duration, error) {
	return until(ctx, within, fmt.Sprintf("%d share the partitions", len(procs)), func() (bool, error) {
		sum := 0
		for _, p := range procs {
			f, err := p.figures(ctx)
			n := int(f[partitions("taken")])
			if err != nil || n != int(f[partitions("owned")]) || n > (schemas.Partitions+len(procs)-1)/len(procs) {
				return false, err
			}
			sum += n
		}
		return sum == schemas.Partitions, nil
	})
}

// listen collects forecasts of a while.
func (r *rig) listen(ctx context.Context, f func(streams.Event)) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- r.reader.Consume(ctx, "bench", streams.Input{Stream: streams.Forecasts, From: streams.FromNew}, f)
	}()
	return func() error { cancel(); return <-done }
}

// gaps watches who holds the partitions; the returned function ends that and gives the
// longest time, in seconds, that one was given up and not taken yet.
func (r *rig) gaps(ctx context.Context) (func() (float64, error), error) {
	kv, err := r.reader.Tel.JS.KeyValue(ctx, streams.BucketLeases)
	if err != nil {
		return nil, err
	}
	w, err := kv.Watch(ctx, "forecaster.part.*", jetstream.UpdatesOnly())
	if err != nil {
		return nil, err
	}
	longest, done := time.Duration(0), make(chan struct{})
	go func() {
		defer close(done)
		free := map[string]time.Time{}
		for e := range w.Updates() {
			if e == nil {
				continue
			}
			if e.Operation() != jetstream.KeyValuePut {
				free[e.Key()] = e.Created()
			} else if at, ok := free[e.Key()]; ok {
				longest = max(longest, e.Created().Sub(at))
				delete(free, e.Key())
			}
		}
	}()
	return func() (float64, error) {
		err := w.Stop()
		<-done
		return longest.Seconds(), err
	}, nil
}

// again waits until every VM has a forecast made after the call.
func (r *rig) again(ctx context.Context, within time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	begun := time.Now()
	seen := map[schemas.VMID]bool{}
	complete := make(chan time.Duration, 1)
	stop := r.listen(ctx, func(e streams.Event) {
		m, ok := e.Msg.(*schemas.Forecasts)
		if !ok || e.Time < begun.UnixNano() {
			return
		}
		for _, id := range m.VM {
			seen[id] = true
		}
		if len(seen) == len(r.vms) {
			select {
			case complete <- time.Unix(0, e.Time).Sub(begun):
			default:
			}
		}
	})
	select {
	case d := <-complete:
		return d, stop()
	case <-ctx.Done():
		if err := stop(); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("%d of %d VMs were forecast within %v", len(seen), len(r.vms), within)
	}
}

// newLease waits until every VM of so many partitions has a forecast by an owner with a
// later lease, and gives when each partition had all of its VMs.
func (r *rig) newLease(ctx context.Context, parts int, within time.Duration, act func() error) (each []time.Duration, err error) {
	want := map[int]int{}
	for _, id := range r.vms {
		want[id.Partition()]++
	}
	events, err := r.reader.Last(ctx, streams.Forecasts)
	if err != nil {
		return nil, err
	}
	lease := map[int]uint64{}
	for _, e := range events {
		if m, ok := e.Msg.(*schemas.Forecasts); ok {
			lease[m.Partition] = max(lease[m.Partition], e.Lease)
		}
	}
	type news struct {
		part int
		vms  int
		at   int64
	}
	ch := make(chan news, 4096)
	stop := r.listen(ctx, func(e streams.Event) {
		if m, ok := e.Msg.(*schemas.Forecasts); ok && e.Lease > lease[m.Partition] {
			select {
			case ch <- news{m.Partition, len(m.VM), e.Time}:
			case <-ctx.Done():
			}
		}
	})
	time.Sleep(200 * time.Millisecond) // the listener is there
	begun := time.Now()
	if err := act(); err != nil {
		return nil, err
	}
	got, done := map[int]int{}, map[int]time.Duration{}
	quiet := time.NewTimer(within)
	defer quiet.Stop()
	for {
		select {
		case n := <-ch:
			if got[n.part] += n.vms; got[n.part] >= want[n.part] && done[n.part] == 0 {
				done[n.part] = time.Unix(0, n.at).Sub(begun)
				if len(done) == parts {
					quiet.Reset(0)
				}
			}
		case <-quiet.C:
			for _, d := range done {
				each = append(each, d)
			}
			slices.Sort(each)
			return each, stop()
		}
	}
}

// Lags are how long after its step's end each partition was forecast.
type Lags struct {
	Steps   int     `json:"steps"`
	Median  float64 `json:"median_s"`  // of the partitions of all steps
	Slowest float64 `json:"slowest_s"` // median over the steps of each step's slowest
}

// lags listens for some steps.
func (r *rig) lags(ctx context.Context, steps int) (Lags, error) {
	from := schemas.StepAt(schemas.At(time.Now()), r.Base)
	type key struct {
		step schemas.Step
		part int
	}
	at := map[key]time.Duration{}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(steps+2)*r.Base)
	defer cancel()
	stop := r.listen(ctx, func(e streams.Event) {
		if m, ok := e.Msg.(*schemas.Forecasts); ok && m.Issued >= from {
			k := key{m.Issued, m.Partition}
			at[k] = max(at[k], time.Duration(e.Time-int64(m.Issued.End(r.Base))))
		}
	})
	<-ctx.Done()
	if err := stop(); err != nil {
		return Lags{}, err
	}
	slowest, all := map[schemas.Step]float64{}, []float64{}
	for k, d := range at {
		if k.step < from+schemas.Step(steps) {
			slowest[k.step] = max(slowest[k.step], d.Seconds())
			all = append(all, d.Seconds())
		}
	}
	var worst []float64
	for _, d := range slowest {
		worst = append(worst, d)
	}
	if len(worst) == 0 {
		return Lags{}, fmt.Errorf("no step was forecast within %v", time.Duration(steps+2)*r.Base)
	}
	return Lags{Steps: len(worst), Median: quantile(all, .5), Slowest: quantile(worst, .5)}, nil
}

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

// Samples says what became of the samples.
type Samples struct {
	Steps     int `json:"steps"` // whole steps checked
	Rows      int `json:"vm_steps"`
	Missing   int `json:"missing"`    // VM-steps that are not in the history
	Lost      int `json:"incomplete"` // that lack a sample
	Wrong     int `json:"wrong_mean"` // whose mean shows a sample twice, or another
	Revisions int `json:"revisions"`
	Doubles   int `json:"doubles"` // messages of one step and revision
}

// Err says that the history is not what it should be.
func (s Samples) Err() error {
	if s.Missing+s.Lost+s.Wrong+s.Doubles > 0 || s.Rows == 0 {
		return fmt.Errorf("the history is not whole: of %d VM-steps %d are missing, %d lack a sample, %d have a wrong mean; %d messages are there twice", s.Rows, s.Missing, s.Lost, s.Wrong, s.Doubles)
	}
	return nil
}

// check reads the whole history since the fleet began to report.
func (r *rig) check(ctx context.Context) (Samples, error) {
	r.mu.Lock()
	last := r.last
	r.mu.Unlock()
	type row struct {
		revision int
		cover    float32
		cpu      float32
	}
	var s Samples
	index := map[schemas.VMID]int{}
	for n, id := range r.vms {
		index[id] = n
	}
	rows := make([]map[int]row, max(0, int(last-r.first)+1))
	seen := map[string]bool{}
	_, err := r.reader.Scan(ctx, streams.Input{Stream: streams.Steps, From: streams.FromSince, Since: time.Since(r.first.Start(r.Base).Std()) + r.Base}, func(e streams.Event) {
		m, ok := e.Msg.(*schemas.Steps)
		if !ok || m.Step < r.first || m.Step > last || m.Metrics == 0 {
			return
		}
		if m.Revision > 0 {
			s.Revisions++
		}
		id := fmt.Sprintf("%d.%d.%d", m.Partition, m.Step, m.Revision)
		if seen[id] {
			s.Doubles++
		}
		seen[id] = true
		at := int(m.Step - r.first)
		if rows[at] == nil {
			rows[at] = map[int]row{}
		}
		for i, vm := range m.VM {
			n := index[vm]
			if old, there := rows[at][n]; !there || m.Revision > old.revision {
				rows[at][n] = row{m.Revision, m.Coverage[i], m.Cols[schemas.ColCPU][i]}
			}
		}
	})
	if err != nil {
		return s, err
	}
	for at, byVM := range rows {
		s.Steps++
		for n := range r.vms {
			s.Rows++
			v, there := byVM[n]
			want := r.mean(n, r.first+schemas.Step(at))
			switch {
			case !there:
				s.Missing++
			case v.cover < .999:
				s.Lost++
			case math.Abs(float64(v.cpu-want)) > .2:
				s.Wrong++
			}
		}
	}
	return s, r.err
}

// settleDown waits until the newest whole step is in the history.
func (r *rig) settleDown(ctx context.Context) error {
	r.stop()
	r.sent.Wait()
	if err := cmp.Or(r.err, r.capacityErr); err != nil {
		return err
	}
	_, err := until(ctx, 4*r.Base+30*time.Second, "the last step is in the history", func() (bool, error) {
		events, err := r.reader.Last(ctx, streams.Steps)
		if err != nil {
			return false, err
		}
		n := 0
		want := map[int]bool{}
		for _, id := range r.vms {
			want[id.Partition()] = true
		}
		for _, e := range events {
			if m, ok := e.Msg.(*schemas.Steps); ok && m.Step >= r.last {
				n++
			}
		}
		return n >= len(want), nil
	})
	return err
}
