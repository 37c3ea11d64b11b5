package matrix

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/foreshift/foreshift/actuator"
	"github.com/foreshift/foreshift/actuator/libvirt"
	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/foreshift/foreshift/streams/embedded"
)

// spec is what a part is told, as JSON in its environment.
type spec struct {
	Kind    string           `json:"kind"` // "bus" or "actuator"
	Dir     string           `json:"dir"`  // the bus's state directory: keys, authorities
	Port    int              `json:"port"` // of the bus
	Hosts   []schemas.HostID `json:"hosts"`
	Host    schemas.HostID   `json:"host"`
	URI     string           `json:"uri"`
	Address string           `json:"address"`
	Steps   bool             `json:"steps"` // wait for a word at every step

	Peer    string `json:"peer"` // libvirt leads: where its peer comes in
	Leases  string `json:"leases"`
	LockPID string `json:"lock_pid"`
}

// partEnv carries the specification of a part.
const partEnv = "FORESHIFT_LAB_PART"

// Part runs this process as a part of a matrix when it was started as one, and says
// whether it was. A program that can run the matrix calls it first.
func Part(ctx context.Context) (bool, error) {
	text := os.Getenv(partEnv)
	if text == "" {
		return false, nil
	}
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return true, fmt.Errorf("lab part: %w", err)
	}
	// The one that started it holds the other end of standard input: when it goes, so
	// does this.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	words := make(chan struct{})
	go func() {
		defer cancel()
		defer close(words)
		in := bufio.NewReader(os.Stdin)
		for {
			if _, err := in.ReadString('\n'); err != nil {
				return
			}
			words <- struct{}{}
		}
	}()
	var err error
	switch s.Kind {
	case "bus":
		err = s.bus(ctx)
	case "actuator":
		err = s.actuator(ctx, os.Stdout, words)
	default:
		err = fmt.Errorf("there is no part %q", s.Kind)
	}
	if err != nil {
		return true, fmt.Errorf("lab part %s %s: %w", s.Kind, s.Host, err)
	}
	return true, nil
}

func (s spec) bus(ctx context.Context) error {
	srv, err := embedded.Start(embedded.Options{StateDir: s.Dir, Port: s.Port, Hosts: s.Hosts, PerHost: true})
	if err != nil {
		return err
	}
	defer srv.Shutdown()
	fmt.Println("READY")
	<-ctx.Done()
	return nil
}

// limits are shorter than the defaults, so that a round does not take minutes. Their
// order is the same.
func limits() migration.Limits {
	l := migration.DefaultLimits()
	l.AbortGrace, l.Answer, l.Life, l.Hold, l.Orphan = 8*time.Second, 12*time.Second, 20*time.Second, time.Second, 10*time.Second
	return l
}

func (s spec) actuator(ctx context.Context, out io.Writer, words <-chan struct{}) error {
	libvirt.AllowLabSharedDirectory()
	libvirt.DefaultLimits = libvirt.Limits{Quick: 8 * time.Second, Phase: 12 * time.Second}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	c := streams.Credentials{URL: fmt.Sprintf("nats://127.0.0.1:%d", s.Port), Role: streams.RoleActuator(s.Host), Dir: s.Dir, Log: log}
	// Like a service that is started again until the bus and libvirtd are there.
	var bus *streams.Bus
	var err error
	for bus == nil {
		if bus, err = streams.Connect(ctx, c); err != nil && !pause(ctx, 300*time.Millisecond) {
			return nil
		}
	}
	defer bus.Close()
	authorities, err := streams.LoadAuthorities(filepath.Join(s.Dir, streams.FileAuthorities))
	if err != nil {
		return err
	}
	l := limits()
	cfg := actuator.Config{Bus: bus, Host: s.Host, URI: s.URI, MigrateAddress: s.Address, Authorities: authorities,
		StateDir: filepath.Join(s.Dir, "actuator", string(s.Host)), Limits: &l, Log: log}
	if s.Peer != "" {
		cfg.Peer = &actuator.PeerConfig{URI: s.Peer, Leases: s.Leases, Daemon: s.LockPID, Site: "lab"}
	}
	if s.Steps {
		var mu sync.Mutex
		cfg.Step = func(_ schemas.VMID, label string) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(out, "STEP %s\n", label)
			select {
			case <-words:
			case <-ctx.Done():
			}
		}
	}
	fmt.Fprintln(out, "READY")
	for {
		a, err := actuator.New(cfg)
		if err != nil {
			return err
		}
		err = a.Run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		// What a service manager does with a service that ends by itself.
		log.Warn("the actuator ended and is started again", "err", err)
		if errors.Is(err, context.Canceled) || !pause(ctx, 500*time.Millisecond) {
			return nil
		}
	}
}

// pause waits; false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
