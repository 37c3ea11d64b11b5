package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
	"github.com/nats-io/nats.go/jetstream"
)

// ApplyOptions fit the table to a place.
type ApplyOptions struct {
	Hosts    []schemas.HostID // each gets its durable consumer of commands
	Replicas int              // 1, 3 or 5; 0: 1
	Scale    float64          // of the streams' sizes; 0: 1
	// Placement puts the streams of commands and audit on servers tagged [TagCtrl], those
	// of telemetry on servers tagged [TagTel].
	Placement bool
}

// The tags of servers that streams are placed by.
const (
	TagCtrl = "ctrl"
	TagTel  = "tel"
)

// ScaleEmbedded makes the table fit on a laptop's disk.
const ScaleEmbedded = 1.0 / 64

// minBytes is the least a stream is scaled down to.
const minBytes = 64 * mib

// Change is one difference between the table and the bus.
type Change struct {
	Account Account
	What    string // "stream METRICS", "consumer actuator-h1 of MIGRATIONS"
	Action  string // create, update, or differs: cannot be changed in place
	Detail  string
}

func (c Change) String() string {
	s := fmt.Sprintf("%-7s %s %s", c.Action, c.Account, c.What)
	if c.Detail != "" {
		s += ": " + c.Detail
	}
	return s
}

// The actions of a change.
const (
	ActionCreate  = "create"
	ActionUpdate  = "update"
	ActionDiffers = "differs"
)

// Diff tells what Apply would do.
func Diff(ctx context.Context, admin *Bus, opt ApplyOptions) ([]Change, error) {
	return walk(ctx, admin, opt, false)
}

// Apply makes the bus as the table says: it creates what is missing, updates what
// can be updated, and reports what differs and cannot be. It removes nothing.
// Doing it again changes nothing.
func Apply(ctx context.Context, admin *Bus, opt ApplyOptions) ([]Change, error) {
	return walk(ctx, admin, opt, true)
}

func walk(ctx context.Context, admin *Bus, opt ApplyOptions, do bool) ([]Change, error) {
	for _, h := range opt.Hosts {
		if err := schemas.CheckToken("host", string(h)); err != nil {
			return nil, fmt.Errorf("streams: %w", err)
		}
	}
	var out []Change
	for i := range table {
		ch, err := admin.applyStream(ctx, table[i].config(opt), table[i].Account, do)
		if err != nil {
			return out, fmt.Errorf("streams: %s %s: %w", table[i].Account, table[i].Name, err)
		}
		out = append(out, ch...)
	}
	for _, d := range Durables(opt.Hosts) {
		ch, err := admin.applyDurable(ctx, d, opt, do)
		if err != nil {
			return out, fmt.Errorf("streams: consumer %s of %s: %w", d.Name, d.Stream, err)
		}
		out = append(out, ch...)
	}
	return out, nil
}

// config is the stream's configuration for the server.
func (s *Stream) config(opt ApplyOptions) jetstream.StreamConfig {
	c := jetstream.StreamConfig{
		Name: s.Name, Description: s.Doc, Subjects: s.patterns(),
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage,
		MaxAge: s.MaxAge, MaxBytes: s.MaxBytes, MaxMsgSize: s.MaxMsg,
		MaxMsgs: -1, MaxConsumers: -1, MaxMsgsPerSubject: -1,
		Duplicates: 2 * time.Minute, Replicas: max(opt.Replicas, 1),
		DenyDelete: s.NoDelete, DenyPurge: s.NoDelete, AllowDirect: s.Direct,
	}
	if s.MaxMsg == 0 {
		c.MaxMsgSize = -1
	}
	if opt.Scale > 0 && opt.Scale != 1 {
		c.MaxBytes = max(int64(float64(s.MaxBytes)*opt.Scale), min(s.MaxBytes, minBytes))
	}
	if opt.Placement {
		c.Placement = &jetstream.Placement{Tags: []string{TagCtrl}}
		if s.Account == Tel {
			c.Placement.Tags[0] = TagTel
		}
	}
	if s.DiscardNew {
		c.Discard = jetstream.DiscardNew
	}
	if s.Bucket != "" {
		c.MaxMsgsPerSubject, c.AllowRollup, c.DenyDelete, c.Discard = s.History, true, true, jetstream.DiscardNew
	}
	if s.Objects != "" {
		c.AllowRollup, c.Discard = true, jetstream.DiscardNew
	}
	return c
}

