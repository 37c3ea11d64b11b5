package actuator

import (
	"net"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	lv "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/internal/sim"
	"github.com/foreshift/foreshift/internal/sim/rpc"
	"github.com/foreshift/foreshift/schemas"
)

// recipes are the commands that the runbook gives, by the heading they stand under.
func recipes(t *testing.T) map[string][][]string {
	t.Helper()
	b, err := os.ReadFile("../docs/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][][]string{}
	under, block := "", []string(nil)
	inside := false
	for line := range strings.SplitSeq(string(b), "\n") {
		switch {
		case strings.HasPrefix(line, "```") && inside:
			out[under] = append(out[under], block)
			inside, block = false, nil
		case strings.HasPrefix(line, "```"):
			inside = true
		case inside:
			block = append(block, line)
		case strings.HasPrefix(line, "### "):
			under = strings.TrimPrefix(line, "### ")
		case strings.HasPrefix(line, "## "):
			under = strings.TrimPrefix(line, "## ")
		}
	}
	return out
}

var (
	virsh   = regexp.MustCompile(`^virsh -c qemu\+ssh://(SOURCE|DESTINATION|THIRD|WRONG|RIGHT)/system (domstate|suspend|resume|destroy|undefine|start) VM$`)
	restart = "ssh SOURCE systemctl restart foreshift-actuator"
	remove  = regexp.MustCompile(`^virsh -c qemu\+ssh://(SOURCE|DESTINATION)/system vol-delete FILE$`)
	resolve = regexp.MustCompile(`^foreshift resolve VM --runs-at (SOURCE|DESTINATION|THIRD)$`)
)

// follow types the commands of a recipe, on the simulated hosts.
func (r *rig) follow(vm sim.VM, recipe []string, change ...func(*Config)) {
	r.t.Helper()
	at := map[string]int{"SOURCE": 0, "DESTINATION": 1, "THIRD": 2, "WRONG": 0, "RIGHT": 1}
	for _, line := range recipe {
		if m := virsh.FindStringSubmatch(line); m != nil {
			if err := r.virsh(vm, at[m[1]], m[2]); err != nil {
				r.t.Fatalf("%s: %v", line, err)
			}
			continue
		}
		if line == restart {
			r.stops[r.fleet.Hosts()[0].ID]()
			r.host(0, change...)
			continue
		}
		if m := remove.FindStringSubmatch(line); m != nil {
			if err := r.libvirt(at[m[1]], func(l *lv.Libvirt) error {
				v, err := l.StorageVolLookupByPath(fileOf(vm))
				if err != nil {
					return err
				}
				return l.StorageVolDelete(v, 0)
			}); err != nil {
				r.t.Fatalf("%s: %v", line, err)
			}
			continue
		}
		m := resolve.FindStringSubmatch(line)
		if m == nil {
			r.t.Fatalf("the runbook says %q, which nobody can test", line)
		}
		r.act(r.operator, &schemas.Act{Act: schemas.ActResolve, By: "op", VM: vm.ID, RunsAt: r.fleet.Hosts()[at[m[1]]].ID, Why: "by the runbook"})
	}
}

// libvirt does something with the daemon of a host, as virsh would.
func (r *rig) libvirt(host int, do func(*lv.Libvirt) error) error {
	u, err := url.Parse(r.fleet.Hosts()[host].URI)
	if err != nil {
		return err
	}
	name, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return err
	}
	l := lv.NewWithDialer(dialers.NewRemote(name, dialers.UsePort(port)))
	if err := l.ConnectToURI(lv.QEMUSystem); err != nil {
		return err
	}
	defer func() { _ = l.Disconnect() }() // the test is over with it
	return do(l)
}

// virsh does what the command of that name does.
func (r *rig) virsh(vm sim.VM, host int, verb string) error {
	return r.libvirt(host, func(l *lv.Libvirt) error { return typed(l, vm, verb) })
}

func typed(l *lv.Libvirt, vm sim.VM, verb string) error {
	d, err := l.DomainLookupByUUID(lv.UUID(vm.ID))
	if verb == "domstate" && lv.IsNotFound(err) {
		return nil // which is what one wanted to know
	}
	if err != nil {
		return err
	}
	switch verb {
	case "domstate":
		_, _, err = l.DomainGetState(d, 0)
	case "suspend":
		err = l.DomainSuspend(d)
	case "resume":
		err = l.DomainResume(d)
	case "destroy":
		err = l.DomainDestroy(d)
	case "undefine":
		if err = l.DomainUndefine(d); lv.IsNotFound(err) {
			err = nil // a transient one went with its end
		}
	}
	return err
}

