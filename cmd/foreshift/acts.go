package main

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

// actCommand makes the command of one act; fill adds what the arguments say, and
// gives what to look at next.
func actCommand(at *place, use, short string, args cobra.PositionalArgs, fill func(context.Context, *schemas.Act, []string) (next string, err error)) *cobra.Command {
	var why string
	c := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(c *cobra.Command, args []string) error {
		a := &schemas.Act{Act: schemas.ActKind(c.Name()), Why: why}
		next, err := fill(c.Context(), a, args)
		if err != nil {
			return err
		}
		seq, err := act(c.Context(), at, a)
		if err != nil {
			return err
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"act": a.Act, "id": a.ID, "sequence": seq})
		}
		fmt.Fprintf(c.OutOrStdout(), "%s: recorded as act %d; %s\n", strings.Join(append([]string{strings.TrimPrefix(c.CommandPath(), "foreshift ")}, args...), " "), seq, next)
		return nil
	}}
	c.Flags().StringVar(&why, "why", "", "reason, for the record")
	return c
}

func pauseCommand(at *place) *cobra.Command {
	return actCommand(at, "pause", "Stop new moves at once; moves under way finish", cobra.NoArgs, func(context.Context, *schemas.Act, []string) (string, error) {
		return "no new move starts until `foreshift resume`", nil
	})
}

func resumeCommand(at *place) *cobra.Command {
	return actCommand(at, "resume", "Allow new moves again; also resets the breaker", cobra.NoArgs, func(context.Context, *schemas.Act, []string) (string, error) {
		return "`foreshift explain` says what moves next", nil
	})
}

func modeCommand(at *place) *cobra.Command {
	var host, vm string
	modes := []string{string(schemas.ModeObserve), string(schemas.ModeRecommend), string(schemas.ModeApprove), string(schemas.ModeAuto)}
	c := actCommand(at, "mode MODE", "How much Foreshift may do by itself: observe, recommend, approve or auto", cobra.ExactArgs(1),
		func(ctx context.Context, a *schemas.Act, args []string) (string, error) {
			if !slices.Contains(modes, args[0]) {
				return "", usageError{fmt.Errorf("mode %q: want observe, recommend, approve or auto", args[0])}
			}
			a.Mode, a.Host = schemas.Mode(args[0]), schemas.HostID(host)
			if host != "" {
				if err := at.knows(ctx, host); err != nil {
					return "", err
				}
			}
			if vm != "" {
				var err error
				if a.VM, err = at.findVM(ctx, vm); err != nil {
					return "", err
				}
			}
			return "`foreshift policy` shows all modes in force", nil
		})
	c.ValidArgs = modes
	c.Long = `Sets how much Foreshift may do by itself, for the fleet, a host (--host) or a VM (--vm):

  observe    forecasts and pressures are told, nothing is planned
  recommend  plans are made and shown, and never carried out
  approve    a move is carried out once a person has approved it
  auto       moves are carried out when they are due`
	c.Flags().StringVar(&host, "host", "", "for one host only")
	c.Flags().StringVar(&vm, "vm", "", "for one VM only, by name or UUID")
	return c
}

func abortCommand(at *place) *cobra.Command {
	c := actCommand(at, "abort VM", "Abort the VM's move, if it has not switched over; the VM stays where it is", cobra.ExactArgs(1),
		func(ctx context.Context, a *schemas.Act, args []string) (next string, err error) {
			a.VM, a.Command, err = at.findMove(ctx, args[0], "under way", func(m *console.Move) bool { return m.Outcome == nil })
			return fmt.Sprintf("`foreshift vm show %s` says what became of it", args[0]), err
		})
	c.ValidArgsFunction = at.vmNames
	return c
}

