package cluster_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/cluster"
	"github.com/foreshift/foreshift/streams/streamstest"
)

var vm = schemas.VMID{1, 2, 3}

func command(id string, after uint64) *schemas.Command {
	now := schemas.At(time.Now())
	return &schemas.Command{ID: schemas.CommandID(id), Plan: "p", PlanHash: "0", VM: vm, Name: "one", Source: "h1", Destination: "h2", AfterSeq: after,
		Issued: now, Expires: now.Add(60 * time.Second), Deadline: now.Add(600 * time.Second), Reason: schemas.Reason{Code: schemas.ReasonOK},
		Predicted: schemas.Prediction{Gain: schemas.Gain{Terms: []schemas.Term{}}}}
}

func outcome(id schemas.CommandID, epoch uint64) *schemas.Outcome {
	now := schemas.At(time.Now())
	return &schemas.Outcome{Command: id, Epoch: epoch, VM: vm, Host: "h1", Source: "h1", Destination: "h2", Time: now, Started: now, Result: schemas.ResultFailed,
		Reason: schemas.Reason{Code: schemas.ReasonOK}, RunsAt: "h1", Duration: 1, Predicted: command("x", 0).Predicted}
}

// TestTwoPlacersOneRecord lets two placers that both believe to be the active one write
// commands on one VM's record of a replicated stream, while its actuator's outcomes are
// in flight and servers go down and come back: every command that was acknowledged is
// there once, and each writer had seen all that came before it.
func TestTwoPlacersOneRecord(t *testing.T) {
	c := streamstest.StartCluster(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	record := streams.RecordOf(vm)
	var mu sync.Mutex
	acked := map[schemas.CommandID]uint64{}  // command -> sequence
	expect := map[schemas.CommandID]uint64{} // command -> what its writer had seen
	lost, failed, outcomes := 0, 0, 0
	last := func(b *streams.Bus) (uint64, error) {
		m, err := b.LastUnder(ctx, streams.Migrations, record)
		if errors.Is(err, streams.ErrNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		return m.Seq, nil
	}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for p := range 2 {
		bus := c.Connect(streams.RolePlacer)
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				seq, err := last(bus)
				if err != nil {
					time.Sleep(20 * time.Millisecond)
					continue
				}
				m := command(fmt.Sprintf("c-%d-%d", p, n), seq)
				got, err := bus.Publish(ctx, streams.Out{Subject: streams.SubjectCommand(vm, "h1", "h2"), ID: string(m.ID), Msg: m, Expect: &streams.Expect{Filter: record, Seq: seq}})
				mu.Lock()
				switch {
				case err == nil:
					acked[m.ID], expect[m.ID] = got, seq
				case errors.Is(err, streams.ErrLostRace):
					lost++
				default: // not known: it may be there
					failed++
					expect[m.ID] = seq
				}
				mu.Unlock()
			}
		})
	}
	host := c.Connect("actuator-h1")
	writers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			m, err := host.LastUnder(ctx, streams.Migrations, record)
			if err != nil || !strings.Contains(m.Subject, ".command.") {
				time.Sleep(2 * time.Millisecond)
				continue
			}
			id := schemas.CommandID(m.Header.Get("Nats-Msg-Id"))
			_, err = host.Publish(ctx, streams.Out{Subject: streams.SubjectOutcome(vm, "h1"), ID: "outcome." + string(id), Msg: outcome(id, m.Seq), Expect: &streams.Expect{Filter: record, Seq: m.Seq}})
			mu.Lock()
			if err == nil {
				outcomes++
			}
			mu.Unlock()
		}
	})
	for i := range 3 { // each server once, so that each leader goes once
		time.Sleep(700 * time.Millisecond)
		c.Stop(i)
		time.Sleep(1200 * time.Millisecond)
		c.Start(i)
	}
	time.Sleep(2 * time.Second)
	close(stop)
	writers.Wait()
	reader := c.Connect(streams.RolePlacer)
	var events []streams.Event
	var err error
	for events == nil { // the last leader may still be being chosen
		if events, err = reader.History(ctx, streams.Input{Stream: streams.Migrations, From: streams.FromAll}); err != nil && ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	seen, before, commands := map[schemas.CommandID]uint64{}, uint64(0), 0
	for _, e := range events {
		if m, ok := e.Msg.(*schemas.Command); ok {
			commands++
			if seen[m.ID] != 0 {
				t.Errorf("command %s is there twice: %d and %d", m.ID, seen[m.ID], e.Seq)
			}
			seen[m.ID] = e.Seq
			if m.AfterSeq != before || expect[m.ID] != before {
				t.Errorf("command %s at %d had seen %d, but %d came before it", m.ID, e.Seq, m.AfterSeq, before)
			}
		}
		before = e.Seq
	}
	for id, seq := range acked {
		if seen[id] != seq {
			t.Errorf("command %s was acknowledged at %d and is at %d", id, seq, seen[id])
		}
	}
	if len(acked) < 20 || lost == 0 || outcomes < 10 {
		t.Fatalf("%d acknowledged, %d lost races, %d outcomes: too little to tell", len(acked), lost, outcomes)
	}
	t.Logf("%d commands on the record, %d acknowledged, %d lost races, %d not known, %d outcomes", commands, len(acked), lost, failed, outcomes)
}