func (b *Bus) applyStream(ctx context.Context, want jetstream.StreamConfig, a Account, do bool) ([]Change, error) {
	c, err := b.conn(a)
	if err != nil {
		return nil, err
	}
	wait, done := c.denials.watch(ctx, "$JS.API.")
	defer done()
	what := "stream " + want.Name
	s, err := c.JS.Stream(wait, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if do {
			if _, err := c.JS.CreateStream(wait, want); err != nil {
				return nil, explain(wait, "create", err)
			}
		}
		return []Change{{a, what, ActionCreate, strings.Join(want.Subjects, " ")}}, nil
	}
	if err != nil {
		return nil, explain(wait, "look at it", err)
	}
	have := s.CachedInfo().Config
	var out []Change
	if fixed := fixedDifferences(have, want); len(fixed) > 0 {
		out = append(out, Change{a, what, ActionDiffers, strings.Join(fixed, "; ") + "; only making it anew can change that"})
	}
	soft := softDifferences(have, want)
	if len(soft) == 0 {
		return out, nil
	}
	if do {
		next := have
		adopt(&next, want)
		if _, err := c.JS.UpdateStream(wait, next); err != nil {
			return out, explain(wait, "update", err)
		}
	}
	return append(out, Change{a, what, ActionUpdate, strings.Join(soft, "; ")}), nil
}

// fixedDifferences cannot be mended in place.
func fixedDifferences(have, want jetstream.StreamConfig) (out []string) {
	if have.Storage != want.Storage {
		out = append(out, fmt.Sprintf("storage %v, want %v", have.Storage, want.Storage))
	}
	if have.Retention != want.Retention {
		out = append(out, fmt.Sprintf("retention %v, want %v", have.Retention, want.Retention))
	}
	if have.DenyDelete && !want.DenyDelete {
		out = append(out, "deny_delete is set")
	}
	if have.DenyPurge && !want.DenyPurge {
		out = append(out, "deny_purge is set")
	}
	return out
}

// field is one setting that can be changed in place.
type field struct {
	name string
	get  func(*jetstream.StreamConfig) any
	set  func(have, want *jetstream.StreamConfig)
}

var softFields = []field{
	{"subjects", func(c *jetstream.StreamConfig) any { return strings.Join(c.Subjects, " ") }, func(h, w *jetstream.StreamConfig) { h.Subjects = w.Subjects }},
	{"description", func(c *jetstream.StreamConfig) any { return c.Description }, func(h, w *jetstream.StreamConfig) { h.Description = w.Description }},
	{"max_age", func(c *jetstream.StreamConfig) any { return c.MaxAge }, func(h, w *jetstream.StreamConfig) { h.MaxAge = w.MaxAge }},
	{"max_bytes", func(c *jetstream.StreamConfig) any { return c.MaxBytes }, func(h, w *jetstream.StreamConfig) { h.MaxBytes = w.MaxBytes }},
	{"max_msg_size", func(c *jetstream.StreamConfig) any { return c.MaxMsgSize }, func(h, w *jetstream.StreamConfig) { h.MaxMsgSize = w.MaxMsgSize }},
	{"max_msgs_per_subject", func(c *jetstream.StreamConfig) any { return c.MaxMsgsPerSubject }, func(h, w *jetstream.StreamConfig) { h.MaxMsgsPerSubject = w.MaxMsgsPerSubject }},
	{"duplicate_window", func(c *jetstream.StreamConfig) any { return c.Duplicates }, func(h, w *jetstream.StreamConfig) { h.Duplicates = w.Duplicates }},
	{"discard", func(c *jetstream.StreamConfig) any { return c.Discard }, func(h, w *jetstream.StreamConfig) { h.Discard = w.Discard }},
	{"replicas", func(c *jetstream.StreamConfig) any { return c.Replicas }, func(h, w *jetstream.StreamConfig) { h.Replicas = w.Replicas }},
	{"placement", func(c *jetstream.StreamConfig) any { return placed(c) }, func(h, w *jetstream.StreamConfig) {
		if w.Placement != nil {
			h.Placement = w.Placement
		}
	}},
	{"allow_direct", func(c *jetstream.StreamConfig) any { return c.AllowDirect }, func(h, w *jetstream.StreamConfig) { h.AllowDirect = w.AllowDirect }},
	{"allow_rollup_hdrs", func(c *jetstream.StreamConfig) any { return c.AllowRollup }, func(h, w *jetstream.StreamConfig) { h.AllowRollup = w.AllowRollup }},
	{"deny_delete", func(c *jetstream.StreamConfig) any { return c.DenyDelete }, func(h, w *jetstream.StreamConfig) { h.DenyDelete = h.DenyDelete || w.DenyDelete }},
	{"deny_purge", func(c *jetstream.StreamConfig) any { return c.DenyPurge }, func(h, w *jetstream.StreamConfig) { h.DenyPurge = h.DenyPurge || w.DenyPurge }},
}

