package streams_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// TestHostileMessages puts what cannot be used on every subject of the table: each
// becomes a dead letter with a reason, and the services live.
func TestHostileMessages(t *testing.T) {
	s := streamstest.Start(t)
	readers := map[string][]string{
		streams.RoleForecaster: {streams.Metrics, streams.Steps, streams.External, streams.Models, streams.Migrations},
		streams.RolePlacer:     {streams.Forecasts, streams.Pressure, streams.Capacity, streams.Acts, streams.Plans, "KV_policy", "KV_tunnels"},
		streams.RoleTunnel:     {streams.Progress},
		streams.RoleRecorder:   {streams.Audit},
		streams.RoleOperator:   {"KV_hosts", "KV_vms"},
	}
	bad := map[string]int{} // by stream
	writers := map[string]*streams.Conn{}
	raw := func(m *nats.Msg) { // streamstest.Raw with the connections kept
		t.Helper()
		st, err := streams.StreamFor(m.Subject)
		if err != nil {
			t.Fatal(err)
		}
		for _, role := range streams.RoleNames() {
			if !streams.MayWrite(role, m.Subject) {
				continue
			}
			key := role + string(st.Account)
			if writers[key] == nil {
				b := streamstest.Connect(t, s, role)
				writers[key] = map[streams.Account]*streams.Conn{streams.Tel: b.Tel, streams.Ctrl: b.Ctrl, streams.AuditTrail: b.Audit}[st.Account]
			}
			if _, err := writers[key].JS.PublishMsg(during(t), m); err != nil {
				t.Fatalf("%s: %v", m.Subject, err)
			}
			return
		}
		t.Fatalf("%s: nobody writes it", m.Subject)
	}
	for _, st := range streams.Table() {
		if st.Name == streams.DeadLetters {
			continue
		}
		for _, sub := range st.Subjects {
			subject := sample(sub.Pattern)
			kind := string(sub.Kind)
			sent := 0
			for _, m := range []*nats.Msg{
				{Data: nil},
				{Data: []byte("\xff\xfe\x00 garbage")},
				{Data: []byte(`{"host": "h1", "vm`)},
				{Data: []byte(`{"value": NaN}`)},
				{Data: []byte("{}"), Header: nats.Header{schemas.HeaderSchema: {kind + "/99.0"}}},
				{Data: []byte("{}"), Header: nats.Header{schemas.HeaderSchema: {"nonsense"}}},
				{Data: []byte("{}"), Header: nats.Header{schemas.HeaderSchema: {"deadletter/1.0"}}},
				{Data: truncated(t, sub.Kind), Header: nats.Header{schemas.HeaderSchema: {schemas.SchemaHeader(sub.Kind)}}},
			} {
				m.Subject = subject
				raw(m)
				sent++
			}
			if st.History > 0 {
				sent = min(sent, int(st.History)) // a bucket keeps no more of a key
			}
			bad[st.Name] += sent
		}
	}
	for role, inputs := range readers {
		t.Run(role, func(t *testing.T) {
			b := streamstest.Connect(t, s, role)
			r := prometheus.NewRegistry()
			f := &fold{}
			sv := &streams.Service{Name: "svc-" + role, Bus: b, Decider: f, Registry: r}
			for _, name := range inputs {
				sv.Inputs = append(sv.Inputs, streams.Input{Stream: name})
			}
			stop := start(t, sv)
			for _, name := range inputs {
				eventually(t, "dead letters of "+name, func() bool {
					return counted(t, r, "foreshift_dead_letters_total", sv.Name, `"`+name+`"`) == bad[name]
				})
				delete(bad, name)
			}
			ticks := counted(t, r, "foreshift_service_ticks_total")
			eventually(t, "ticks go on", func() bool { return counted(t, r, "foreshift_service_ticks_total") > ticks })
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			if lost := counted(t, r, "foreshift_dead_letters_lost_total"); lost != 0 {
				t.Errorf("%d dead letters were not written", lost)
			}
			if f.n != 0 {
				t.Errorf("%d events passed", f.n)
			}
		})
	}
	for name := range bad {
		if name != "KV_leases" {
			t.Errorf("nobody read the bad messages of %s", name)
		}
	}
	op := streamstest.Connect(t, s, streams.RoleOperator)
	letters, err := op.Last(during(t), streams.DeadLetters)
	if err != nil || len(letters) < 7 {
		t.Fatalf("%d letters, %v", len(letters), err)
	}
	for _, e := range letters {
		if l := e.Msg.(*schemas.DeadLetter); l.Reason == "" || l.Sequence == 0 {
			t.Errorf("%+v", l)
		}
	}
}

