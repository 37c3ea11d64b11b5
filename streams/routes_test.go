package streams_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/streamstest"
)

// attempt is one message by which somebody tries to have the server write where he
// may not.
type attempt struct {
	route, subject, reply string
	data                  any
}

// routes are all ways that we know by which a reader of a stream can make JetStream
// put a message on a subject of his choice. Most name it as the reply.
func routes(stream, subject, target, inbox string) []attempt {
	push := func(durable bool) map[string]any {
		c := map[string]any{"deliver_subject": target, "ack_policy": "none", "deliver_policy": "all"}
		if durable {
			c["durable_name"] = "x"
		} else {
			c["name"] = "x"
		}
		return map[string]any{"stream_name": stream, "config": c}
	}
	pull := map[string]any{"stream_name": stream, "config": map[string]any{"name": "y", "ack_policy": "none", "deliver_policy": "all", "inactive_threshold": int64(time.Minute)}}
	made := func(more map[string]any) map[string]any {
		c := map[string]any{"name": "Z", "storage": "file", "retention": "limits", "discard": "old", "num_replicas": 1, "max_msgs": -1, "max_bytes": int64(1 << 20), "max_consumers": -1}
		for k, v := range more {
			c[k] = v
		}
		return c
	}
	from := map[string]any{"name": stream, "external": map[string]any{"api": "$JS.API", "deliver": target}}
	return []attempt{
		{"publish", target, "", "{}"},
		{"publish as the stream", target, inbox + ".p", "{}"},
		{"direct get", "$JS.API.DIRECT.GET." + stream, target, map[string]any{"seq": 1}},
		{"direct get of a subject", "$JS.API.DIRECT.GET." + stream + "." + subject, target, ""},
		{"message get", "$JS.API.STREAM.MSG.GET." + stream, target, map[string]any{"seq": 1}},
		{"stream info", "$JS.API.STREAM.INFO." + stream, target, ""},
		{"push consumer", "$JS.API.CONSUMER.CREATE." + stream + ".x", inbox + ".c", push(false)},
		{"durable push consumer", "$JS.API.CONSUMER.DURABLE.CREATE." + stream + ".x", inbox + ".d", push(true)},
		{"answer of a creation", "$JS.API.CONSUMER.CREATE." + stream + ".y", target, pull},
		{"pull consumer", "$JS.API.CONSUMER.CREATE." + stream + ".y", inbox + ".y", pull},
		{"next message", "$JS.API.CONSUMER.MSG.NEXT." + stream + ".y", target, map[string]any{"batch": 1}},
		{"mirror", "$JS.API.STREAM.CREATE.Z", inbox + ".m", made(map[string]any{"mirror": map[string]any{"name": "MIGRATIONS"}})},
		{"source", "$JS.API.STREAM.CREATE.Z", inbox + ".s", made(map[string]any{"sources": []any{from}})},
		{"capture", "$JS.API.STREAM.CREATE.Z", inbox + ".t", made(map[string]any{"subjects": []string{target}})},
		{"republish", "$JS.API.STREAM.UPDATE." + stream, inbox + ".r", made(map[string]any{"name": stream, "republish": map[string]any{"src": ">", "dest": target}})},
		{"restore", "$JS.API.STREAM.RESTORE.Z", inbox + ".z", made(nil)},
		{"purge's answer", "$JS.API.STREAM.PURGE." + stream, target, "{}"},
		{"acknowledgement's answer", "$JS.ACK." + stream + ".y.1.1.1.1.1", target, "+NXT"},
		{"flow control", "$JS.FC." + stream + ".y.x", target, ""},
		{"answer of a service", "$SRV.PING", target, ""},
		{"answer of a service's statistics", "$SRV.STATS.x.y", target, ""},
		{"object store", "$O.models.M.x", target, "{}"},
		{"chunk of an object", "$O.snapshots.C.x", target, "{}"},
		{"lease", "$KV.leases.x", target, "{}"},
		{"another's inbox", "_INBOX_placer.x.y", target, "{}"},
		{"another's inbox of replies", "_INBOX_actuator.h1.x", target, "{}"},
		{"policy", "$KV.policy.current", "", "{}"},
		{"tunnel", "$KV.tunnels.a-b", "", "{}"},
		{"handover", "actuator.h1.resume", target, "{}"},
	}
}

