package schemas

func (c *check) mode(field string, m Mode) {
	oneOf(c, field, m, ModeObserve, ModeRecommend, ModeApprove, ModeAuto)
}

func (m *Cut) check(c *check) {
	c.when("now_ns", Time(m.Now))
	c.count("seq", len(m.Seq), maxSmallList)
	for _, k := range sortedKeys(m.Seq) {
		token(c, "seq key", k)
	}
}

func (a *Action) check(c *check) {
	token(c, "id", a.ID)
	c.vm("vm", a.VM)
	c.text("name", a.Name, MaxName)
	c.way(a.Source, a.Destination)
	c.optWhen("due", a.Due)
	c.optWhen("latest", a.Latest)
	oneOf(c, "state", a.State, ActionPlanned, ActionWaiting, ActionCommanded)
	c.under("reason", a.Reason.check)
	c.under("hold", a.Hold.check)
	c.under("predicted", a.Predicted.check)
	c.declines("why_not", a.WhyNot)
}

// Validate implements [Message].
func (m *Plan) Validate() error {
	var c check
	token(&c, "id", m.ID)
	c.when("time", m.Time)
	c.under("cut", m.Cut.check)
	c.mode("mode", m.Mode)
	c.atLeast("used_evaluations", m.Used, 0)
	c.text("hash", m.Hash, 64)
	c.count("actions", len(m.Actions), MaxActions)
	seen := make(map[CommandID]struct{}, min(len(m.Actions), MaxActions))
	for i := range m.Actions {
		if c.err != nil {
			break
		}
		c.in("actions", i, m.Actions[i].check)
		if _, twice := seen[m.Actions[i].ID]; twice {
			c.fail("actions", "id %q is used twice", m.Actions[i].ID)
		}
		seen[m.Actions[i].ID] = struct{}{}
	}
	c.declines("declined", m.Declined)
	amount(&c, "before_resource_seconds", m.Before)
	amount(&c, "after_resource_seconds", m.After)
	c.under("basis", m.Basis.check)
	return c.err
}

func (c *check) groups(field string, gs [][]VMID) {
	c.count(field, len(gs), maxGroup)
	for i, g := range gs {
		if c.err != nil {
			return
		}
		c.in(field, i, func(c *check) {
			c.count("group", len(g), maxGroup)
			for _, v := range g {
				c.vm("group", v)
			}
		})
	}
}

// Validate implements [Message]. It checks what any policy must hold to; what is
// wise is checked where policies are made.
func (m *Policy) Validate() error {
	var c check
	c.mode("mode", m.Mode)
	c.count("host_modes", len(m.HostModes), maxGroup)
	for _, h := range sortedKeys(m.HostModes) {
		token(&c, "host_modes key", h)
		c.mode("host_modes "+string(h), m.HostModes[h])
	}
	c.count("vm_modes", len(m.VMModes), maxGroup)
	for _, v := range sortedVMs(m.VMModes) {
		c.vm("vm_modes key", v)
		c.mode("vm_modes "+v.String(), m.VMModes[v])
	}
	share(&c, "trigger_ratio", m.Trigger)
	c.atLeast("hold_steps", m.HoldSteps, 0)
	amount(&c, "min_benefit_core_seconds", m.MinBenefit)
	amount(&c, "margin_steps", m.MarginSteps)
	within(&c, "look_ahead_steps", m.LookAheadSteps, 0, StepsPerDay)
	share(&c, "soft_capacity_ratio", m.SoftCapacity)
	amount(&c, "soft_weight_ratio", m.SoftWeight)
	share(&c, "mem_quantile_ratio", m.MemQuantile)
	c.atLeast("cool_down_steps", m.CoolDownSteps, 0)
	c.atLeast("max_per_host", m.MaxPerHost, 0)
	c.atLeast("max_per_link", m.MaxPerLink, 0)
	c.atLeast("max_per_cluster", m.MaxPerCluster, 0)
	c.atLeast("max_per_hour", m.MaxPerHour, 0)
	c.atLeast("max_per_vm_day", m.MaxPerVMDay, 0)
	c.atLeast("breaker_in_a_row", m.BreakerRow, 0)
	share(&c, "breaker_share_ratio", m.BreakerShare)
	c.count("weights", len(m.Weights), maxSmallList)
	for _, k := range sortedKeys(m.Weights) {
		c.given("weights key", k, MaxName)
		amount(&c, "weights "+clip(k), m.Weights[k])
	}
	c.groups("pinned", [][]VMID{m.Pinned})
	c.groups("apart", m.Apart)
	c.groups("together", m.Together)
	c.hosts("cordoned", m.Cordoned)
	m.PolicyRules.check(&c)
	return c.err
}

// Validate implements [Message]. Each act must name what it acts on.
func (m *Act) Validate() error {
	var c check
	c.given("id", m.ID, MaxName)
	oneOf(&c, "act", m.Act, ActKinds...)
	c.text("by", m.By, MaxName)
	c.when("time", m.Time)
	c.text("why", m.Why, MaxText)
	optToken(&c, "host", m.Host)
	optToken(&c, "plan", m.Plan)
	optToken(&c, "command", m.Command)
	optToken(&c, "runs_at", m.RunsAt)
	switch m.Act {
	case ActApprove, ActSkip:
		token(&c, "plan", m.Plan)
	case ActAbort:
		if m.VM.IsZero() && m.Command == "" {
			c.fail("vm", "is missing: abort names a VM or a command")
		}
	case ActResolve:
		c.vm("vm", m.VM)
	case ActCordon, ActUncordon, ActDrain:
		token(&c, "host", m.Host)
	case ActMode:
		c.mode("mode", m.Mode)
	case ActPolicy:
		if m.Policy == nil {
			c.fail("policy", "is missing")
		}
	}
	if m.Mode != "" {
		c.mode("mode", m.Mode)
	}
	if m.Policy != nil && c.err == nil {
		c.under("policy", func(c *check) { c.err = m.Policy.Validate() })
	}
	if m.Evidence != nil && c.err == nil {
		c.under("evidence", m.Evidence.check)
	}
	return c.err
}
