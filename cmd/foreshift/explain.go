package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func explainCommand(at *place) *cobra.Command {
	return &cobra.Command{
		Use:   "explain [VM]",
		Short: "Why a VM moves or stays: this VM, this host, not that one, now; without a VM: why nothing moves",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := at.picture(c.Context())
			if err != nil {
				return err
			}
			story := p.ExplainFleet()
			if len(args) == 1 {
				m, err := pickVM(p.View, args[0])
				if err != nil {
					return err
				}
				story = p.Explain(&m)
			}
			if at.json {
				return object(c.OutOrStdout(), story)
			}
			_, err = fmt.Fprint(c.OutOrStdout(), story)
			return err
		},
	}
}
