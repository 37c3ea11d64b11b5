package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/placer/policy"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// drained is a small fleet of two sites, one host of which is being emptied.
func drained(t *testing.T) *picture {
	t.Helper()
	now := schemas.At(time.Date(2031, 5, 4, 12, 0, 0, 0, time.UTC))
	vm := func(n byte, name string) schemas.InventoryVM {
		return schemas.InventoryVM{VM: schemas.VMID{15: n}, Name: name, State: schemas.VMRunning, VCPUs: 2, AllocCPU: 2000, AllocMem: 4 << 30, Resident: 3 << 30, Movable: name != "fixed", WhyPinned: map[bool]string{true: "host device (pci) is passed through"}[name == "fixed"],
			CPUModel: "Nehalem", DirtyRate: 2e7, DirtyHigh: 5e7, Labels: map[string]string{"slo": "gold", policy.LabelSite: "vienna"}, Disks: []schemas.VMDisk{{Target: "vda", Path: "/pool/a", Size: 10 << 30, Shared: true}}}
	}
	host := func(id, site string, seen time.Duration, vms ...schemas.InventoryVM) *schemas.CapacityHost {
		return &schemas.CapacityHost{Host: schemas.HostID(id), Site: schemas.SiteID(site), Time: now.Add(-seen), Capacity: schemas.Amounts{CPU: 8000, Mem: 32 << 30}, Used: schemas.Amounts{CPU: 2000, Mem: 8 << 30}, Speed: 1,
			CPUModel: "EPYC", Domain: "rack-" + id, Libvirt: 9000000, QEMU: 10000002, VMs: vms, Pools: []schemas.StoragePool{{Name: "p", Path: "/pool", Capacity: 1 << 40, Free: 1 << 39, Shared: true}}}
	}
	capacity := []streams.Event{
		{Seq: 1, Msg: host("a1", "paris", time.Second)}, {Seq: 2, Msg: host("b1", "vienna", time.Second, vm(1, "web"), vm(2, "db"), vm(3, "fixed"))}, {Seq: 3, Msg: host("b2", "vienna", 3*time.Minute)},
		{Seq: 4, Msg: &schemas.CapacityLink{A: "paris", B: "vienna", Time: now.Add(-10 * time.Minute), RTT: 22, Bandwidth: 1.25e8, Free: 1e8, By: "a1"}},
	}
	words := []streams.Event{
		{Seq: 1, Time: int64(now.Add(-time.Minute)), Msg: &schemas.Act{ID: "1", Act: schemas.ActDrain, Host: "b1", Time: now.Add(-time.Minute)}},
		{Seq: 2, Time: int64(now.Add(-time.Minute)), Msg: &schemas.Act{ID: "2", Act: schemas.ActCordon, Host: "a1", Time: now.Add(-time.Minute)}},
	}
	command := func(id, name string, n byte) *schemas.Command {
		return &schemas.Command{ID: schemas.CommandID(id), VM: schemas.VMID{15: n}, Name: name, Source: "b1", Destination: "b2", Issued: now.Add(-30 * time.Second)}
	}
	moves := []streams.Event{
		{Seq: 5, Msg: command("m-1", "gone", 9)}, {Seq: 6, Msg: &schemas.Outcome{Command: "m-1", Result: schemas.ResultSucceeded, Time: now}},
		{Seq: 7, Msg: command("m-2", "web", 1)},
		{Seq: 8, Msg: &schemas.Plan{ID: "p-1", Time: now, Actions: []schemas.Action{{ID: "m-3", VM: schemas.VMID{15: 2}, Name: "db", Source: "b1", Destination: "b2", Due: now.Add(5 * time.Second), State: schemas.ActionPlanned,
			Reason: schemas.Reason{Code: schemas.ReasonOK, Detail: "b1 is being emptied"}, Hold: schemas.Reason{Code: schemas.ReasonNotDue, Detail: "it starts in 5s"}}},
			Declined: []schemas.Decline{{VM: schemas.VMID{15: 3}, Host: "b1", Reason: schemas.Reason{Code: schemas.ReasonPinned, Detail: "fixed cannot move live: host device (pci) is passed through"}}}}},
	}
	return &picture{console.Build(append(append(capacity, moves...), words...), now)}
}

