package matrix

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

var refused = []schemas.Result{schemas.ResultRefused}

// commandCells are faults of the command itself, of what comes late, and of others
// who move VMs too.
func commandCells() []Cell {
	instead := func(f func(*run) error) func(*run) {
		return func(x *run) {
			x.quiet = true
			x.fault(f(x))
		}
	}
	return []Cell{
		{Name: "command names the wrong source", ends: refused, why: schemas.ReasonNotHere, before: instead(func(x *run) error {
			x.cmd.Source, x.cmd.Destination = x.cmd.Destination, x.cmd.Source
			return x.send(x.ctx, x.cmd, string(x.cmd.ID))
		}), Quick: true},
		{Name: "command has expired", ends: refused, why: schemas.ReasonExpired, before: instead(func(x *run) error {
			x.cmd.Issued, x.cmd.Expires = x.cmd.Issued.Add(-2*time.Minute), x.cmd.Issued.Add(-70*time.Second)
			return x.send(x.ctx, x.cmd, string(x.cmd.ID))
		}), Quick: true},
		{Name: "command comes from a replay", ends: refused, why: schemas.ReasonReplay, before: instead(func(x *run) error {
			x.cmd.Run = "replay-1"
			return x.send(x.ctx, x.cmd, string(x.cmd.ID))
		})},
		{Name: "command is published again after its move", ends: refused, why: schemas.ReasonSeen, moved: true, before: instead(republish)},
		{Name: "command is forged", ends: refused, before: instead(forge), Quick: true},
		{Name: "resume comes late, after a roll-back", Steps: stepsPreCopy, ends: []schemas.Result{schemas.ResultFailed}, Quick: true, fault: abort, after: func(x *run) { x.fault(lateResume(x)) }},
		{Name: "same UUID on two hosts", ends: refused, why: schemas.ReasonAlreadyThere, doubles: true, before: func(x *run) { x.fault(x.double(x.ctx)) },
			after: func(x *run) {
				_, err := x.Lab.Hosts[x.dst].Virsh(x.ctx, "destroy", "double")
				x.fault(err)
			}},
		{Name: "foreign migration under way", ends: refused, why: schemas.ReasonForeignJob, elsewhere: true, before: foreign(true), after: func(x *run) {
			x.fault(x.Lab.Hosts[2].Throttle(0))
			x.fault(x.awaitThird())
		}},
		{Name: "foreign migration done before", ends: refused, why: schemas.ReasonNotHere, elsewhere: true, before: foreign(false)},
		{Name: "foreign migration tried in the middle of ours", Steps: stepsPreCopy, ends: []schemas.Result{schemas.ResultSucceeded}, fault: func(x *run) {
			if _, err := x.migrateAway(x.ctx); err == nil {
				x.fault(fmt.Errorf("libvirt let a second migration of the VM begin"))
			}
		}},
	}
}

// republish lets the move be made, then brings its command again under a new message
// id and with all else in order.
func republish(x *run) error {
	if err := x.send(x.ctx, x.cmd, string(x.cmd.ID)); err != nil {
		return err
	}
	if o, ok := x.outcome(x.ctx, x.cmd.ID, 2*time.Minute, anyEnd); !ok || o.Result != schemas.ResultSucceeded {
		return fmt.Errorf("the move itself did not succeed: %s %s", o.Result, o.Reason)
	}
	again, err := x.order(x.ctx, x.src, x.dst)
	if err != nil {
		return err
	}
	again.ID = x.cmd.ID
	x.Fleet.mu.Lock()
	for seq, o := range x.outcomes { // what is awaited now is the second one's
		if o.Command == again.ID {
			delete(x.outcomes, seq)
		}
	}
	x.Fleet.mu.Unlock()
	return x.send(x.ctx, again, string(again.ID)+".again")
}

