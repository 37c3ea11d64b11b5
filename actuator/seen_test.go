package actuator

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

// TestSeenRunningIsKept: Finish was done, and a person has let the copy run by hand. Whatever
// this host looked for when it saw that, and though it refused it: it is written down, so
// that the copy is not dropped once it has died, and only its definition is left.
func TestSeenRunningIsKept(t *testing.T) {
	vm := schemas.VMID{7}
	for what, looks := range map[string]struct {
		look func(*Receiver, migration.Ticket) error
		code schemas.ReasonCode // of the refusal; empty: none
	}{
		"an observation that came late": {func(r *Receiver, tk migration.Ticket) error {
			_, err := r.serve(context.Background(), schemas.OpObserve, tk, migration.Offer{}, r.now()-1)
			return err
		}, ""},
		"an observation": {func(r *Receiver, tk migration.Ticket) error {
			_, err := r.Observe(context.Background(), tk)
			return err
		}, ""},
		"Finish, asked again": {func(r *Receiver, tk migration.Ticket) error {
			_, err := r.Finish(context.Background(), tk, []byte("perform"))
			return err
		}, ""},
		"Release": {func(r *Receiver, tk migration.Ticket) error {
			_, err := r.Release(context.Background(), tk)
			return err
		}, schemas.ReasonHandedOver},
		"a move of a later epoch": {func(r *Receiver, tk migration.Ticket) error {
			c := *tk.Command
			c.AfterSeq, tk.Epoch, tk.Command = 10, 11, &c
			_, err := r.Prepare(context.Background(), tk, migration.Offer{})
			return err
		}, schemas.ReasonAlreadyThere},
		"the last look before it was to be dropped": {func(r *Receiver, tk migration.Ticket) error {
			f := r.host.(fakeIncoming)
			f.dst.Copy = migration.Paused
			r.step = func(_ schemas.VMID, label string) {
				if label == "receive drop" {
					f.dst.Copy = migration.Running
				}
			}
			_, err := r.Release(context.Background(), tk)
			return err
		}, schemas.ReasonTwoRunning},
		"housekeeping": {func(r *Receiver, _ migration.Ticket) error {
			return errors.Join(r.tend(context.Background())...)
		}, ""},
		"a command to move it on": {func(r *Receiver, _ migration.Ticket) error {
			return r.saw(vm, migration.Running)
		}, ""},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFakePair(vm)
			r := receiver(t, f)
			now := schemas.At(time.Now())
			tk := migration.Ticket{Epoch: 10, Command: &schemas.Command{VM: vm, AfterSeq: 9, Expires: now.Add(time.Minute), Deadline: now.Add(time.Minute)}}
			offer, err := fakeSource{f}.Begin(context.Background(), tk)
			if err != nil {
				t.Fatal(err)
			}
			reply, err := r.Prepare(context.Background(), tk, offer)
			if err != nil {
				t.Fatal(err)
			}
			cookie, err := fakeSource{f}.Perform(context.Background(), tk, reply)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Finish(context.Background(), tk, cookie); err != nil {
				t.Fatal(err)
			}

			f.dst.Copy, f.session = migration.Running, 0
			err = looks.look(r, tk)
			if err != nil && looks.code == "" || looks.code != "" && migration.ReasonOf(err).Code != looks.code {
				t.Fatalf("%v, want %q", err, looks.code)
			}
			f.dst = migration.Seen{Copy: migration.ShutOff}
			_, err = r.Release(context.Background(), tk)
			if migration.ReasonOf(err).Code != schemas.ReasonHandedOver || f.dst.Copy != migration.ShutOff {
				t.Fatalf("Release: %v, and the copy is %s", err, f.dst.Copy)
			}
		})
	}
}