func (a attempt) message(t *testing.T) *nats.Msg {
	m := &nats.Msg{Subject: a.subject, Reply: a.reply}
	switch d := a.data.(type) {
	case string:
		m.Data = []byte(d)
	default:
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		m.Data = b
	}
	return m
}

// try sends all attempts of a role in an account, without caring for refusals.
func try(t *testing.T, c *streams.Conn, all []attempt) {
	t.Helper()
	c.NC.SetErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	for _, a := range all {
		if err := c.NC.PublishMsg(a.message(t)); err != nil {
			t.Fatal(err)
		}
		// The server carries out API calls in goroutines: one after the other.
		if err := c.NC.FlushTimeout(5 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

func connOf(b *streams.Bus, a streams.Account) *streams.Conn {
	return map[streams.Account]*streams.Conn{streams.Tel: b.Tel, streams.Ctrl: b.Ctrl, streams.AuditTrail: b.Audit}[a]
}

// TestNoRouteIntoCommandsFromOutside: whoever has no user in CTRL finds no route
// into it, by any of the ways above, from any stream that he can name. And every
// attempt is seen to be worth something: the same routes do work inside an account.
func TestNoRouteIntoCommandsFromOutside(t *testing.T) {
	s := streamstest.Start(t)
	ctx := during(t)
	placer := streamstest.Connect(t, s, streams.RolePlacer)
	operator := streamstest.Connect(t, s, streams.RoleOperator)
	if _, err := placer.Publish(ctx, streams.Out{Subject: streams.SubjectPressureHost("h1"), Msg: pressureHost("h1")}); err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Publish(ctx, streams.Out{Subject: streams.SubjectAct(schemas.ActPause), Msg: &schemas.Act{ID: "a1", Act: schemas.ActPause, By: "op", Time: now}}); err != nil {
		t.Fatal(err)
	}
	admin := streamstest.Connect(t, s, streams.RoleAdmin)
	state := func() string {
		out := ""
		for _, name := range []string{streams.Migrations, streams.Plans, streams.Acts, "KV_policy", "KV_tunnels", streams.DeadLetters} {
			st, err := admin.Ctrl.JS.Stream(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			i := st.CachedInfo()
			out += fmt.Sprintf("%s %d..%d, %d consumers\n", name, i.State.FirstSeq, i.State.LastSeq, i.State.Consumers)
		}
		n := 0
		names := admin.Ctrl.JS.StreamNames(ctx)
		for range names.Name() {
			n++
		}
		return out + fmt.Sprintf("%d streams", n)
	}
	before := state()
	targets := []string{streams.SubjectCommand(vm1, "h1", "h2"), "acts.resume", "plans.p", "$KV.policy.current", "actuator.h1.resume", "migrations." + vm1.String() + ".outcome.h1"}
	for _, role := range []string{"agent-h1", streams.RoleAgent, streams.RoleForecaster, streams.RoleImporter, streams.RoleOperator, streams.RoleInspector, streams.RoleViewer, streams.RoleRecorder} {
		b := streamstest.Connect(t, s, role)
		for _, acc := range streams.AccountsOf(role) {
			if acc == streams.Ctrl {
				continue
			}
			stream, subject := streams.Pressure, "pressure.host.h1"
			if acc == streams.AuditTrail {
				stream, subject = streams.Audit, "audit.ACTS"
			}
			for _, target := range targets {
				try(t, connOf(b, acc), routes(stream, subject, target, streams.InboxPrefix(role)))
			}
		}
	}
	time.Sleep(50 * time.Millisecond)
	if after := state(); after != before {
		t.Fatalf("somebody came in: before\n%s\nafter\n%s", before, after)
	}

	// So that the test can fail: an inspector can write telemetry by these routes.
	inspector := streamstest.Connect(t, s, streams.RoleInspector)
	try(t, inspector.Tel, routes(streams.Pressure, "pressure.host.h1", "benefit."+vm1.String(), streams.InboxPrefix(streams.RoleInspector)))
	eventually(t, "the route that the account wall closes works inside an account", func() bool {
		st, err := admin.Tel.JS.Stream(ctx, streams.Pressure)
		return err == nil && st.CachedInfo().State.LastSeq > 1
	})
}

// TestCopiesInsideTheAccountAreNotBelieved: who reads a stream of CTRL can have the
// server store copies of its messages on any subject there. None is obeyed: the
// subject is signed, and what is signed as a whole has been seen.
func TestCopiesInsideTheAccountAreNotBelieved(t *testing.T) {
	s := streamstest.Start(t)
	ctx := during(t)
	placer := streamstest.Connect(t, s, streams.RolePlacer)
	operator := streamstest.Connect(t, s, streams.RoleOperator)
	for _, act := range []schemas.ActKind{schemas.ActPause, schemas.ActResume} {
		id := "a-" + string(act)
		if _, err := operator.Publish(ctx, streams.Out{Subject: streams.SubjectAct(act), ID: id, Msg: &schemas.Act{ID: id, Act: act, By: "op", Time: now}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := placer.Publish(ctx, commandOut("c1", vm1, 0)); err != nil {
		t.Fatal(err)
	}
	genuine := streams.SubjectCommand(vm1, "h1", "h2")
	for _, role := range []string{streams.RoleForecaster, streams.RoleTunnel, streams.RoleRecorder, "actuator-h2"} {
		b := streamstest.Connect(t, s, role)
		for _, target := range []string{streams.SubjectCommand(vm2, "h1", "h2"), genuine, "acts.resume", "migrations." + vm1.String() + ".outcome.h1"} {
			try(t, b.Ctrl, routes(streams.Migrations, genuine, target, streams.InboxPrefix(role)))
			try(t, b.Ctrl, routes(streams.Acts, "acts.pause", target, streams.InboxPrefix(role)))
		}
	}
	time.Sleep(50 * time.Millisecond)
	if _, err := placer.Publish(ctx, streams.Out{Subject: streams.SubjectAct(schemas.ActHeartbeat), ID: "last", Msg: heartbeat("last")}); err != nil {
		t.Fatal(err)
	}
	// Acts: nobody hears an act under another name than it was given.
	reading, stop := context.WithTimeout(ctx, 15*time.Second)
	defer stop()
	h1 := streamstest.Connect(t, s, "actuator-h1")
	if err := h1.Consume(reading, "t", streams.Input{Stream: streams.Acts}, func(e streams.Event) {
		act := e.Msg.(*schemas.Act)
		if e.Subject != streams.SubjectAct(act.Act) {
			t.Errorf("%s says %s", e.Subject, act.Act)
		}
		if act.ID == "last" {
			stop()
		}
	}); err != nil {
		t.Fatal(err)
	}
	// Commands: a genuine one may be there again, byte for byte, and is known by its
	// id; nothing else is signed.
	st, err := streamstest.Connect(t, s, streams.RoleAdmin).Ctrl.JS.Stream(ctx, streams.Migrations)
	if err != nil {
		t.Fatal(err)
	}
	copies, forged := 0, 0
	for seq := uint64(1); seq <= st.CachedInfo().State.LastSeq; seq++ {
		m, err := st.GetMsg(ctx, seq)
		if err != nil {
			t.Fatal(err)
		}
		err = h1.Authorities.VerifyCommand(schemas.Signed{Subject: m.Subject, Payload: m.Data, Sequence: seq, Signature: m.Header.Get(schemas.HeaderSignature), Signer: m.Header.Get(schemas.HeaderSigner)})
		if err != nil {
			forged++
			continue
		}
		c, err := schemas.Decode(schemas.KindCommand, m.Data)
		if err != nil || m.Subject != genuine || c.(*schemas.Command).ID != "c1" {
			t.Errorf("%d %s is believed: %v %v", seq, m.Subject, c, err)
		}
		copies++
	}
	t.Logf("%d messages with the genuine signature, %d without one that counts", copies, forged)
	if copies+forged < 2 {
		t.Error("no route led into the stream: the test shows nothing")
	}
}

// TestAuditKeepsItsChain: a reader of AUDIT can have the server store copies of its
// messages there. The chain takes no notice.
func TestAuditKeepsItsChain(t *testing.T) {
	s := streamstest.Start(t)
	ctx := during(t)
	operator := streamstest.Connect(t, s, streams.RoleOperator)
	pause := func(id string) {
		t.Helper()
		if _, err := operator.Publish(ctx, streams.Out{Subject: streams.SubjectAct(schemas.ActPause), ID: id, Msg: &schemas.Act{ID: id, Act: schemas.ActPause, By: "op", Time: now}}); err != nil {
			t.Fatal(err)
		}
	}
	recording, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	recorder := streamstest.Connect(t, s, streams.RoleRecorder)
	go func() { ended <- streams.Record(recording, recorder, nil) }()
	pause("a1")
	last := func() uint64 {
		st, err := streamstest.Connect(t, s, streams.RoleAdmin).Audit.JS.Stream(ctx, streams.Audit)
		if err != nil {
			t.Fatal(err)
		}
		return st.CachedInfo().State.LastSeq
	}
	eventually(t, "the act is recorded", func() bool { return last() >= 1 })
	viewer := streamstest.Connect(t, s, streams.RoleViewer)
	was := last()
	try(t, viewer.Audit, routes(streams.Audit, "audit.ACTS", "audit.ACTS", streams.InboxPrefix(streams.RoleViewer)))
	eventually(t, "a viewer's copy is stored: the route is open", func() bool { return last() > was })
	pause("a2")
	// A reader of the trail, which is how the operator reads acts, is told of a1 and
	// a2 once each: copies break no chain and count for nothing.
	var got []string
	reading, done := context.WithTimeout(ctx, 15*time.Second)
	defer done()
	if err := operator.Consume(reading, "t", streams.Input{Stream: streams.Acts}, func(e streams.Event) {
		if got = append(got, e.Msg.(*schemas.Act).ID); got[len(got)-1] == "a2" {
			done()
		}
	}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != "[a1 a2]" {
		t.Fatalf("read from the trail: %v", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// TestNobodySpeaksIntoAnInbox: an answer of the bus comes on a role's own inbox; no
// other role of the account may put a message there. The actuators' inboxes of replies
// are open to actuators alone, whose answers are signed.
func TestNobodySpeaksIntoAnInbox(t *testing.T) {
	s := streamstest.Start(t)
	b := map[string]*streams.Bus{}
	roles := []string{streams.RolePlacer, streams.RoleForecaster, streams.RoleOperator, streams.RoleInspector, streams.RoleViewer, streams.RoleRecorder, streams.RoleImporter, streams.RoleTunnel, "agent-h1", "actuator-h1", "actuator-h2"}
	for _, r := range roles {
		b[r] = streamstest.Connect(t, s, r)
	}
	found := []string{streams.RoleForecaster, streams.RolePlacer} // by nats micro
	type ear struct {
		role string
		acc  streams.Account
		sub  *nats.Subscription
	}
	var ears []ear
	for _, r := range roles {
		for _, acc := range streams.AccountsOf(r) {
			c := connOf(b[r], acc)
			c.NC.SetErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}) // refusals are what is asked for
			sub, err := c.NC.SubscribeSync(streams.InboxPrefix(r) + ".spoof")
			if err != nil {
				t.Fatal(err)
			}
			if err := c.NC.FlushTimeout(5 * time.Second); err != nil {
				t.Fatal(err)
			}
			ears = append(ears, ear{r, acc, sub})
		}
	}
	// The ears hear: what the bus itself answers comes in.
	for _, e := range ears {
		if e.role == streams.RolePlacer && e.acc == streams.Ctrl {
			if err := b[e.role].Ctrl.NC.PublishMsg(&nats.Msg{Subject: "$JS.API.STREAM.INFO." + streams.Acts, Reply: streams.InboxPrefix(e.role) + ".spoof"}); err != nil {
				t.Fatal(err)
			}
			if _, err := e.sub.NextMsg(5 * time.Second); err != nil {
				t.Fatalf("the placer does not hear the bus: %v", err)
			}
		}
	}
	for _, r := range roles {
		for _, acc := range streams.AccountsOf(r) {
			c := connOf(b[r], acc)
			for _, e := range ears {
				if e.role == r || e.role == streams.RoleInspector && acc == streams.Tel && slices.Contains(found, r) {
					continue // services tell the inspector who they are; nothing is decided by that
				}
				if err := c.NC.Publish(streams.InboxPrefix(e.role)+".spoof", []byte(r)); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.NC.FlushTimeout(5 * time.Second); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, e := range ears {
		if m, err := e.sub.NextMsg(20 * time.Millisecond); err == nil {
			t.Errorf("%s spoke into the inbox of %s in %s", m.Data, e.role, e.acc)
		}
	}
}
