package embedded

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// TestRotation: on a server that includes the generated accounts, a placer's keys
// are rotated, retired and revoked. Old and new count side by side until the old
// ones are taken out; what they said before stays history.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	o := streams.AuthOptions{Dir: dir, Hosts: []schemas.HostID{"h1", "h2"}, Own: true}
	if _, changes, err := streams.EnsureAuth(o); err != nil || len(changes) == 0 {
		t.Fatal(changes, err)
	}
	before := files(t, dir)
	if _, changes, err := streams.EnsureAuth(o); err != nil || len(changes) != 0 {
		t.Fatalf("made a second time: %v %v", changes, err)
	}
	if after := files(t, dir); !same(before, after) {
		t.Fatal("repeating it changed the files")
	}
	if _, err := os.Stat(streams.SeedFile(dir, streams.RoleActuatorID, streams.Ctrl)); err == nil {
		t.Fatal("a real fleet has a key that serves all hosts")
	}
	conf := filepath.Join(dir, "server.conf")
	text := "listen: \"127.0.0.1:-1\"\nmax_payload: 9000000\njetstream { store_dir: \"" + filepath.Join(dir, "js") + "\", max_file_store: 68719476736 }\ninclude " + streams.FileAccounts + "\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	srv, err := run(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	open := func(at string, role string) (*streams.Bus, error) {
		b, err := streams.Connect(ctx, streams.Credentials{URL: "nats://" + srv.Addr().String(), Role: role, Dir: at, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			t.Cleanup(b.Close)
		}
		return b, err
	}
	must := func(b *streams.Bus, err error) *streams.Bus {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	reload := func() {
		t.Helper()
		next, err := server.ProcessConfigFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		next.NoSigs, next.NoLog = true, true
		if err := srv.ReloadOptions(next); err != nil {
			t.Fatal(err)
		}
	}
	admin := must(open(dir, streams.RoleAdmin))
	if _, err := streams.Apply(ctx, admin, streams.ApplyOptions{Hosts: o.Hosts, Replicas: 1, Scale: streams.ScaleEmbedded}); err != nil {
		t.Fatal(err)
	}
	// The old placer's files, as they still lie where it runs.
	old := t.TempDir()
	if err := os.CopyFS(filepath.Join(old, streams.DirCreds), os.DirFS(filepath.Join(dir, streams.DirCreds))); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{streams.RolePlacer + ".TEL.nk", streams.RolePlacer + ".CTRL.nk", streams.RolePlacer + ".sign.nk"} {
		if err := os.Chmod(filepath.Join(old, streams.DirCreds, f), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	was := must(open(old, streams.RolePlacer))
	actuator := must(open(dir, streams.RoleActuator("h1")))
	beat := func(b *streams.Bus, id string) uint64 {
		t.Helper()
		seq, err := b.Publish(ctx, streams.Out{Subject: streams.SubjectAct(schemas.ActHeartbeat), ID: id, Msg: &schemas.Act{ID: id, Act: schemas.ActHeartbeat, By: "placer", Time: schemas.At(time.Now())}})
		if err != nil {
			t.Fatal(err)
		}
		return seq
	}
	passed := func(last uint64) (seqs []uint64) {
		t.Helper()
		reading, stop := context.WithTimeout(ctx, 10*time.Second)
		defer stop()
		b := must(open(dir, streams.RoleActuator("h2"))) // reads the keys as they are now
		if err := b.Consume(reading, "t", streams.Input{Stream: streams.Acts}, func(e streams.Event) {
			if seqs = append(seqs, e.Seq); e.Seq == last {
				stop()
			}
		}); err != nil {
			t.Fatal(err)
		}
		return seqs
	}
	payload := []byte("{}")
	signed := func(b *streams.Bus) schemas.Signed {
		pub, err := b.Signer.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		return schemas.Signed{Subject: "migrations.x.command.h1.h2", Payload: payload, Signature: streams.Sign(b.Signer, "migrations.x.command.h1.h2", payload), Signer: pub}
	}
	beat(was, "1")

	if changes, err := streams.RotateAuth(dir, streams.RolePlacer); err != nil || len(changes) != 3 {
		t.Fatal(changes, err)
	}
	reload()
	is := must(open(dir, streams.RolePlacer))
	beat(was, "2")
	if last := beat(is, "3"); len(passed(last)) != 3 {
		t.Fatalf("in the overlap: %v", passed(last))
	}

	if _, err := streams.RetireAuth(dir, streams.RolePlacer, schemas.At(time.Now())); err != nil {
		t.Fatal(err)
	}
	// A running actuator reads the keys again by itself.
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := actuator.Authorities.VerifyCommand(signed(was)); streams.ReasonOf(err).Code == schemas.ReasonUnknownSigner {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the old key is still obeyed: %v", err)
		}
	}
	if err := actuator.Authorities.GenuineCommand(signed(was)); err != nil {
		t.Fatalf("what was begun by the old key cannot be ended: %v", err)
	}
	if err := actuator.Authorities.VerifyCommand(signed(is)); err != nil {
		t.Fatalf("the new key is not obeyed: %v", err)
	}
	// The server has not been told yet: the old connection publishes, and is not believed.
	forged := beat(was, "4")
	if got := passed(beat(is, "5")); len(got) != 4 || got[3] == forged {
		t.Fatalf("after it was retired: %v, of it %d forged", got, forged)
	}
	reload()
	if _, err := open(old, streams.RolePlacer); err == nil {
		t.Fatal("the old key still connects")
	}

	// Stolen: nothing it ever signed counts, and the role must be rotated.
	pub, err := is.Signer.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := streams.RevokeAuth(dir, pub, 1); err == nil {
		t.Fatal("a time that cannot be kept was taken")
	}
	if _, err := streams.RevokeAuth(dir, pub, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := streams.EnsureAuth(o); err == nil {
		t.Fatal("goes on with a revoked key")
	}
	if _, err := streams.RotateAuth(dir, streams.RolePlacer); err != nil {
		t.Fatal(err)
	}
	reload()
	again := must(open(dir, streams.RolePlacer))
	if got := passed(beat(again, "6")); len(got) != 3 {
		t.Fatalf("after the revocation: %v", got)
	}
	if _, err := streams.RevokeAuth(dir, "UNKNOWN", 1); err == nil {
		t.Fatal("an unknown key was revoked")
	}

	// A file that others can write is not believed when something is to be done.
	path := filepath.Join(dir, streams.FileAuthorities)
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := actuator.Authorities.VerifyCommand(signed(again)); err != nil {
			break
		} else if time.Now().After(end) {
			t.Fatal("keys that others can write are obeyed")
		}
	}
}

func files(t *testing.T, dir string) map[string]string {
	out := map[string]string{}
	if err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		out[p] = string(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func same(a, b map[string]string) bool {
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return len(a) == len(b)
}
