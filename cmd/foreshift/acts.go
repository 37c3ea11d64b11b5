package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/nats-io/nuid"
	"github.com/spf13/cobra"
)

// actCommand makes the command of one act; fill adds what the arguments say.
func actCommand(at *place, use, short string, args cobra.PositionalArgs, fill func(context.Context, *schemas.Act, []string) error) *cobra.Command {
	var why string
	c := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(c *cobra.Command, args []string) error {
		a := &schemas.Act{Act: schemas.ActKind(c.Name()), Why: why}
		if fill != nil {
			if err := fill(c.Context(), a, args); err != nil {
				return err
			}
		}
		seq, err := act(c.Context(), at, a)
		if err != nil {
			return err
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"act": a.Act, "id": a.ID, "sequence": seq})
		}
		fmt.Fprintf(c.OutOrStdout(), "%s: recorded as act %d\n", a.Act, seq)
		return nil
	}}
	c.Flags().StringVar(&why, "why", "", "reason, for the record")
	return c
}

func pauseCommand(at *place) *cobra.Command {
	return actCommand(at, "pause", "Stop new moves at once; moves under way finish", cobra.NoArgs, nil)
}

func resumeCommand(at *place) *cobra.Command {
	return actCommand(at, "resume", "Allow new moves again; also resets the breaker", cobra.NoArgs, nil)
}

func modeCommand(at *place) *cobra.Command {
	var host, vm string
	c := actCommand(at, "mode MODE", "How much Foreshift may do by itself: observe, recommend, approve or auto", cobra.ExactArgs(1),
		func(ctx context.Context, a *schemas.Act, args []string) (err error) {
			a.Mode, a.Host = schemas.Mode(args[0]), schemas.HostID(host)
			if vm != "" {
				a.VM, err = at.findVM(ctx, vm)
			}
			return err
		})
	c.Flags().StringVar(&host, "host", "", "for one host only")
	c.Flags().StringVar(&vm, "vm", "", "for one VM only, by name or UUID")
	return c
}

func abortCommand(at *place) *cobra.Command {
	return actCommand(at, "abort VM", "Abort the VM's move, if it has not switched over; the VM stays where it is", cobra.ExactArgs(1),
		func(ctx context.Context, a *schemas.Act, args []string) (err error) {
			a.VM, a.Command, err = at.findMove(ctx, args[0], func(m *console.Move) bool { return m.Outcome == nil })
			return err
		})
}

func resolveCommand(at *place) *cobra.Command {
	var host string
	c := actCommand(at, "resolve VM --runs-at HOST", "End an UNKNOWN move by telling where you have found the VM running", cobra.ExactArgs(1),
		func(ctx context.Context, a *schemas.Act, args []string) (err error) {
			if host == "" {
				return usageError{errors.New("--runs-at is needed: the host on which you have seen the VM running, with virsh, just now")}
			}
			a.RunsAt = schemas.HostID(host)
			a.VM, a.Command, err = at.findMove(ctx, args[0], func(m *console.Move) bool {
				return m.Outcome == nil || m.Outcome.Result == schemas.ResultUnknown
			})
			return err
		})
	c.Flags().StringVar(&host, "runs-at", "", "host on which you have seen the VM running (required)")
	return c
}

func cordonCommand(at *place, use, short string) *cobra.Command {
	return actCommand(at, use, short, cobra.ExactArgs(1), func(_ context.Context, a *schemas.Act, args []string) error {
		a.Host = schemas.HostID(args[0])
		return schemas.CheckToken("host", args[0])
	})
}

func planAct(at *place, use, short string) *cobra.Command {
	var action string
	c := actCommand(at, use, short, cobra.ExactArgs(1), func(_ context.Context, a *schemas.Act, args []string) error {
		a.Plan, a.Command = schemas.PlanID(args[0]), schemas.CommandID(action)
		return nil
	})
	c.Flags().StringVar(&action, "action", "", "id of one action; default: all of the plan")
	return c
}

// findVM finds a VM by name or UUID.
func (p *place) findVM(ctx context.Context, name string) (schemas.VMID, error) {
	if id, err := schemas.ParseVMID(name); err == nil {
		return id, nil
	}
	v, err := p.view(ctx)
	if err != nil {
		return schemas.VMID{}, err
	}
	m, err := pickVM(v, name)
	return m.ID, err
}

// findMove finds the newest move of a VM that fits.
func (p *place) findMove(ctx context.Context, name string, fits func(*console.Move) bool) (schemas.VMID, schemas.CommandID, error) {
	v, err := p.view(ctx)
	if err != nil {
		return schemas.VMID{}, "", err
	}
	m, err := pickVM(v, name)
	if err != nil {
		return schemas.VMID{}, "", err
	}
	for i := range v.Moves {
		if x := &v.Moves[i]; x.Command.VM == m.ID && fits(x) {
			return m.ID, x.Command.ID, nil
		}
	}
	return schemas.VMID{}, "", fmt.Errorf("%s has no such move; `foreshift vm show %s` lists its moves", name, name)
}

// act publishes a signed act of the person at the terminal.
func act(ctx context.Context, at *place, a *schemas.Act) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	bus, err := at.connect(ctx, "operator")
	if err != nil {
		return 0, err
	}
	defer bus.Close()
	a.ID, a.By, a.Time = nuid.Next(), "operator", schemas.At(time.Now())
	if u, err := user.Current(); err == nil {
		a.By = u.Username
	}
	return bus.Publish(ctx, streams.Out{Subject: streams.SubjectAct(a.Act), ID: a.ID, Msg: a})
}
