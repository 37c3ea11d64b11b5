package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

// looking is how a command looks at the fleet: once, or again and again.
type looking struct {
	every time.Duration // 0: once
	bus   *streams.Bus  // kept between looks
}

// Bounds of the time between two looks.
const (
	lookDefault = 2 * time.Second
	lookLeast   = 200 * time.Millisecond
)

// watchable adds --watch to a command that reads.
func (p *place) watchable(c *cobra.Command) *cobra.Command {
	f := c.Flags()
	f.DurationVarP(&p.look.every, "watch", "w", 0, "look again and again until Ctrl-C, so often (--watch=5s); with --json one object a line")
	f.Lookup("watch").NoOptDefVal = lookDefault.String()
	return c
}

// operator opens the bus for a person, or gives the one that is kept open.
func (p *place) operator(ctx context.Context) (bus *streams.Bus, done func(), err error) {
	if p.look.bus != nil {
		return p.look.bus, func() {}, nil
	}
	bus, err = p.connect(ctx, streams.RoleOperator)
	if err != nil {
		return nil, nil, err
	}
	if p.look.every > 0 {
		p.look.bus = bus // reconnects by itself
		return bus, func() {}, nil
	}
	return bus, bus.Close, nil
}

// show writes what f says, once or, with --watch, until the context ends. On a
// terminal each look replaces the one before; elsewhere only looks that differ are
// written, each after a line with the time.
func (p *place) show(c *cobra.Command, f func(context.Context, io.Writer) error) error {
	ctx, out := c.Context(), c.OutOrStdout()
	every := p.look.every
	switch {
	case every == 0:
		return f(ctx, out)
	case every < lookLeast:
		return usageError{fmt.Errorf("--watch=%s: want %s or more", every, lookLeast)}
	}
	defer func() {
		if p.look.bus != nil {
			p.look.bus.Close()
			p.look.bus = nil
		}
	}()
	quiet.Store(true) // Ctrl-C is how a look ends, nothing to speak of
	w := on(out)
	screen := !p.json && w.terminal
	if screen {
		fmt.Fprint(out, "\x1b[?1049h\x1b[?25l")
		defer fmt.Fprint(out, "\x1b[?25h\x1b[?1049l")
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last, seen := "", false
	for {
		var b bytes.Buffer
		page := w
		page.Writer = &b
		err := f(ctx, &page)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (!seen || errors.As(err, new(usageError))):
			return err // wrong from the start: no use in looking again
		case err != nil:
			// What was seen stays, with the reason why nothing newer is.
			b.Reset()
			b.WriteString(last)
			if !p.json {
				fmt.Fprintln(&b, w.paint(red, "not read again: "+err.Error()))
			}
		default:
			seen = true
		}
		text := b.String()
		switch {
		case screen:
			frame(out, w, text, every)
		case text != last && p.json:
			fmt.Fprint(out, text)
		case text != last:
			fmt.Fprintf(out, "%s\n%s\n", time.Now().Format("15:04:05"), text)
		}
		if err == nil {
			last = text
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// frame draws one look over the one before.
func frame(out io.Writer, w paper, text string, every time.Duration) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	foot := fmt.Sprintf("every %s, last at %s; Ctrl-C ends", every, time.Now().Format("15:04:05"))
	if most := w.height - 2; w.height > 2 && len(lines) > most {
		foot = fmt.Sprintf("%d more lines: a taller terminal shows them; %s", len(lines)-most, foot)
		lines = lines[:most]
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	for _, l := range lines {
		b.WriteString(l + "\x1b[K\r\n")
	}
	b.WriteString("\x1b[J" + w.paint(bold, foot))
	fmt.Fprint(out, b.String())
}
