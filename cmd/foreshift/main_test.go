package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// run executes a command line against an empty state directory.
func run(t *testing.T, stdin []byte, args ...string) (string, error) {
	t.Helper()
	c := root()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetIn(bytes.NewReader(stdin))
	c.SetArgs(append(args, "--state", t.TempDir()))
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func TestWrongUseSaysWhatToDo(t *testing.T) {
	for _, x := range []struct {
		args  []string
		usage bool
		want  string
	}{
		{[]string{"up", "--no-such-flag"}, true, "see `foreshift up --help`"},
		{[]string{"vm", "show"}, true, "see `foreshift vm show --help`"},
		{[]string{"nonsense"}, true, "unknown command"},
		{[]string{"up", "--mode", "bold"}, true, "observe, recommend, approve or auto"},
		{[]string{"up", "--hosts", "0", "--agent", "/bin/true", "--vms", "-1"}, true, "VMs = -1: want 1 to"},
		{[]string{"up", "--page", "0.0.0.0:80", "--agent", "/bin/true"}, true, "loopback"},
		{[]string{"actuator"}, true, "--host"},
		{[]string{"placer", "--log", "loud"}, true, "debug, info, warn or error"},
		{[]string{"resolve", "vm"}, true, "--runs-at is needed"},
		{[]string{"host", "cordon", "a b"}, false, "not allowed"},
		{[]string{"status"}, false, "start one with `foreshift up`"},
		{[]string{"decode", "/no/such/file"}, false, "no such file"},
	} {
		out, err := run(t, nil, x.args...)
		if err == nil {
			t.Errorf("%v passed: %s", x.args, out)
			continue
		}
		if !strings.Contains(err.Error(), x.want) || errors.As(err, new(usageError)) != x.usage {
			t.Errorf("%v: %v (usage error %v); want %q, usage error %v", x.args, err, !x.usage, x.want, x.usage)
		}
	}
}

func TestDecode(t *testing.T) {
	golden := filepath.Join("..", "..", "schemas", "testdata", "golden")
	for kind, version := range map[string]string{"metrics": ".v1.0", "steps": ".v1.1", "forecasts": ".v1.0"} {
		b, err := os.ReadFile(filepath.Join(golden, kind+version+".arrow"))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(golden, kind+version+".lines"))
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"decode"}, {"decode", "--kind", kind}} {
			if got, err := run(t, b, args...); err != nil || got != string(want) {
				t.Errorf("%v of %s: %v\n%s", args, kind, err, got)
			}
		}
	}
	if got, err := run(t, []byte("{\n \"a\": 1\n}"), "decode"); err != nil || got != "{\"a\":1}\n" {
		t.Errorf("JSON: %q %v", got, err)
	}
	for _, bad := range []string{"", "garbage", "\xff\xff\xff\xff", "\xff\xff\xff\xff\x00\x00\x00\x10abc"} {
		if got, err := run(t, []byte(bad), "decode"); err == nil {
			t.Errorf("%q was decoded: %s", bad, got)
		}
	}
	if _, err := run(t, []byte(`{"id":"x"}`), "decode", "--kind", "plan"); err == nil {
		t.Error("an incomplete plan passed")
	}
}

func TestTables(t *testing.T) {
	now := schemas.At(time.Date(2031, 5, 4, 12, 0, 0, 0, time.UTC))
	vm := schemas.VMID{15: 7}
	v := console.Build([]streams.Event{
		{Seq: 1, Msg: &schemas.CapacityHost{Host: "a", Site: "s", Time: now, Capacity: schemas.Amounts{CPU: 8000, Mem: 16 << 30}, Used: schemas.Amounts{CPU: 2000},
			VMs: []schemas.InventoryVM{{VM: vm, Name: "web", State: schemas.VMRunning, AllocCPU: 2000, AllocMem: 4 << 30}}}},
		{Seq: 2, Msg: &schemas.PressureHost{Host: "a", Score: .9, Resource: "cpu", Onset: now.Add(90 * time.Second), Chances: map[string]schemas.Chance{"cpu": {H1: .25, H6: .5, H24: .9}}}},
		{Seq: 3, Msg: &schemas.Benefit{VM: vm, Host: "a", Reason: schemas.Reason{Code: schemas.ReasonNoRoom, Detail: "no host has the memory"}}},
		{Seq: 4, Msg: &schemas.Command{ID: "m", VM: vm, Name: "web", Source: "a", Destination: "b", Predicted: schemas.Prediction{Onset: now.Add(time.Minute)}}},
		{Seq: 5, Msg: &schemas.Outcome{Command: "m", Result: schemas.ResultSucceeded, Time: now, Duration: 2.5, Downtime: 80}},
	}, now)
	var out bytes.Buffer
	for _, rows := range [][][]string{hostRows(v), vmRows(v, false), moveRows(v, 5)} {
		if err := table(&out, rows...); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"25 %", "in 1 min 30 s", "no_room: no host has the memory", "2.5 s", "80 ms", "1 min before it", "8.0", "16.0"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the tables lack %q:\n%s", want, out.String())
		}
	}
}