// TestRunbook brings a move into each UNKNOWN of the runbook and follows what the
// runbook says. The move must end, and the VM run where it says.
func TestRunbook(t *testing.T) {
	t.Parallel()
	book := recipes(t)
	limits := migration.DefaultLimits()
	limits.Answer, limits.Life, limits.Hold, limits.Retry = 300*time.Millisecond, 500*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	short := func(c *Config) {
		c.Limits = &limits
		c.calls = &libvirt.Limits{Quick: time.Second, Phase: time.Second}
	}
	// stopped runs a move until its source's actuator dies after an act; the VM then
	// is what the two libvirts make of it.
	stopped := func(r *rig, vm sim.VM, after migration.Verb) *schemas.Command {
		crashed := make(chan struct{})
		stop := r.host(0, short, func(c *Config) {
			c.crash = func(v migration.Verb) bool {
				if v == after {
					close(crashed)
				}
				return v == after
			}
		})
		r.beat()
		c := r.command(vm, 0, 1)
		r.send(c)
		select {
		case <-crashed:
		case <-time.After(15 * time.Second):
			r.t.Fatal("never came to it")
		}
		stop()
		return c
	}
	followed := map[string]int{}
	defer func() {
		for heading, n := range book {
			if strings.HasPrefix(heading, "`") && followed[heading] != len(n) {
				t.Errorf("the runbook has %d recipes for %s, of which %d are followed here", len(n), heading, followed[heading])
			}
		}
	}()
	for _, x := range []struct {
		heading string
		recipe  int
		reason  schemas.ReasonCode
		faulty  bool // the simulator rightly counts it as broken: people broke it
		unknown func(r *rig, vm sim.VM) *schemas.Command
		end     schemas.Result
		at      int
	}{
		{"`unreachable`", 0, schemas.ReasonUnreachable, false, func(r *rig, vm sim.VM) *schemas.Command {
			kill := r.host(1, short)
			c := stopped(r, vm, migration.Prepare)
			kill()
			r.host(0, short)
			return c
		}, schemas.ResultFailed, 0},
		{"`unreachable`", 1, schemas.ReasonUnreachable, true, func(r *rig, vm sim.VM) *schemas.Command {
			kill := r.host(1, short)
			c := stopped(r, vm, migration.HandOver)
			kill()
			r.host(0, short)
			return c
		}, schemas.ResultFailed, 0},
		{"`two_running`", 0, schemas.ReasonTwoRunning, true, func(r *rig, vm sim.VM) *schemas.Command {
			r.host(1, short)
			c := stopped(r, vm, migration.Finish)
			for h := range 2 {
				// libvirt sees a moment later that the client of the phases is gone.
				err := r.virsh(vm, h, "resume")
				for end := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
					err = r.virsh(vm, h, "resume")
				}
				if err != nil {
					r.t.Fatal(err)
				}
			}
			r.host(0, short)
			return c
		}, schemas.ResultSucceeded, 1},
		{"`no_copy`", 0, schemas.ReasonNoneLeft, true, func(r *rig, vm sim.VM) *schemas.Command {
			r.host(1, short)
			c := stopped(r, vm, migration.Resume)
			if err := r.fleet.Inject(sim.Fault{Kind: sim.KillQEMU, Host: r.fleet.Hosts()[1].ID, VM: vm.ID}); err != nil {
				r.t.Fatal(err)
			}
			r.host(0, short)
			return c
		}, "", 0},
		{"`no_copy`", 1, schemas.ReasonNoneLeft, false, func(r *rig, vm sim.VM) *schemas.Command {
			r.host(1, short)
			r.host(2, short)
			c := stopped(r, vm, migration.Confirm)
			on := r.command(vm, 1, 2)
			r.send(on)
			r.want(on.ID, schemas.ResultSucceeded, 15*time.Second)
			r.host(0, short)
			return c
		}, schemas.ResultFailed, 2},
		{"`no_life_sign`", 0, schemas.ReasonNoLifeSign, true, func(r *rig, vm sim.VM) *schemas.Command {
			return deadGuest(r, vm, short)
		}, schemas.ResultSucceeded, 1},
		{"`no_life_sign`", 1, schemas.ReasonNoLifeSign, true, func(r *rig, vm sim.VM) *schemas.Command {
			return deadGuest(r, vm, short)
		}, schemas.ResultFailed, 0},
		{"`unknown_move`, `handed_over`, `unsafe`, `libvirt_error`", 0, "", false, func(r *rig, vm sim.VM) *schemas.Command {
			r.host(0, short)
			r.host(1, short)
			// The destination's libvirt will not resume it, for longer than anyone waits.
			for range 400 {
				if err := r.fleet.Inject(sim.Fault{Kind: sim.FailCall, Host: r.fleet.Hosts()[1].ID, Proc: rpc.DomainResume, Code: rpc.CodeOperationFailed, Message: "not now"}); err != nil {
					r.t.Fatal(err)
				}
			}
			r.beat()
			c := r.command(vm, 0, 1)
			r.send(c)
			return c
		}, schemas.ResultSucceeded, 1},
	} {
		followed[x.heading]++
		t.Run(strings.ReplaceAll(x.heading, "`", ""), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			vm := r.on(0)
			if x.faulty {
				r.dead = vm.ID
			}
			c := x.unknown(r, vm)
			o := r.want(c.ID, schemas.ResultUnknown, 15*time.Second)
			if x.reason != "" && o.Reason.Code != x.reason || x.reason == "" && !strings.Contains(x.heading, "`"+string(o.Reason.Code)+"`") {
				t.Fatalf("unknown for %s", o.Reason)
			}
			if len(book[x.heading]) <= x.recipe {
				t.Fatalf("the runbook has %d recipes for %s", len(book[x.heading]), x.heading)
			}
			r.follow(vm, book["A move is UNKNOWN"][0], short)
			if x.reason == "" {
				// Faults strike the runbook's resume too: it is typed until it goes through.
				for end := time.Now().Add(10 * time.Second); r.virsh(vm, 1, "resume") != nil && time.Now().Before(end); {
				}
				r.follow(vm, []string{"virsh -c qemu+ssh://DESTINATION/system domstate VM"}, short)
			} else {
				r.follow(vm, book[x.heading][x.recipe], short)
			}
			if x.end == "" {
				// The simulator starts no guests: until the VM runs, the word is not taken.
				time.Sleep(200 * time.Millisecond)
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, o := range r.outcomes {
					if o.Command == c.ID && o.Result != schemas.ResultUnknown {
						t.Fatalf("ended as %s although the VM runs nowhere", o.Result)
					}
				}
				return
			}
			if o := r.end(c.ID, 15*time.Second); o.Result != x.end {
				t.Fatalf("%s: %s", o.Result, o.Reason)
			}
			r.at(vm, x.at)
		})
	}
}

