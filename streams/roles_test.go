package streams_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// denied reports whether the server refuses a publish, by the answer on the side.
func denied(t *testing.T, c *streams.Conn, subject string, data []byte) bool {
	t.Helper()
	refused := make(chan error, 8)
	c.NC.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	if err := c.NC.Publish(subject, data); err != nil {
		t.Fatal(err)
	}
	if err := c.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		return errors.Is(err, nats.ErrPermissionViolation)
	case <-time.After(50 * time.Millisecond):
		return false
	}
}

func TestRolesDoTheirJobAndNoOther(t *testing.T) {
	s := streamstest.Start(t)
	ctx := during(t)
	conn := func(role string, a streams.Account) *streams.Conn {
		b := streamstest.Connect(t, s, role)
		return map[streams.Account]*streams.Conn{streams.Tel: b.Tel, streams.Ctrl: b.Ctrl, streams.AuditTrail: b.Audit}[a]
	}
	vm := vm1.String()
	for _, c := range []struct {
		role    string
		account streams.Account
		may     []string
		mayNot  []string
	}{
		{"agent-h1", streams.Tel, []string{"metrics.h1", "capacity.host.h1", "capacity.link.a.b", "$KV.hosts.h1", "$KV.vms." + vm},
			[]string{"metrics.h2", "capacity.host.h2", "$KV.hosts.h2", "pressure.host.h1", "steps.1", "$JS.API.STREAM.DELETE.METRICS", "$JS.API.CONSUMER.CREATE.METRICS.x"}},
		{"agent", streams.Tel, []string{"metrics.h1", "metrics.h2"}, []string{"steps.1"}},
		{"forecaster", streams.Tel, []string{"steps.1", "forecasts.1", "pressure.vm." + vm + ".own_limit", "models.m.1", "dlq.METRICS"},
			[]string{"pressure.vm." + vm + ".host_contention", "pressure.host.h1", "metrics.h1", "dlq.PRESSURE", "$JS.API.CONSUMER.CREATE.PRESSURE.x", "$JS.API.STREAM.PURGE.STEPS"}},
		{"forecaster", streams.Ctrl, []string{"migrations." + vm + ".effect"},
			[]string{"migrations." + vm + ".command.h1.h2", "migrations." + vm + ".outcome.h1", "plans.p", "acts.pause", "$JS.API.CONSUMER.DELETE.MIGRATIONS.actuator-h1", "$JS.API.CONSUMER.MSG.NEXT.MIGRATIONS.actuator-h1"}},
		{"placer", streams.Tel, []string{"pressure.host.h1", "benefit." + vm, "shortfall.s"}, []string{"forecasts.1", "steps.1", "$JS.API.CONSUMER.CREATE.METRICS.x"}},
		{"placer", streams.Ctrl, []string{"migrations." + vm + ".command.h1.h2", "plans.p", "acts.heartbeat", "acts.policy"},
			[]string{"acts.resume", "acts.approve", "migrations." + vm + ".outcome.h1", "actuator.h1.resume", "$JS.API.STREAM.DELETE.MIGRATIONS", "$JS.ACK.MIGRATIONS.actuator-h1.1.1.1.1.1"}},
		{"actuator-h1", streams.Tel, []string{"progress." + vm}, []string{"metrics.h1", "capacity.host.h1"}},
		{"actuator-h1", streams.Ctrl, []string{"migrations." + vm + ".outcome.h1", "actuator.h2.prepare", "_INBOX_actuator.h2.x"},
			[]string{"migrations." + vm + ".outcome.h2", "migrations." + vm + ".command.h1.h2", "acts.pause", "_INBOX_actuator-h2.x", "_INBOX_placer.x", "$JS.API.CONSUMER.MSG.NEXT.MIGRATIONS.actuator-h2", "$JS.ACK.MIGRATIONS.actuator-h2.1.1.1.1.1"}},
		{"tunnel", streams.Ctrl, []string{"$KV.tunnels.a-b"}, []string{"$KV.policy.current", "acts.pause"}},
		{"recorder", streams.AuditTrail, []string{"audit.ACTS"}, []string{"$JS.API.STREAM.PURGE.AUDIT", "$JS.API.STREAM.MSG.DELETE.AUDIT"}},
		{"recorder", streams.Ctrl, []string{"dlq.ACTS"}, []string{"acts.pause", "plans.p"}},
		{"importer", streams.Tel, []string{"steps.1"}, []string{"metrics.h1", "forecasts.1"}},
		{"operator", streams.Tel, []string{"calendar.c", "external.e"}, []string{"metrics.h1", "pressure.host.h1"}},
		{"operator", streams.Ctrl, []string{"acts.pause", "acts.approve"}, []string{"plans.p", "migrations." + vm + ".command.h1.h2", "$JS.API.DIRECT.GET.PLANS"}},
		{"inspector", streams.Tel, []string{"$JS.API.STREAM.NAMES", "$SRV.INFO"}, []string{"metrics.h1", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.PURGE.METRICS"}},
		{"viewer", streams.Tel, nil, []string{"metrics.h1", "$JS.API.DIRECT.GET.PRESSURE", "$JS.API.CONSUMER.CREATE.PRESSURE.x", "$JS.API.STREAM.INFO.PRESSURE"}},
		{"viewer", streams.AuditTrail, []string{"$JS.API.STREAM.INFO.AUDIT"}, []string{"audit.ACTS", "$JS.API.STREAM.PURGE.AUDIT"}},
		{"admin", streams.Ctrl, []string{"$JS.API.STREAM.NAMES"}, []string{"migrations." + vm + ".command.h1.h2", "acts.pause"}},
	} {
		t.Run(c.role+"/"+string(c.account), func(t *testing.T) {
			nc := conn(c.role, c.account)
			for _, subject := range c.may {
				if denied(t, nc, subject, []byte("x")) {
					t.Errorf("may not publish to %s", subject)
				}
			}
			for _, subject := range c.mayNot {
				if !denied(t, nc, subject, []byte("x")) {
					t.Errorf("may publish to %s", subject)
				}
			}
		})
	}

	// What a role may not read is an error, not a silence.
	f := streamstest.Connect(t, s, streams.RoleForecaster)
	if err := f.Consume(ctx, "f", streams.Input{Stream: streams.Pressure}, func(streams.Event) {}); !errors.Is(err, streams.ErrDenied) {
		t.Errorf("forecaster reads PRESSURE: %v", err)
	}
	if _, err := f.Publish(ctx, streams.Out{Subject: streams.SubjectPressureHost("h1"), Msg: pressureHost("h1")}); !errors.Is(err, streams.ErrDenied) {
		t.Errorf("forecaster publishes pressure of a host: %v", err)
	}
	if err := f.PublishAsync(ctx, []streams.Out{{Subject: streams.SubjectPressureHost("h1"), Msg: pressureHost("h1")}}); !errors.Is(err, streams.ErrDenied) {
		t.Errorf("the same, many at once: %v", err)
	}
	v := streamstest.Connect(t, s, streams.RoleViewer)
	if _, err := v.Publish(ctx, commandOut("c1", vm1, 0)); !errors.Is(err, streams.ErrNoRoute) {
		t.Errorf("viewer publishes a command: %v", err)
	}
	// Listening on another role's inbox is refused as well.
	sub, err := v.Tel.NC.SubscribeSync("_INBOX_placer.>")
	if err == nil {
		_, err = sub.NextMsg(time.Second)
	}
	if !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("viewer listens on the placer's inbox: %v", err)
	}
}

// TestNoRouteToCommands tries the three ways by which JetStream can be made to
// write a message where the asker may not: each names the wanted subject as the
// reply. The account wall stops them all.
func TestNoRouteToCommands(t *testing.T) {
	s := streamstest.Start(t)
	ctx := during(t)
	placer := streamstest.Connect(t, s, streams.RolePlacer)
	b := streamstest.Connect(t, s, streams.RolePlacer)
	if _, err := b.Publish(ctx, streams.Out{Subject: streams.SubjectPressureHost("h1"), Msg: pressureHost("h1")}); err != nil {
		t.Fatal(err)
	}
	target := streams.SubjectCommand(vm1, "h1", "h2")
	for _, role := range []string{streams.RoleViewer, streams.RoleInspector, streams.RoleAgent, streams.RoleOperator} {
		nc := streamstest.Connect(t, s, role).Tel.NC
		push, err := json.Marshal(map[string]any{"stream_name": "PRESSURE", "config": map[string]any{"name": "x", "deliver_subject": target, "ack_policy": "none", "deliver_policy": "all"}})
		if err != nil {
			t.Fatal(err)
		}
		pull := strings.Replace(string(push), `"deliver_subject":"`+target+`",`, "", 1)
		for _, m := range []struct{ subject, reply, data string }{
			{"$JS.API.CONSUMER.CREATE.PRESSURE.x", streams.InboxPrefix(role) + ".a", string(push)},
			{"$JS.API.CONSUMER.CREATE.PRESSURE.x", streams.InboxPrefix(role) + ".b", pull},
			{"$JS.API.CONSUMER.MSG.NEXT.PRESSURE.x", target, "1"},
			{"$JS.API.DIRECT.GET.PRESSURE", target, `{"seq":1}`},
			{"$JS.API.STREAM.MSG.GET.PRESSURE", target, `{"seq":1}`},
			{target, "", "{}"},
		} {
			if err := nc.PublishMsg(&nats.Msg{Subject: m.subject, Reply: m.reply, Data: []byte(m.data)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	// Something lawful afterwards is the first and only message of the record.
	seq, err := placer.Publish(ctx, commandOut("c1", vm1, 0))
	if err != nil || seq != 1 {
		t.Fatalf("sequence %d, %v: somebody was there before", seq, err)
	}
	if r, err := placer.LastUnder(ctx, streams.Migrations, "migrations.>"); err != nil || r.Seq != 1 {
		t.Fatalf("%v %v", r, err)
	}
}

// TestSignaturesAreChecked: what speaks in the name of an authority and is not
// signed by it never reaches a decider.
func TestSignaturesAreChecked(t *testing.T) {
	s := streamstest.Start(t)
	ctx, cancel := context.WithCancel(during(t))
	placer := streamstest.Connect(t, s, streams.RolePlacer)
	operator := streamstest.Connect(t, s, streams.RoleOperator)
	forger := streamstest.Connect(t, s, streams.RoleOperator)
	forger.Signer = placer.Signer // the placer's key on an operator's act
	pause := &schemas.Act{ID: "a1", Act: schemas.ActPause, By: "eve", Time: now}
	for _, b := range []*streams.Bus{forger, operator} {
		if _, err := b.Publish(ctx, streams.Out{Subject: streams.SubjectAct(schemas.ActPause), Msg: pause}); err != nil {
			t.Fatal(err)
		}
	}
	unsigned, err := schemas.Encode(pause)
	if err != nil {
		t.Fatal(err)
	}
	streamstest.Raw(t, s, &nats.Msg{Subject: "acts.pause", Data: unsigned})
	if _, err := placer.Publish(ctx, streams.Out{Subject: streams.SubjectAct(schemas.ActHeartbeat), Msg: heartbeat("b1")}); err != nil {
		t.Fatal(err)
	}
	var got []uint64
	if err := placer.Consume(ctx, "placer", streams.Input{Stream: streams.Acts}, func(e streams.Event) {
		if got = append(got, e.Seq); e.Seq == 4 {
			cancel()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0] != 2 || got[1] != 4 {
		t.Fatalf("passed: %v, want the operator's pause and the placer's heartbeat", got)
	}
}

func TestAuthorities(t *testing.T) {
	s := streamstest.Start(t)
	placer := streamstest.Connect(t, s, streams.RolePlacer)
	a := placer.Authorities
	subject, payload := streams.SubjectCommand(vm1, "h1", "h2"), []byte("{}")
	pub, err := placer.Signer.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	good := schemas.Signed{Subject: subject, Payload: payload, Signature: streams.Sign(placer.Signer, subject, payload), Signer: pub}
	for _, c := range []struct {
		name string
		mar  func(*schemas.Signed)
		want schemas.ReasonCode
	}{
		{"as it is", func(*schemas.Signed) {}, schemas.ReasonOK},
		{"payload", func(s *schemas.Signed) { s.Payload = []byte("{} ") }, schemas.ReasonBadSignature},
		{"subject", func(s *schemas.Signed) { s.Subject = streams.SubjectCommand(vm2, "h1", "h2") }, schemas.ReasonBadSignature},
		{"none", func(s *schemas.Signed) { s.Signature = "" }, schemas.ReasonBadSignature},
		{"garbage", func(s *schemas.Signed) { s.Signature = "!!" }, schemas.ReasonBadSignature},
		{"no signer", func(s *schemas.Signed) { s.Signer = "" }, schemas.ReasonBadSignature},
		{"another signer", func(s *schemas.Signed) { s.Signer = a.Acts[0] }, schemas.ReasonUnknownSigner},
	} {
		m := good
		c.mar(&m)
		if got := streams.ReasonOf(a.VerifyCommand(m)); got.Code != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}
