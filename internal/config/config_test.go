package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// program is a small command line: two services, one of them with a command below.
func program() (root, placer, list *cobra.Command, base *time.Duration) {
	root = &cobra.Command{Use: "prog"}
	root.PersistentFlags().String("nats", "", "address of the bus")
	base = new(time.Duration)
	run := func(*cobra.Command, []string) {}
	placer = &cobra.Command{Use: "placer", Run: run}
	placer.Flags().DurationVar(base, "base-step", 5*time.Minute, "length of a base step")
	placer.Flags().StringSlice("hosts", nil, "hosts")
	placer.Flags().Int("most", 3, "most of it")
	plan := &cobra.Command{Use: "plan", Run: run}
	list = &cobra.Command{Use: "list", Run: run}
	list.Flags().Bool("wide", false, "wide")
	plan.AddCommand(list)
	root.AddCommand(placer, plan)
	return root, placer, list, base
}

func TestApply(t *testing.T) {
	f, err := Parse("x.toml", "[fleet]\nnats = \"tls://a\"\n[placer]\nbase-step = \"1m\"\nhosts = [\"a\", \"b\"]\nmost = 7\n")
	if err != nil {
		t.Fatal(err)
	}
	root, _, _, _ := program()
	if faults := f.Check(root); len(faults) > 0 {
		t.Fatal(faults)
	}
	_, placer, list, base := program() // Check sets values as well
	if err := placer.ParseFlags([]string{"--most", "9"}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*cobra.Command{placer, list} {
		if err := f.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	hosts, _ := placer.Flags().GetStringSlice("hosts")
	if *base != time.Minute || !slices.Equal(hosts, []string{"a", "b"}) || placer.Flag("most").Value.String() != "9" || list.Flag("nats").Value.String() != "tls://a" {
		t.Errorf("base %v, hosts %v, most %s: the command line, then the file, then the default", *base, hosts, placer.Flag("most").Value)
	}
	if got := Effective(placer); !slices.Contains(got, "most=9") || !slices.Contains(got, "base-step=1m0s") {
		t.Error(got)
	}
}

// Every fault is told at once, with section, setting, value and what is wanted.
func TestFaults(t *testing.T) {
	f, err := Parse("x.toml", "[fleet]\nnatz = \"x\"\n[placer]\nbase-step = \"soon\"\nmost = \"many\"\n[plcer]\nmost = 1\n[tunnels]\n[plan]\nmost = 2\n")
	if err != nil {
		t.Fatal(err)
	}
	root, _, _, _ := program()
	faults := f.Check(root)
	for _, want := range []string{`[fleet] natz = "x": no such setting; is "nats" meant?`, `[placer] base-step = "soon": want a duration like 5m or 10s (length of a base step)`, `[placer] most = "many": want a whole number`,
		`[plcer]: no such section; is "placer" meant?`, `[tunnels]: no such section; there are: fleet, placer, plan`, `[plan] most = "2": no such setting`} {
		if !strings.Contains(faults.Error(), want) {
			t.Errorf("%q is not told in\n%s", want, faults)
		}
	}
	if len(faults) != 6 {
		t.Errorf("%d faults:\n%s", len(faults), faults)
	}
	_, placer, _, _ := program()
	if err := f.Apply(placer); err == nil || !errors.As(err, new(Faults)) || strings.Contains(err.Error(), "plcer") {
		t.Error(err)
	}
	for text, want := range map[string]string{"nats = \"x\"": "want a section", "[a\n": "line 2", "[a]\nx = {y = 1}": "want a text", "[a]\nx = [1]": "want a text"} {
		if _, err := Parse("x.toml", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Read("/no/such/file"); err == nil {
		t.Error("no file passed")
	}
}

// What Sample writes is read back as it was meant.
func TestSample(t *testing.T) {
	root, placer, _, _ := program()
	text := Sample(placer, Fleet, map[string]string{"nats": "tls://a"}) + Sample(placer, "placer", map[string]string{"most": "4"})
	for _, want := range []string{"# Length of a base step\n#base-step = \"5m0s\"", "most = 4", "nats = \"tls://a\""} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	f, err := Parse("x.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	if faults := f.Check(root); len(faults) > 0 {
		t.Error(faults)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[fleet]\nnats = \"x\"\n")
	f.Add("[a]\nx = 1\ny = [\"a\"]\n[b]\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("x.toml", text)
		if err != nil {
			return
		}
		root, placer, _, _ := program()
		_ = file.Apply(placer)
		for _, x := range file.Check(root) {
			if x.Want == "" {
				t.Errorf("a fault says nothing: %+v", x)
			}
		}
	})
}