// TestRunbookLeftFile: a file that could not be deleted keeps its VM from coming back,
// until the runbook is followed.
func TestRunbookLeftFile(t *testing.T) {
	t.Parallel()
	book := recipes(t)["A disk file was left behind"]
	if len(book) != 2 { // the other is followed by TestWholeCopyThatHasGone
		t.Fatalf("the runbook has %d recipes for a file that was left", len(book))
	}
	r, vm := leftFile(t)
	r.follow(vm, book[0])
	r.disks(vm, 1)
	c := r.command(vm, 1, 0)
	r.send(c)
	r.want(c.ID, schemas.ResultSucceeded, 20*time.Second)
	r.at(vm, 0)
	r.disks(vm, 0)
}

// deadGuest is a move after which the guest does not live.
func deadGuest(r *rig, vm sim.VM, short func(*Config)) *schemas.Command {
	r.t.Helper()
	r.host(0, short)
	r.host(1, short)
	if err := r.fleet.Inject(sim.Fault{Kind: sim.DeadOnArrival, VM: vm.ID}); err != nil {
		r.t.Fatal(err)
	}
	r.beat()
	c := r.command(vm, 0, 1)
	r.send(c)
	return c
}

// TestRunbookTwice: a VM that runs on two hosts, by no move of ours, runs on the right one
// alone when the runbook has been followed; nothing of Foreshift has touched it.
func TestRunbookTwice(t *testing.T) {
	t.Parallel()
	book := recipes(t)["A VM runs on two hosts"]
	if len(book) != 1 {
		t.Fatalf("the runbook has %d recipes for a VM that runs twice", len(book))
	}
	r := newRig(t)
	vm := r.on(0)
	r.dead = vm.ID
	r.host(1)
	wait, _ := r.crashed(0, migration.Finish)
	r.beat()
	c := r.command(vm, 0, 1)
	r.send(c)
	wait()
	for h := range 2 { // libvirt sees a moment later that the client of the phases is gone
		err := r.virsh(vm, h, "resume")
		for end := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			err = r.virsh(vm, h, "resume")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if at := r.fleet.Running(vm.ID); len(at) != 2 {
		t.Fatalf("runs on %v", at)
	}
	r.host(0)
	r.want(c.ID, schemas.ResultUnknown, 45*time.Second)
	if at := r.fleet.Running(vm.ID); len(at) != 2 {
		t.Fatalf("one was touched: runs on %v", at)
	}
	r.follow(vm, book[0])
	r.at(vm, 1)
	if o := r.end(c.ID, 30*time.Second); o.Result != schemas.ResultSucceeded {
		t.Fatalf("%s: %s", o.Result, o.Reason)
	}
	r.at(vm, 1)
}