// sample is a subject under a pattern.
func sample(pattern string) string {
	s := strings.Replace(pattern, "pressure.vm.*.*", "pressure.vm."+vm1.String()+".own_limit", 1)
	if strings.HasPrefix(s, "acts.") {
		return "acts.pause"
	}
	return strings.ReplaceAll(s, "*", "h1")
}

// truncated is half of a valid message where one is at hand.
func truncated(t *testing.T, k schemas.Kind) []byte {
	var m schemas.Message
	switch k {
	case schemas.KindMetrics:
		m = metricsOf("h1", 50, 1)
	case schemas.KindPressureHost:
		m = pressureHost("h1")
	case schemas.KindCommand:
		m = command("c1", vm1)
	default:
		return []byte(`{"time":"2026-03-01T12:00:0`)
	}
	b, err := schemas.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return b[:len(b)/2]
}

// metricsOf is one flush of a host with n VMs.
func metricsOf(h schemas.HostID, n int, seq uint64) *schemas.Metrics {
	m := &schemas.Metrics{Host: h, Site: "s1", Agent: "a1", Seq: seq}
	for i := range n {
		m.Time = append(m.Time, now.Add(0))
		m.VM = append(m.VM, schemas.VMID{1, byte(i), byte(i >> 8)})
		m.IntervalS = append(m.IntervalS, 10)
		m.Flags = append(m.Flags, 0)
		m.AllocCPU = append(m.AllocCPU, 2000)
		m.AllocMem = append(m.AllocMem, 4<<30)
		for c := range m.Cols {
			if schemas.Column(c) == schemas.ColCPUMax || schemas.Column(c) == schemas.ColMemMax {
				continue
			}
			m.Cols[c] = append(m.Cols[c], float32(i)*0.25)
		}
	}
	return m
}

func TestWorkVerdicts(t *testing.T) {
	s := streamstest.Start(t)
	placer := streamstest.Connect(t, s, streams.RolePlacer)
	h1 := streamstest.Connect(t, s, "actuator-h1")
	ctx := during(t)
	for i, vm := range []schemas.VMID{vm1, vm2} {
		if _, err := placer.Publish(ctx, commandOut(schemas.CommandID(fmt.Sprint("c", i)), vm, 0)); err != nil {
			t.Fatal(err)
		}
	}
	streamstest.Raw(t, s, &nats.Msg{Subject: streams.SubjectCommand(vm2, "h1", "h2"), Data: []byte("{")})
	if _, err := placer.Publish(ctx, streams.Out{Subject: streams.SubjectCommand(vm1, "h1", "h2"), ID: "c9", Msg: command("c9", vm1)}); err != nil {
		t.Fatal(err)
	}
	var got []string
	work(t, h1, "h1", &got, map[string]streams.Verdict{"c1": streams.Reject(fmt.Errorf("not mine"))})
	// c0 once and again after its retry, c1 rejected, the torn one never shown.
	if fmt.Sprint(got) != "[c0 c0 c1 c9]" {
		t.Fatalf("worked: %v", got)
	}
}

// TestOneActuatorForAllHosts is how simulated hosts are served: one role, one
// connection, every host's consumer, asking and answering itself.
func TestOneActuatorForAllHosts(t *testing.T) {
	s := streamstest.Start(t)
	placer := streamstest.Connect(t, s, streams.RolePlacer)
	b := streamstest.Connect(t, s, streams.RoleActuatorID)
	ctx := during(t)
	for i, id := range []schemas.CommandID{"c0", "c9"} {
		if _, err := placer.Publish(ctx, commandOut(id, schemas.VMID{byte(i + 1)}, 0)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	work(t, b, "h1", &got, nil)
	if fmt.Sprint(got) != "[c0 c0 c9]" {
		t.Fatalf("worked: %v", got)
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- b.Serve(serving, "actuator.h2.*", func(_ context.Context, r *streams.Received) schemas.Message {
			q := r.Msg.(*schemas.Request)
			return &schemas.Reply{Command: q.Command, Epoch: q.Epoch, VM: q.VM, From: "h2", Nonce: "00", Time: now, Reason: schemas.Reason{Code: schemas.ReasonOK}, Copy: "absent"}
		})
	}()
	eventually(t, "an answer", func() bool {
		_, err := b.Request(ctx, streams.SubjectActuator("h2", schemas.OpObserve), &schemas.Request{Op: schemas.OpObserve, Command: "c1", Epoch: 1, VM: vm1, From: "h1", To: "h2", Time: now, Expires: now.Add(1e9),
			Order: schemas.Signed{Subject: "x", Payload: []byte("{}"), Signature: "s", Signer: "U"}})
		if err != nil && !errors.Is(err, streams.ErrUnreachable) {
			t.Fatal(err)
		}
		return err == nil
	})
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