// forge publishes a command that only looks like one: signed by a stranger, not
// signed, signed by somebody who may not.
func forge(x *run) error {
	var key nkeys.KeyPair
	switch x.round % 3 {
	case 1:
		stranger, err := nkeys.CreateUser()
		if err != nil {
			return err
		}
		key = stranger
	case 2:
		key = x.operator.Signer
	}
	data, err := schemas.Encode(x.cmd)
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: streams.SubjectCommand(x.cmd.VM, x.cmd.Source, x.cmd.Destination), Data: data, Header: nats.Header{}}
	m.Header.Set(schemas.HeaderSchema, schemas.SchemaHeader(schemas.KindCommand))
	if key != nil {
		pub, err := key.PublicKey()
		if err != nil {
			return err
		}
		m.Header.Set(schemas.HeaderSigner, pub)
		m.Header.Set(schemas.HeaderSignature, streams.Sign(key, m.Subject, data))
	}
	_, err = x.placer.Ctrl.JS.PublishMsg(x.ctx, m)
	return err
}

// lateResume sends the destination what a source that lay in a coma would: the
// genuine, signed request to resume a move that has been rolled back since. It must
// be refused.
func lateResume(x *run) error {
	sent, err := x.placer.LastUnder(x.ctx, streams.Migrations, streams.SubjectCommand(x.cmd.VM, x.cmd.Source, x.cmd.Destination))
	if err != nil {
		return err
	}
	bus, err := x.connect(x.ctx, streams.RoleActuator(x.cmd.Source))
	if err != nil {
		return err
	}
	defer bus.Close()
	ops := []schemas.Op{schemas.OpResume, schemas.OpFinish, schemas.OpPrepare}
	op := ops[(x.round-1)%len(ops)]
	now := schemas.At(time.Now())
	q := &schemas.Request{Op: op, Command: x.cmd.ID, Epoch: sent.Seq, VM: x.cmd.VM, From: x.cmd.Source, To: x.cmd.Destination,
		Time: now, Expires: now.Add(20 * time.Second), Order: sent.Signed()}
	if op == schemas.OpPrepare {
		q.XML = "<domain/>"
	}
	ctx, cancel := context.WithTimeout(x.ctx, 20*time.Second)
	defer cancel()
	got, err := bus.Request(ctx, streams.SubjectActuator(x.cmd.Destination, op), q)
	if err != nil {
		return fmt.Errorf("late %s: %w", op, err)
	}
	a, ok := got.Msg.(*schemas.Reply)
	if !ok {
		return fmt.Errorf("late %s: the answer is %T", op, got.Msg)
	}
	if a.Reason.OK() || a.Released < sent.Seq || a.Copy != "absent" {
		x.wrongs("a late %s of epoch %d was answered with %s; released %d, copy %s", op, sent.Seq, a.Reason, a.Released, a.Copy)
	}
	return nil
}

// double starts a domain of the guest's UUID on the destination: another machine in
// truth, so that it does the guest no harm.
func (x *run) double(ctx context.Context) error {
	text := fmt.Sprintf(`<domain type='qemu'><name>double</name><uuid>%s</uuid><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/></devices></domain>`, x.guest.ID)
	return x.Lab.Hosts[x.dst].Create(ctx, text)
}

// migrateAway is what another tool would do: a plain peer-to-peer migration to the
// third host.
func (x *run) migrateAway(ctx context.Context) (string, error) {
	return x.Lab.Hosts[x.src].Migrate(ctx, x.guest, x.Lab.Hosts[2], x.Lab.Hosts[2].URI)
}

// foreign begins such a migration before the command comes, and waits until it runs
// or is done.
func foreign(running bool) func(*run) {
	return func(x *run) {
		if !running {
			_, err := x.migrateAway(x.ctx)
			x.fault(err)
			return
		}
		x.fault(x.Lab.Hosts[2].Throttle(4e6))
		x.wg.Go(func() {
			_, err := x.migrateAway(x.ctx)
			x.fault(err)
		})
		for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
			info, err := x.Lab.Hosts[x.src].Virsh(x.ctx, "domjobinfo", x.guest.ID.String())
			if err == nil && strings.Contains(info, "Memory processed") {
				return
			}
			pause(x.ctx, 50*time.Millisecond)
		}
		x.fault(fmt.Errorf("the foreign migration did not begin"))
	}
}

// awaitThird waits until the foreign migration has ended.
func (x *run) awaitThird() error {
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		if at, err := x.Lab.RunsAt(x.ctx, x.guest.ID); err == nil && at == x.Lab.Hosts[2] {
			return nil
		}
		pause(x.ctx, 200*time.Millisecond)
	}
	return fmt.Errorf("the foreign migration did not end")
}
