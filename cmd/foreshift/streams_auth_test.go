package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// foreshift runs the command line and gives what it printed.
func foreshift(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := root()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func TestStreamsAuth(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	run := func(want string, args ...string) string {
		t.Helper()
		out, err := foreshift(t, append([]string{"streams", "auth", "--dir", dir}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, want) {
			t.Fatalf("%q: want %q in\n%s", args, want, out)
		}
		return out
	}
	run("actuator-a signs with", "--hosts", "a,b")
	run("nothing to do", "--hosts", "a,b")
	run("agent-c may connect to TEL", "--hosts", "c")
	st, err := os.Stat(filepath.Join(dir, "creds", "actuator-a.sign.nk"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", st, err)
	}
	conf, err := os.ReadFile(filepath.Join(dir, "accounts.conf"))
	if err != nil || strings.Contains(string(conf), "allow_responses") || strings.Contains(string(conf), `"$JS.API.>"`) && !strings.Contains(string(conf), "# admin") {
		t.Fatalf("%v\n%s", err, conf)
	}
	if regexp.MustCompile(`SU[A-Z2-7]{56}`).Match(conf) {
		t.Fatal("a seed is in the server's configuration")
	}
	run("then `foreshift streams auth retire actuator-a`", "rotate", "actuator-a")
	out := run("no longer counts", "retire", "actuator-a")
	if n := strings.Count(out, "no longer counts"); n != 3 { // TEL, CTRL, signing
		t.Fatalf("%d keys retired:\n%s", n, out)
	}
	run("nothing to do")
	key := regexp.MustCompile(`placer\n\s*{ nkey: (U[A-Z2-7]{55})`).FindSubmatch(conf)
	if key == nil {
		t.Fatalf("no placer in\n%s", conf)
	}
	run("no longer counts", "revoke", string(key[1]), "--since", "2026-01-01T00:00:00Z")
	for _, bad := range [][]string{{"rotate", "nobody"}, {"revoke", "UX"}, {"revoke", string(key[1]), "--since", "yesterday"}, {"--hosts", "a b"}} {
		if _, err := foreshift(t, append([]string{"streams", "auth", "--dir", dir}, bad...)...); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	// The file of a role holds a revoked key: say so instead of going on.
	if _, err := foreshift(t, "streams", "auth", "--dir", dir); err == nil || !strings.Contains(err.Error(), "auth rotate placer") {
		t.Fatal(err)
	}
}
