package main

import (
	"context"
	"strings"
	"time"

	"github.com/foreshift/foreshift/console"
	"github.com/spf13/cobra"
)

// completeLimit bounds how long a person waits for the names after a TAB.
const completeLimit = 2 * time.Second

// names completes the first argument with what pick takes from the fleet.
func (p *place) names(c *cobra.Command, args []string, start string, pick func(*console.View) []string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), completeLimit)
	defer cancel()
	v, err := p.view(ctx)
	if err != nil {
		cobra.CompErrorln(err.Error())
		return nil, cobra.ShellCompDirectiveError
	}
	var out []cobra.Completion
	for _, n := range pick(v) {
		if strings.HasPrefix(n, start) {
			out = append(out, n)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (p *place) vmNames(c *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return p.names(c, args, start, func(v *console.View) (out []string) {
		for i := range v.VMs {
			out = append(out, v.VMs[i].Name)
		}
		return out
	})
}

func (p *place) hostNames(c *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return p.names(c, args, start, func(v *console.View) (out []string) {
		for i := range v.Hosts {
			out = append(out, string(v.Hosts[i].ID))
		}
		return out
	})
}

func (p *place) planNames(c *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return p.names(c, args, start, func(v *console.View) (out []string) {
		for i := range v.Plans {
			out = append(out, string(v.Plans[i].ID))
		}
		return append(out, "last")
	})
}