func resolveCommand(at *place) *cobra.Command {
	var host string
	c := actCommand(at, "resolve VM --runs-at HOST", "End an UNKNOWN move by telling where you have found the VM running", cobra.ExactArgs(1),
		func(ctx context.Context, a *schemas.Act, args []string) (next string, err error) {
			if host == "" {
				return "", usageError{errors.New("--runs-at is needed: the host on which you have seen the VM running, with virsh, just now")}
			}
			if err := at.knows(ctx, host); err != nil {
				return "", err
			}
			a.RunsAt = schemas.HostID(host)
			a.VM, a.Command, err = at.findMove(ctx, args[0], "that is under way or UNKNOWN", func(m *console.Move) bool {
				return m.Outcome == nil || m.Outcome.Result == schemas.ResultUnknown
			})
			return fmt.Sprintf("`foreshift explain %s` says whether it may move again", args[0]), err
		})
	c.Flags().StringVar(&host, "runs-at", "", "host on which you have seen the VM running (required)")
	c.ValidArgsFunction = at.vmNames
	return c
}

// what the acts on a host do, and what to look at next.
var hostActs = map[string]struct{ short, next string }{
	"cordon":   {"No VM moves to the host until it is uncordoned", "`foreshift host uncordon %s` ends it"},
	"uncordon": {"VMs may move to the host again; ends a drain", "`foreshift host show %s` shows it"},
	"drain":    {"Empty the host before anything is balanced; no VM moves there until it is uncordoned", "`foreshift host show %s --watch` shows how far it is"},
}

// cordonCommand makes the command of an act on a host.
func cordonCommand(at *place, name string) *cobra.Command {
	var unseen bool
	c := actCommand(at, name+" HOST", hostActs[name].short, cobra.ExactArgs(1), func(ctx context.Context, a *schemas.Act, args []string) (string, error) {
		if err := schemas.CheckToken("host", args[0]); err != nil {
			return "", err
		}
		if !unseen {
			if err := at.knows(ctx, args[0]); errors.Is(err, console.ErrNoSuchHost) {
				return "", fmt.Errorf("%w, and --unseen takes one that is yet to come", err)
			} else if err != nil {
				return "", err
			}
		}
		a.Host = schemas.HostID(args[0])
		return fmt.Sprintf(hostActs[name].next, args[0]), nil
	})
	c.Flags().BoolVar(&unseen, "unseen", false, "also a host that no agent has reported yet")
	c.ValidArgsFunction = at.hostNames
	return c
}

func planAct(at *place, use, short string) *cobra.Command {
	var action string
	c := actCommand(at, use, short, cobra.ExactArgs(1), func(ctx context.Context, a *schemas.Act, args []string) (string, error) {
		p, err := at.plan(ctx, args[0])
		if err != nil {
			return "", err
		}
		a.Plan, a.Command = p.ID, schemas.CommandID(action)
		if len(p.Actions) == 0 {
			return "", fmt.Errorf("plan %s moves nothing; `foreshift plan list` tells which do", p.ID)
		}
		if action != "" && !slices.ContainsFunc(p.Actions, func(x schemas.Action) bool { return x.ID == a.Command }) {
			return "", fmt.Errorf("plan %s has no action %q; `foreshift plan show %s --json` tells their ids", p.ID, action, p.ID)
		}
		return "`foreshift plan show last` shows what holds now", nil
	})
	c.Flags().StringVar(&action, "action", "", "id of one action; default: all of the plan")
	c.ValidArgsFunction = at.planNames
	return c
}

// plan reads one plan for an act on it.
func (p *place) plan(ctx context.Context, name string) (*schemas.Plan, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	bus, done, err := p.operator(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return findPlan(ctx, bus, name)
}

// knows fails when no agent has reported a host of that name.
func (p *place) knows(ctx context.Context, host string) error {
	v, err := p.picture(ctx)
	if err != nil {
		return err
	}
	_, err = v.find(host)
	return err
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

// findMove finds the newest move of a VM that fits what is asked for.
func (p *place) findMove(ctx context.Context, name, what string, fits func(*console.Move) bool) (schemas.VMID, schemas.CommandID, error) {
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
	return schemas.VMID{}, "", fmt.Errorf("%s has no move %s; `foreshift vm show %s` lists its moves", name, what, name)
}

// act publishes a signed act of the person at the terminal.
func act(ctx context.Context, at *place, a *schemas.Act) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	bus, err := at.connect(ctx, streams.RoleOperator)
	if err != nil {
		return 0, err
	}
	defer bus.Close()
	by := "operator"
	if u, err := user.Current(); err == nil {
		by = u.Username
	}
	return console.Say(ctx, bus, by, a)
}