// What the placement commands print, as golden scripts.
func TestPlacementCommands(t *testing.T) {
	p := drained(t)
	datadriven.RunTest(t, "testdata/placement.txt", func(t *testing.T, td *datadriven.TestData) string {
		var out bytes.Buffer
		var err error
		arg := ""
		if len(td.CmdArgs) > 0 {
			arg = td.CmdArgs[0].Key
		}
		switch td.Cmd {
		case "map":
			err = p.writeMap(&out, arg == "json")
		case "host":
			err = p.showHost(&out, false, arg)
		case "hosts":
			err = table(&out, hostRows(p.View)...)
		case "vm":
			m, perr := pickVM(p.View, arg)
			if perr != nil {
				return perr.Error() + "\n"
			}
			err = p.showVM(&out, m)
		case "explain":
			if arg == "" {
				fmt.Fprint(&out, p.ExplainFleet())
				break
			}
			m, perr := pickVM(p.View, arg)
			if perr != nil {
				return perr.Error() + "\n"
			}
			fmt.Fprint(&out, p.Explain(&m))
		}
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
		for i, l := range lines { // no blank line may end the expectation early
			if lines[i] = strings.TrimRight(l, " "); lines[i] == "" {
				lines[i] = "~"
			}
		}
		return strings.Join(lines, "\n") + "\n"
	})
}

// A file changes what it names and nothing else; lists are replaced; faults are told
// before anything is published.
func TestPolicyFromAFile(t *testing.T) {
	over := policy.Default()
	over.MaxPerHour, over.Cordoned = 7, []schemas.HostID{"old"}
	over.Weights = map[string]float64{"silver": 2}
	p, err := readPolicy("-", strings.NewReader(`{"max_per_cluster": 3, "cordoned": ["new"], "weights": {"gold": 4}, "spread": [{"label": "app", "by": "site", "most": 2}]}`), over)
	if err != nil {
		t.Fatal(err)
	}
	if p.MaxPerCluster != 3 || p.MaxPerHour != 7 || len(p.Cordoned) != 1 || p.Cordoned[0] != "new" || len(p.Weights) != 1 || p.Weights["gold"] != 4 || len(p.Spread) != 1 || over.Weights["gold"] != 0 {
		t.Errorf("%+v", p)
	}
	for text, want := range map[string]string{`{"max_per_clutser": 3}`: "max_per_clutser", `{"trigger_ratio": 7}`: "trigger_ratio = 7", `[1]`: "policy -", `{`: "policy -"} {
		if _, err := readPolicy("-", strings.NewReader(text), over); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	path := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(path, []byte(`{"rules_only": true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, nil, "policy", "check", path, "--json")
	var back policy.Policy
	if err != nil || json.Unmarshal([]byte(out), &back) != nil || !back.RulesOnly || back.GateJump != 2 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestPlacementCommandsUsedWrongly(t *testing.T) {
	for _, x := range []struct {
		args  []string
		usage bool
		want  string
	}{
		{[]string{"replay"}, true, "see `foreshift replay --help`"},
		{[]string{"explain", "a", "b"}, true, "see `foreshift explain --help`"},
		{[]string{"map", "x"}, true, "see `foreshift map --help`"},
		{[]string{"host", "drain"}, true, "see `foreshift host drain --help`"},
		{[]string{"policy", "rollback", "x"}, true, "want a number"},
		{[]string{"policy", "check", "/no/such/file"}, false, "no such file"},
		{[]string{"map"}, false, "start one with `foreshift up`"},
		{[]string{"replay", "last"}, false, "start one with `foreshift up`"},
	} {
		if _, err := run(t, nil, x.args...); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%v: %v, want %q", x.args, err, x.want)
		} else if usage := strings.HasPrefix(fmt.Sprintf("%T", err), "main.usageError"); usage != x.usage {
			t.Errorf("%v: usage error %v, want %v", x.args, usage, x.usage)
		}
	}
}
