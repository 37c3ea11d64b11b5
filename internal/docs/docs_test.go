package docs

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	page := "# A\n\n```console\n$ foreshift status\n8 hosts\n...\n\n$ a \\\n  b\n```\n\n```console not-run: needs root\n$ lab up\n```\n```console web-23=moved\n$ x web-23\n```\n```\nplain\n```\n"
	blocks, faults := Parse("a.md", page)
	if len(faults) > 0 || len(blocks) != 3 {
		t.Fatal(blocks, faults)
	}
	c := blocks[0].Commands
	if len(c) != 2 || c[0].Line != 4 || len(c[0].Output) != 2 || c[1].Text != "a \\\n  b" || c[1].Output != nil || blocks[1].NotRun != "needs root" || blocks[2].Names["web-23"] != "moved" {
		t.Errorf("%+v", blocks)
	}
	for page, want := range map[string]string{
		"```\n$ foreshift status\n```":       "outside of a block",
		"```\n./task up\n```":                "outside of a block",
		"```sh\nforeshift up\n```":           "outside of a block",
		"```console\nhello\n```":             "output before",
		"```console\n```":                    "without one",
		"```console not-run:\n$ a\n```":      "without a reason",
		"```console web-23=nobody\n$ a\n```": "want NAME=ROLE",
		"```console\n$ a":                    "does not end",
	} {
		if _, faults := Parse("a.md", page); len(faults) == 0 || !strings.Contains(faults[0].Error(), want) {
			t.Errorf("%q: %v, want %q", page, faults, want)
		}
	}
}

func TestCompare(t *testing.T) {
	for _, x := range []struct {
		written, got string
		same         bool
	}{
		{"private-1  ready  8  27 %  in 1m34s", "public-2   ready  12  5 %  in 12s\n", true},
		{"private-1  ready  8", "private-1  draining  8\n", false},
		{"plan p-e2189afe8c225182 of 2026-11-28T17:50:57.114567843Z, mode auto", "plan p-0000000000000000 of 2027-01-01T00:00:00Z, mode auto", true},
		{"a\n...\nz", "a\nb\nc\nz", true},
		{"a\n...", "a", true},
		{"a\nz", "a\nb\nz", false},
		{"a", "a\nb", false},
		{"a\nb", "a", false},
		{"moves: ... under way", "moves: 3 failed, 1 under way", true},
		{"9dda78ab-8005-4cee-9401-98024417aea0  web-01", "00000000-8005-4cee-9401-98024417aea0  web-22", true},
		{`{"hosts":8,"mode":"auto"...}`, `{"hosts":1,"mode":"auto","x":[]}`, true},
		{`{"hosts":8,"mode":"auto"...}`, `{"hosts":1,"mode":"observe","x":[]}`, false},
		{"", "anything", true},
	} {
		var written []string
		if x.written != "" {
			written = strings.Split(x.written, "\n")
		}
		if diff := Compare(written, x.got); (diff == "") != x.same {
			t.Errorf("%q and %q: %s", x.written, x.got, diff)
		}
	}
}

func TestInline(t *testing.T) {
	reference := "```\n      --json   x\n```\n## foreshift host\n## foreshift host drain\n```\n      --wait duration   x\n  -w, --watch   y\n```\n## foreshift status\n"
	for text, want := range map[string]string{
		"say `foreshift host drain h1 --wait 5m --json`": "",
		"`foreshift status --check`":                     "no flag --check",
		"`foreshift hots`":                               "no command",
		"`foreshift host drain H --watch`":               "",
		"```\n`foreshift hots`\n```":                     "",
	} {
		faults := Inline("a.md", text, reference)
		if (want == "") != (len(faults) == 0) || want != "" && !strings.Contains(faults[0].Error(), want) {
			t.Errorf("%q: %v, want %q", text, faults, want)
		}
	}
}
