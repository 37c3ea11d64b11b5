package schemas

// Plain is what a move was expected to take by arithmetic alone, before what earlier
// moves taught was laid over it, and the way it takes. What a move then took is compared
// with this, so that a correction is never learnt from itself.
type Plain struct {
	From     SiteID  `json:"from_site"`
	To       SiteID  `json:"to_site"`
	Duration Seconds `json:"duration_seconds" jsonschema_description:"seconds"`
	Downtime Millis  `json:"downtime_ms" jsonschema_description:"ms the guest stands still"`
	Volume   Bytes   `json:"volume_bytes" jsonschema_description:"bytes sent, all rounds"`
}

// Learning is the part of a [Policy] that says what may be learnt. Absent means: costs of
// moves are learnt, settings are not changed, nothing is held out, and auto needs no proof.
type Learning struct {
	FixedCosts bool             `json:"fixed_costs" jsonschema_description:"what a move takes is worked out by arithmetic alone"`
	Settings   bool             `json:"settings" jsonschema_description:"the placer may change settings by itself, within the bounds; false: it only tells"`
	Bounds     map[string]Range `json:"bounds" jsonschema_description:"by setting (trigger_ratio, min_benefit_core_seconds, hold_steps): between which values it may be changed; one that is absent is not changed"`
	HoldOut    Ratio            `json:"hold_out_ratio" jsonschema_description:"share of the moves of little benefit that are held back by lot, so that what moves achieve is known without bias; at most .02"`
	AutoAfter  int              `json:"auto_after" jsonschema_description:"count of decisions in shadow after which auto is trusted; 0 = at once"`
	AutoRight  Ratio            `json:"auto_precision_ratio" jsonschema_description:"share of them that must have been right, 0..1"`
	// DemoteAfter: a class of moves is those within a site, or between two.
	DemoteAfter int `json:"demote_after" jsonschema_description:"count of bad ends among the last 10 moves of a class from which auto only recommends moves of that class; 0 = never"`
}

// Rung is how far auto is trusted with one class of moves.
type Rung struct {
	Class  string `json:"class" jsonschema_description:"site within which, or two sites between which, parted by /"`
	Right  int    `json:"right" jsonschema_description:"count of decisions in shadow that came true, since the class last fell"`
	Wrong  int    `json:"wrong" jsonschema_description:"count of those that did not"`
	Earned Time   `json:"earned" jsonschema_description:"when auto was earned; 0 = it is not"`
	Fell   Time   `json:"fell" jsonschema_description:"when the last bad move ended that took auto away; 0 = never"`
	Why    string `json:"why" jsonschema_description:"what was bad; empty where nothing was"`
}

// Range is a closed interval.
type Range struct {
	Low  float64 `json:"low" jsonschema_description:"in the unit of the setting"`
	High float64 `json:"high" jsonschema_description:"in the unit of the setting"`
}

// Changed is one setting of the policy, before and after.
type Changed struct {
	Setting string  `json:"setting" jsonschema_description:"which one, as in the policy"`
	From    float64 `json:"from" jsonschema_description:"value before, in the unit of the setting"`
	To      float64 `json:"to" jsonschema_description:"value after, in the unit of the setting"`
	Tried   float64 `json:"tried" jsonschema_description:"value tried in shadow, in the unit of the setting"`
}

// Evidence is why settings of the policy were changed: what the fleet would have lost
// under other values, in shadow, on the same demand.
type Evidence struct {
	Changed
	With    []Changed `json:"with,omitempty" jsonschema_description:"settings that were changed together with it"`
	Saved   float64   `json:"saved_core_seconds" jsonschema_description:"core-seconds a day that the tried values are expected to have saved, moves paid for"`
	Low     float64   `json:"saved_low_core_seconds" jsonschema_description:"5 % bound"`
	High    float64   `json:"saved_high_core_seconds" jsonschema_description:"95 % bound"`
	Samples int       `json:"samples" jsonschema_description:"count of days compared"`
}

func (p *Plain) check(c *check) {
	optToken(c, "from_site", p.From)
	optToken(c, "to_site", p.To)
	amount(c, "duration_seconds", p.Duration)
	amount(c, "downtime_ms", p.Downtime)
	amount(c, "volume_bytes", p.Volume)
}

// mostHeldOut is the largest share of marginal moves that may be left out by lot.
const mostHeldOut = .02

func (l *Learning) check(c *check) {
	c.count("bounds", len(l.Bounds), maxSmallList)
	for _, k := range sortedKeys(l.Bounds) {
		c.under("bounds."+clip(k), func(c *check) {
			r := l.Bounds[k]
			amount(c, "low", r.Low)
			amount(c, "high", r.High)
			if r.Low > r.High {
				c.fail("low", "%v is above high %v", r.Low, r.High)
			}
		})
	}
	share(c, "hold_out_ratio", l.HoldOut)
	if l.HoldOut > mostHeldOut {
		c.fail("hold_out_ratio", "%v is above %v", l.HoldOut, mostHeldOut)
	}
	c.atLeast("auto_after", l.AutoAfter, 0)
	share(c, "auto_precision_ratio", l.AutoRight)
	c.atLeast("demote_after", l.DemoteAfter, 0)
}

func (r *Rung) check(c *check) {
	c.given("class", r.Class, 2*MaxName+1)
	c.atLeast("right", r.Right, 0)
	c.atLeast("wrong", r.Wrong, 0)
	c.optWhen("earned", r.Earned)
	c.optWhen("fell", r.Fell)
}

func (m *Changed) check(c *check) {
	c.given("setting", m.Setting, MaxName)
	finite(c, "from", m.From)
	finite(c, "to", m.To)
	finite(c, "tried", m.Tried)
}

func (e *Evidence) check(c *check) {
	e.Changed.check(c)
	c.count("with", len(e.With), maxSmallList)
	for i := range e.With {
		c.under("with", e.With[i].check)
	}
	finite(c, "saved_core_seconds", e.Saved)
	finite(c, "saved_low_core_seconds", e.Low)
	finite(c, "saved_high_core_seconds", e.High)
	if e.Low > e.High {
		c.fail("saved_low_core_seconds", "%v is above the high bound %v", e.Low, e.High)
	}
	c.atLeast("samples", e.Samples, 0)
}
