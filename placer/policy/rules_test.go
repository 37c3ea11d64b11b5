package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

var noon = schemas.At(time.Date(2031, 5, 4, 12, 0, 0, 0, time.UTC))

func TestHostRules(t *testing.T) {
	p := Default()
	p.Cordoned, p.Draining = []schemas.HostID{"c"}, []schemas.HostID{"d"}
	p.Windows = []schemas.Window{
		{Hosts: []schemas.HostID{"m"}, Start: noon.Add(time.Hour), End: noon.Add(2 * time.Hour), Lead: 6, Why: "firmware"},
		{Hosts: []schemas.HostID{"f"}, Start: noon, End: noon.Add(time.Hour), Freeze: true},
		{Start: noon.Add(3 * time.Hour), End: noon.Add(4 * time.Hour), Freeze: true, Why: "change freeze"},
	}
	for _, c := range []struct {
		at                   time.Duration
		host                 schemas.HostID
		takes, leave, frozen schemas.ReasonCode
	}{
		{0, "x", "", "", ""},
		{0, "c", schemas.ReasonCordoned, "", ""},
		{0, "d", schemas.ReasonDraining, schemas.ReasonDraining, ""},
		{0, "m", "", "", ""},
		{30 * time.Minute, "m", schemas.ReasonMaintenance, schemas.ReasonMaintenance, ""},
		{90 * time.Minute, "m", schemas.ReasonMaintenance, schemas.ReasonMaintenance, ""},
		{2 * time.Hour, "m", "", "", ""},
		{-time.Second, "f", "", "", ""},
		{0, "f", "", "", schemas.ReasonFrozen},
		{time.Hour, "f", "", "", ""},
		{3 * time.Hour, "x", "", "", schemas.ReasonFrozen},
		{4 * time.Hour, "x", "", "", ""},
	} {
		r := NewHostRules(p, noon.Add(c.at), 5*time.Minute)
		if r.Takes(c.host).Code != c.takes || r.Leave(c.host).Code != c.leave || r.Frozen(c.host).Code != c.frozen {
			t.Errorf("%s after %v: takes %v, leave %v, frozen %v; want %q %q %q", c.host, c.at, r.Takes(c.host), r.Leave(c.host), r.Frozen(c.host), c.takes, c.leave, c.frozen)
		}
	}
	if why := NewHostRules(p, noon.Add(3*time.Hour), time.Minute).Fleet(); !strings.Contains(why.Detail, "change freeze") {
		t.Errorf("the freeze does not say why: %v", why)
	}
}

func TestModeOfTags(t *testing.T) {
	p := Default()
	v := schemas.VMID{1}
	p.TagModes = map[string]schemas.Mode{"tier=gold": schemas.ModeApprove, "app=db": schemas.ModeObserve}
	for _, c := range []struct {
		labels map[string]string
		host   schemas.Mode
		want   schemas.Mode
	}{
		{nil, schemas.ModeAuto, schemas.ModeAuto},
		{map[string]string{"tier": "gold"}, schemas.ModeAuto, schemas.ModeApprove},
		{map[string]string{"tier": "gold"}, schemas.ModeRecommend, schemas.ModeRecommend},
		{map[string]string{"tier": "gold", "app": "db"}, schemas.ModeAuto, schemas.ModeObserve},
		{map[string]string{"tier": "silver"}, schemas.ModeAuto, schemas.ModeAuto},
	} {
		if got := ModeOf(p, v, c.labels, c.host); got != c.want {
			t.Errorf("%v on %s: %s, want %s", c.labels, c.host, got, c.want)
		}
	}
	p.VMModes = map[schemas.VMID]schemas.Mode{v: schemas.ModeAuto}
	if got := ModeOf(p, v, map[string]string{"app": "db"}, schemas.ModeAuto); got != schemas.ModeAuto {
		t.Errorf("a VM's own word goes before its tags': %s", got)
	}
}

func TestSitesOfResidency(t *testing.T) {
	p := Default()
	p.Residency = []schemas.Residency{{Match: map[string]string{"data": "eu"}, Sites: []schemas.SiteID{"vienna", "paris"}}, {Match: map[string]string{"data": "eu", "tier": "gold"}, Sites: []schemas.SiteID{"vienna", "oslo"}}}
	for _, c := range []struct {
		labels map[string]string
		bound  bool
		want   []schemas.SiteID
	}{
		{nil, false, nil},
		{map[string]string{"data": "eu"}, true, []schemas.SiteID{"vienna", "paris"}},
		{map[string]string{"data": "eu", "tier": "gold"}, true, []schemas.SiteID{"vienna"}},
		{map[string]string{LabelSite: "oslo"}, true, []schemas.SiteID{"oslo"}},
		{map[string]string{LabelSite: "oslo", "data": "eu"}, true, nil},
	} {
		got, bound := Sites(p, c.labels)
		if bound != c.bound || !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, bound %v; want %v", c.labels, got, bound, c.want)
		}
	}
	if len(p.Residency[0].Sites) != 2 {
		t.Error("the policy itself was changed")
	}
}

func TestEveryFaultOfTheRulesIsTold(t *testing.T) {
	p := Default()
	p.TagModes = map[string]schemas.Mode{"gold": schemas.ModeAuto, "a=b": "bold"}
	p.Draining = []schemas.HostID{"a b"}
	p.Windows = []schemas.Window{{Start: 5, End: 5}, {Hosts: []schemas.HostID{"a"}, Start: 5, End: 6, Lead: -1}}
	p.Residency = []schemas.Residency{{}}
	p.Spread = []schemas.Spread{{By: "rack"}}
	p.SoftApart = [][]schemas.VMID{{{1}}}
	p.PackTarget, p.GateJump, p.ApprovalSteps = 2, 1, -1
	err := Validate(p)
	if err == nil {
		t.Fatal("nothing is told")
	}
	for _, want := range []string{"tag_modes = gold", "tag_modes.a=b", "draining", "windows[0] ", "windows[0].hosts", "windows[1].lead_steps", "residency[0].sites", "spread[0].label", "spread[0].by", "spread[0].most", "soft_apart[0]", "pack_target_ratio", "gate_jump_ratio", "approval_steps"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told:\n%v", want, err)
		}
	}
	if err := Validate(Complete(Default())); err != nil {
		t.Errorf("the default: %v", err)
	}
}
