package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/foreshift/foreshift/console"
	"github.com/foreshift/foreshift/streams"
)

// picture is the view of the fleet with what the terminal makes of it.
type picture struct{ *console.View }

// picture reads the fleet once.
func (p *place) picture(ctx context.Context) (*picture, error) {
	v, err := p.view(ctx)
	if err != nil {
		return nil, err
	}
	if s, err := streams.LoadState(p.state); err == nil && p.url == "" && len(v.Plans) == 0 {
		v.Base = s.BaseStep() // no plan has told it yet
	}
	return &picture{v}, nil
}

// find is the host of that name.
func (p *picture) find(name string) (*console.Host, error) {
	h, err := p.FindHost(name)
	if err != nil {
		return nil, fmt.Errorf("%w; `foreshift host list` names them", err)
	}
	return h, nil
}

// pickVM finds one VM of a view by name or UUID.
func pickVM(v *console.View, name string) (console.VM, error) {
	m, err := v.FindVM(name)
	if err != nil {
		return console.VM{}, whichVM(err)
	}
	return *m, nil
}

// whichVM adds to an error of finding a VM what to type next.
func whichVM(err error) error {
	switch {
	case errors.Is(err, console.ErrManySuchVMs):
		return fmt.Errorf("%w; `foreshift vm list --wide` tells it", err)
	case errors.Is(err, console.ErrNoSuchVM):
		return fmt.Errorf("%w; `foreshift vm list` names them", err)
	}
	return err
}