func placed(c *jetstream.StreamConfig) string {
	if c.Placement == nil {
		return "anywhere"
	}
	return strings.Join(c.Placement.Tags, " ")
}

func softDifferences(have, want jetstream.StreamConfig) (out []string) {
	next := have
	adopt(&next, want)
	for _, f := range softFields {
		if h, n := f.get(&have), f.get(&next); h != n {
			out = append(out, fmt.Sprintf("%s %v -> %v", f.name, h, n))
		}
	}
	return out
}

func adopt(have *jetstream.StreamConfig, want jetstream.StreamConfig) {
	for _, f := range softFields {
		f.set(have, &want)
	}
}

func (b *Bus) applyDurable(ctx context.Context, d Durable, opt ApplyOptions, do bool) ([]Change, error) {
	st, err := StreamOf(d.Stream)
	if err != nil {
		return nil, err
	}
	c, err := b.conn(st.Account)
	if err != nil {
		return nil, err
	}
	wait, done := c.denials.watch(ctx, "$JS.API.")
	defer done()
	want := jetstream.ConsumerConfig{
		Name: d.Name, Durable: d.Name, Description: "commands of one host",
		FilterSubject: d.Filter, DeliverPolicy: jetstream.DeliverAllPolicy, ReplayPolicy: jetstream.ReplayInstantPolicy,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxAckPending: MaxParked,
		// One more than the shell tries, so that it is the shell that gives up.
		MaxDeliver: maxDeliveries + 1,
	}
	what := "consumer " + d.Name + " of " + d.Stream
	have, err := c.JS.Consumer(wait, d.Stream, d.Name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) && !do {
		if do {
			if _, err := c.JS.CreateConsumer(wait, d.Stream, want); err != nil {
				return nil, explain(wait, "create", err)
			}
		}
		return []Change{{st.Account, what, ActionCreate, d.Filter}}, nil
	}
	if err != nil {
		return nil, explain(wait, "look at it", err)
	}
	got := have.CachedInfo().Config
	if got.AckPolicy != want.AckPolicy || got.DeliverPolicy != want.DeliverPolicy {
		return []Change{{st.Account, what, ActionDiffers, "ack or deliver policy; only making it anew can change that"}}, nil
	}
	var diff []string
	note := func(name string, h, w any) {
		if h != w {
			diff = append(diff, fmt.Sprintf("%s %v -> %v", name, h, w))
		}
	}
	note("filter", got.FilterSubject, want.FilterSubject)
	note("ack_wait", got.AckWait, want.AckWait)
	note("max_ack_pending", got.MaxAckPending, want.MaxAckPending)
	note("max_deliver", got.MaxDeliver, want.MaxDeliver)
	if len(diff) == 0 {
		return nil, nil
	}
	if do {
		if _, err := c.JS.UpdateConsumer(wait, d.Stream, want); err != nil {
			return nil, explain(wait, "update", err)
		}
	}
	slices.Sort(diff)
	return []Change{{st.Account, what, ActionUpdate, strings.Join(diff, "; ")}}, nil
}
