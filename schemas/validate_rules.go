package schemas

func (r *PolicyRules) check(c *check) {
	c.count("tag_modes", len(r.TagModes), maxSmallList)
	for _, k := range sortedKeys(r.TagModes) {
		c.given("tag_modes key", k, MaxName)
		c.mode("tag_modes "+clip(k), r.TagModes[k])
	}
	c.groups("excluded", [][]VMID{r.Excluded})
	c.hosts("draining", r.Draining)
	c.count("windows", len(r.Windows), maxSmallList)
	for i := range r.Windows {
		c.in("windows", i, func(c *check) {
			w := &r.Windows[i]
			c.hosts("hosts", w.Hosts)
			c.when("start", w.Start)
			c.when("end", w.End)
			c.order("start", w.Start, "end", w.End)
			within(c, "lead_steps", w.Lead, 0, 7*StepsPerDay)
			c.text("why", w.Why, MaxText)
		})
	}
	c.count("residency", len(r.Residency), maxSmallList)
	for i := range r.Residency {
		c.in("residency", i, func(c *check) {
			c.labels("match", r.Residency[i].Match)
			c.count("sites", len(r.Residency[i].Sites), maxSmallList)
			for _, s := range r.Residency[i].Sites {
				token(c, "sites", s)
			}
		})
	}
	c.count("spread", len(r.Spread), maxSmallList)
	for i := range r.Spread {
		c.in("spread", i, func(c *check) {
			c.given("label", r.Spread[i].Label, MaxName)
			oneOf(c, "by", r.Spread[i].By, SpreadByHost, SpreadByDomain, SpreadBySite)
			within(c, "most", r.Spread[i].Most, 1, maxGroup)
		})
	}
	c.groups("soft_apart", r.SoftApart)
	c.groups("soft_together", r.SoftTogether)
	amount(c, "rule_weight_core_seconds", r.RuleWeight)
	amount(c, "latency_weight_core_seconds_per_ms", r.LatencyWeight)
	share(c, "pack_target_ratio", r.PackTarget)
	amount(c, "gate_jump_ratio", r.GateJump)
	c.atLeast("gate_vms", r.GateVMs, 0)
	share(c, "gate_stale_ratio", r.GateStale)
	c.atLeast("approval_steps", r.ApprovalSteps, 0)
	if r.Learning != nil {
		c.under("learning", r.Learning.check)
	}
}

func (c *check) hosts(field string, hs []HostID) {
	c.count(field, len(hs), maxGroup)
	for _, h := range hs {
		token(c, field, h)
	}
}

func (b *PlanBasis) check(c *check) {
	if b.Base != 0 { // a plan of before there was a basis has none
		within(c, "base_step_seconds", b.Base, Seconds(minBase.Seconds()), Seconds(maxBase.Seconds()))
	}
	amount(c, "site_bandwidth_bytes_per_second", b.SiteBandwidth)
	c.atLeast("budget_evaluations", b.Evaluations, 0)
	c.count("persistence_ratio", len(b.Persistence), Slots)
	for _, w := range b.Persistence {
		if w != -1 && !(w >= 0 && w <= 1) {
			c.fail("persistence_ratio", "%g: want 0 to 1, or -1", w)
		}
	}
	c.count("rungs", len(b.Rungs), maxSmallList)
	for i := range b.Rungs {
		c.in("rungs", i, b.Rungs[i].check)
	}
	amount(c, "load_mcpu", b.Load)
	c.atLeast("vms", b.VMs, 0)
	c.count("held", len(b.Held), maxGroup)
	for _, h := range sortedKeys(b.Held) {
		token(c, "held key", h)
		c.atLeast("held "+clip(string(h)), b.Held[h].Steps, 0)
	}
	c.count("skipped", len(b.Skipped), maxGroup)
	for _, v := range sortedVMs(b.Skipped) {
		c.vm("skipped key", v)
		c.optWhen("skipped "+v.String(), b.Skipped[v])
	}
	c.count("planned", len(b.Planned), MaxActions)
	for i := range b.Planned {
		if c.err != nil {
			return
		}
		c.in("planned", i, b.Planned[i].check)
	}
	c.count("sent", len(b.Sent), MaxActions)
	for i := range b.Sent {
		if c.err != nil {
			return
		}
		c.in("sent", i, func(c *check) { c.err = b.Sent[i].Validate() })
	}
	c.count("from_seq", len(b.From), maxSmallList)
	for _, k := range sortedKeys(b.From) {
		token(c, "from_seq key", k)
	}
	if b.Policy != nil {
		c.under("policy", func(c *check) { c.err = b.Policy.Validate() })
	}
}
