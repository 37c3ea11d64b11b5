package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

func TestTableOnPaper(t *testing.T) {
	rows := [][]string{{"VM", "PRESSURE", "WHY"}, {"web", "100 %", "its host runs short of cpu from noon on"}, {"データ", "7 %", "-"}}
	var out bytes.Buffer
	if err := table(&out, rows...); err != nil {
		t.Fatal(err)
	}
	want := "VM      PRESSURE  WHY\nweb        100 %  its host runs short of cpu from noon on\nデータ       7 %  -\n"
	if out.String() != want {
		t.Errorf("plain:\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	if err := table(&paper{Writer: &out, terminal: true, color: true, width: 44}, rows...); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\x1b[31m100 %\x1b[0m", "\x1b[1mPRESSURE\x1b[0m", "its host runs short of cpu\n                  from noon on\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("on a terminal, %q is missing in\n%q", want, out.String())
		}
	}
	for l := range strings.Lines(strings.NewReplacer("\x1b[31m", "", "\x1b[1m", "", "\x1b[0m", "").Replace(out.String())) {
		if len([]rune(l)) > 45 {
			t.Errorf("wider than the terminal: %q", l)
		}
	}
}

func TestColourIsForTerminals(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if p := newPaper(f); p.color || p.terminal || p.width != 0 {
		t.Errorf("a file is taken for a terminal: %+v", p)
	}
}

// A look that fails later keeps what was seen and says why it is old; one that fails
// at once is an error.
func TestWatch(t *testing.T) {
	var out bytes.Buffer
	at := &place{look: looking{every: lookLeast}}
	c := &cobra.Command{}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c.SetContext(ctx)
	c.SetOut(&out)
	n := 0
	err := at.show(c, func(_ context.Context, w io.Writer) error {
		switch n++; n {
		case 1, 2:
			fmt.Fprintln(w, "all is well")
		case 3:
			return errors.New("bus: no answer")
		default:
			cancel()
		}
		return nil
	})
	quiet.Store(false)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "all is well") != 2 || !strings.Contains(got, "all is well\nnot read again: bus: no answer") {
		t.Errorf("%s", got)
	}
	if err := at.show(c, func(context.Context, io.Writer) error { return errors.New("wrong name") }); err != nil {
		t.Error("after the end nothing is wrong any more", err)
	}
	c.SetContext(t.Context())
	if err := at.show(c, func(context.Context, io.Writer) error { return errors.New("wrong name") }); err == nil {
		t.Error("a first look that fails is no error")
	}
	quiet.Store(false)
	at.look.every = time.Millisecond
	if err := at.show(c, nil); !errors.As(err, new(usageError)) {
		t.Error(err)
	}
}

func TestNATSContexts(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	put := func(name, text string) {
		path := filepath.Join(dir, "nats", "context", name+".json")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("prod", `{"url": "tls://a:4222,tls://b:4222", "nkey": "/etc/foreshift/creds/operator.TEL.nk", "ca": "/etc/nats/ca.pem", "cert": "/etc/nats/me.pem", "key": "/etc/nats/me.key", "description": "x"}`)
	put("half", `{"url": "tls://a:4222", "nkey": "/etc/foreshift/creds/operator.TEL.nk", "cert": "/etc/nats/me.pem"}`)
	put("other", `{"url": "nats://demo", "nkey": ""}`)
	put("broken", `{`)
	c, err := natsContext("prod", streams.RoleOperator)
	if err != nil || c.URL != "tls://a:4222,tls://b:4222" || c.Dir != "/etc/foreshift" || c.Role != streams.RoleOperator ||
		c.TLS != (streams.TLSFiles{CA: "/etc/nats/ca.pem", Cert: "/etc/nats/me.pem", Key: "/etc/nats/me.key"}) {
		t.Errorf("%+v %v", c, err)
	}
	for name, want := range map[string]string{"none": "known are: broken, half, other, prod", "half": "belong together", "other": "foreshift streams auth", "broken": "broken.json", "../up": "not allowed"} {
		if _, err := natsContext(name, streams.RoleOperator); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	// The environment names one, unless an address is given.
	t.Setenv("FORESHIFT_CONTEXT", "prod")
	if c, err := (&place{state: "/s"}).credentials("operator"); err != nil || c.Dir != "/etc/foreshift" {
		t.Errorf("%+v %v", c, err)
	}
	if c, err := (&place{state: "/s", url: "nats://x"}).credentials("operator"); err != nil || c.Dir != "/s" || c.URL != "nats://x" {
		t.Errorf("%+v %v", c, err)
	}
}