// TestPlacementAndTLS: streams are on the servers their tags ask for, which speak TLS
// only, and only to who has the CA and a key.
func TestPlacementAndTLS(t *testing.T) {
	c := streamstest.StartCluster(t)
	admin := c.Connect(streams.RoleAdmin)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for name, conn := range map[string]*streams.Conn{streams.Migrations: admin.Ctrl, streams.Audit: admin.Audit, streams.Steps: admin.Tel} {
		s, err := conn.JS.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		want := streams.TagCtrl
		if name == streams.Steps {
			want = streams.TagTel
		}
		if cfg.Replicas != 3 || cfg.Placement == nil || len(cfg.Placement.Tags) != 1 || cfg.Placement.Tags[0] != want {
			t.Errorf("%s: %d replicas, placed %+v, want 3 on %s", name, cfg.Replicas, cfg.Placement, want)
		}
	}
	if changes, err := streams.Diff(ctx, admin, streams.ApplyOptions{Hosts: c.Hosts, Replicas: 3, Placement: true, Scale: streams.ScaleEmbedded}); err != nil || len(changes) != 0 {
		t.Errorf("after apply: %v, %v", changes, err)
	}
	// Another CA is not believed.
	elsewhere := t.TempDir()
	o := c.Options
	o.Dir = elsewhere
	if _, err := cluster.Write(o); err != nil {
		t.Fatal(err)
	}
	if b, err := streams.Connect(ctx, streams.Credentials{URL: c.URL(), Role: streams.RolePlacer, Dir: elsewhere}); err == nil {
		b.Close()
		t.Error("believed a server of another CA")
	} else if !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another CA: %v", err)
	}
	// A route needs a certificate of the CA.
	conn, err := tls.Dial("tcp", c.Nodes[0].Route, &tls.Config{InsecureSkipVerify: true})
	if err == nil {
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(make([]byte, 64)); err == nil {
			t.Error("a route was given to who has no certificate")
		}
	}
}

// TestNoTLSNoBus: off loopback nothing is said in the clear, and the error says what to
// do.
func TestNoTLSNoBus(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := streams.EnsureAuth(streams.AuthOptions{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, url := range []string{"nats://192.0.2.1:4222", "192.0.2.1:4222", "nats://127.0.0.1:1,nats://192.0.2.1:4222", "nats://bus.example:4222"} {
		_, err := streams.Connect(ctx, streams.Credentials{URL: url, Role: streams.RolePlacer, Dir: dir})
		if !errors.Is(err, streams.ErrNoTLS) || !strings.Contains(err.Error(), "streams cluster") {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, o := range []cluster.Options{
		{Dir: dir, NoTLS: true, Nodes: []cluster.Node{{Name: "a", Client: "192.0.2.1:1", Route: "127.0.0.1:2"}, {Name: "b", Client: "127.0.0.1:3", Route: "127.0.0.1:4"}, {Name: "c", Client: "127.0.0.1:5", Route: "127.0.0.1:6"}}},
		{Dir: dir, Nodes: []cluster.Node{{Name: "a", Client: "127.0.0.1:1", Route: "127.0.0.1:2"}}},
		{Dir: dir, Nodes: []cluster.Node{{Name: "a", Client: "127.0.0.1:1", Route: "127.0.0.1:1"}, {Name: "a", Client: "x", Route: ""}, {Name: "b c", Client: "127.0.0.1:5", Route: "127.0.0.1:6", Tags: []string{"gold"}}}},
	} {
		if _, err := cluster.Write(o); err == nil {
			t.Errorf("took %+v", o)
		}
	}
}

// TestWriteKeepsWhatIsThere: repeated, keys and certificates stay; an open key is
// refused with the command that mends it.
func TestWriteKeepsWhatIsThere(t *testing.T) {
	o := streamstest.ClusterOptions(t, t.TempDir())
	files := func() map[string]string {
		if _, err := cluster.Write(o); err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		filepath.WalkDir(o.Dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			out[path] = string(b)
			return err
		})
		return out
	}
	first, second := files(), files()
	for path, b := range first {
		if second[path] != b {
			t.Errorf("%s changed", path)
		}
		if strings.HasSuffix(path, "-key.pem") {
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v", path, st.Mode(), err)
			}
		}
	}
	host, _, err := net.SplitHostPort(o.Nodes[0].Client)
	if err != nil || host == "" {
		t.Fatal(err)
	}
	ca := filepath.Join(o.Dir, "ca-key.pem")
	if err := os.Chmod(ca, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Write(o); err == nil || !strings.Contains(err.Error(), "chmod 0600") {
		t.Errorf("an open key: %v", err)
	}
}
