package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/foreshift/foreshift/agents/conf"
	"github.com/foreshift/foreshift/internal/config"
	"github.com/foreshift/foreshift/internal/service"
	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
	"github.com/spf13/cobra"
)

// Where the configuration of an installed Foreshift is.
const (
	configDir  = "/etc/foreshift"
	configFile = "foreshift.toml"
	journalDir = "/var/lib/foreshift/actuator"

	consoleTokens = "/var/lib/foreshift/console/tokens" // made when there is none
)

// configure sets the flags that the command line did not from the configuration
// file: the one that --config or $FORESHIFT_CONFIG names, else the installed one if
// there is one. What starts a fleet of its own is not told of another.
func (p *place) configure(c *cobra.Command, _ []string) error {
	group := c
	for group.HasParent() && group.GroupID == "" {
		group = group.Parent()
	}
	if group.GroupID == "try" || group.GroupID == "" || c.Name() == "version" || c.Parent() != nil && c.Parent().Name() == "config" {
		return nil
	}
	path := p.config
	if path == "" {
		path = os.Getenv("FORESHIFT_CONFIG")
	}
	if path == "" {
		path = filepath.Join(configDir, configFile)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	// Keys of one fleet and the address of another make no sense: who names one of
	// them on the command line names both.
	told := c.Flag("state").Changed || c.Flag("nats").Changed || c.Flag("context").Changed
	state, at := p.state, p.url
	f, err := config.Read(path)
	if err != nil {
		if p.config == "" && os.Getenv("FORESHIFT_CONFIG") == "" && errors.Is(err, fs.ErrPermission) {
			return nil // the installed one is not for everyone; what was told on the command line is
		}
		return usageError{err}
	}
	if err := f.Apply(c); err != nil {
		return usageError{fmt.Errorf("%w\n`foreshift config check %s` tells all faults", err, path)}
	}
	if told {
		p.state, p.url = state, at
	}
	return nil
}

func configCommand(at *place) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "The configuration file of an installed Foreshift", Args: cobra.NoArgs,
		Long: `The configuration of services and commands is one TOML file, ` + configDir + `/` + configFile + `. A section
[NAME] holds settings of the command NAME, [fleet] those of all commands; a setting is
a flag without its dashes, and a flag on the command line goes before it. Keys are files
of their own (` + "`foreshift streams auth`" + `); no setting holds a secret.`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(configInitCommand(at), configCheckCommand(at))
	return c
}

// inits are what "config init" is asked for.
type inits struct {
	root, dir, uri, host, site string
	shared                     []string
	force                      bool
}

func configInitCommand(at *place) *cobra.Command {
	var o inits
	c := &cobra.Command{Use: "init control|host...", Short: "Write a configuration to start from: of the control plane, of a host with its agent, or both", Args: cobra.RangeArgs(1, 2), ValidArgs: []string{"control", "host"},
		Long: `Writes DIR/` + configFile + ` with every setting, its meaning and its default, for the services of
the control plane, for the actuator of a host, or both on one machine; for a host also
DIR/agent.conf, the configuration of foreshift-agent. Files that are there are not
touched without --force.`,
		Example: "foreshift config init control --dir ./control --nats nats://127.0.0.1:4222\nforeshift config init host --dir ./h1 --nats nats://127.0.0.1:4222 --host h1 --site here"}
	c.RunE = func(c *cobra.Command, args []string) error {
		var err error
		if o.dir, err = filepath.Abs(o.dir); err != nil {
			return err
		}
		files, err := o.files(c.Root(), at, args)
		if err != nil {
			return err
		}
		if !o.force {
			for _, f := range files {
				if _, err := os.Stat(f.path); err == nil {
					return fmt.Errorf("%s is there already; `foreshift config check %s` checks it, --force replaces it", f.path, filepath.Join(o.root, o.dir, configFile))
				}
			}
		}
		if err := os.MkdirAll(filepath.Join(o.root, o.dir), 0o755); err != nil {
			return err
		}
		made := []string{}
		for _, f := range files {
			if err := os.WriteFile(f.path, []byte(f.text), 0o644); err != nil { // no secret is in it
				return err
			}
			made = append(made, f.path)
		}
		if at.json {
			return object(c.OutOrStdout(), map[string]any{"files": made})
		}
		for _, f := range made {
			fmt.Fprintln(c.OutOrStdout(), "written:", f)
		}
		fmt.Fprintf(c.OutOrStdout(), "next: unpack the keys into %s (/usr/share/foreshift/accounts, or `foreshift streams auth`, makes them), then `foreshift config check %s`\n", o.dir, filepath.Join(o.dir, configFile))
		return nil
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", configDir, "directory of the configuration and the keys")
	f.StringVar(&o.host, "host", "", "id of the host, a name of letters, digits, - and _ (host only; required)")
	f.StringVar(&o.site, "site", "", "site of the host (host only; required)")
	f.StringVar(&o.uri, "uri", "qemu:///system", "libvirt URI of the host (host only)")
	f.StringSliceVar(&o.shared, "shared-path", nil, "directory of disks that other hosts see as well, as /srv/nfs (host only; may be repeated)")
	f.StringVar(&o.root, "root", "", "write below this directory, for an image or another machine")
	f.BoolVar(&o.force, "force", false, "replace files that are there")
	return c
}

// written is a file to be written.
type written struct {
	path, text string
}

// controlServices run in a control plane.
var controlServices = []string{"forecaster", "placer", "recorder", "console"}

func (o inits) files(root *cobra.Command, at *place, what []string) ([]written, error) {
	if at.url == "" {
		return nil, usageError{errors.New("--nats is needed: the address of the bus, as nats://bus.example:4222")}
	}
	text := "# Configuration of Foreshift. A setting is a flag of the command its section is named\n# for; `foreshift config check FILE` tells every fault, docs/CLI.md every command.\n\n"
	toml := filepath.Join(o.root, o.dir, configFile)
	var services []string
	settings := map[string]map[string]string{}
	var files []written
	for _, w := range what {
		switch w {
		case "control":
			services = append(services, controlServices...)
			settings["console"] = map[string]string{"tokens": o.data(consoleTokens)}
			continue
		case "host":
		default:
			return nil, usageError{fmt.Errorf("config init %q: want control, host or both", w)}
		}
		services = append(services, "actuator")
		settings["actuator"] = map[string]string{"host": o.host, "uri": o.uri, "journal": o.data(journalDir)}
		s := conf.Settings{URL: at.url, Credentials: filepath.Join(o.dir, "agent"), Role: streams.RoleAgentOf(schemas.HostID(o.host)), Agent: o.host, OwnHost: schemas.HostID(o.host), Site: schemas.SiteID(o.site),
			SharedPaths: o.shared, Hosts: []conf.Host{{ID: schemas.HostID(o.host), Site: schemas.SiteID(o.site), URI: o.uri}}}
		text, err := s.TOML()
		if err != nil {
			return nil, usageError{fmt.Errorf("config init host: %w", err)}
		}
		files = append(files, written{filepath.Join(o.root, o.dir, "agent.conf"), text})
	}
	first, _, err := root.Find(services[:1])
	if err != nil {
		return nil, err
	}
	text += config.Sample(first, config.Fleet, map[string]string{"nats": at.url, "state": o.dir})
	for _, name := range services {
		c, _, err := root.Find([]string{name})
		if err != nil {
			return nil, err
		}
		set := map[string]string{"listen": "127.0.0.1:" + ports[name]}
		for k, v := range settings[name] {
			set[k] = v
		}
		text += "\n" + config.Sample(c, name, set)
	}
	return append(files, written{toml, text}), nil
}

// data is where a service keeps what it writes: of an installed one below /var/lib, of
// one that is tried out beside its configuration.
func (o inits) data(installed string) string {
	if o.dir == configDir {
		return installed
	}
	return filepath.Join(o.dir, filepath.Base(installed))
}

// ports of /metrics and the page of services that are set up by "config init".
var ports = map[string]string{"forecaster": "9471", "placer": "9472", "recorder": "9473", "console": "9474", "actuator": "9475", "tunnel": "9476"}

func configCheckCommand(at *place) *cobra.Command {
	return &cobra.Command{Use: "check [FILE]", Short: "Tell every fault of a configuration file, and of the keys it needs; exit 1 when there is one", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path := filepath.Join(configDir, configFile)
			if len(args) == 1 {
				path = args[0]
			}
			f, err := config.Read(path)
			if err != nil {
				return err
			}
			faults := f.Check(root())
			if len(faults) == 0 {
				faults = checkServices(f)
			}
			if at.json {
				lines := []string{}
				for _, x := range faults {
					lines = append(lines, x.Error())
				}
				if err := object(c.OutOrStdout(), map[string]any{"file": path, "sections": f.Sections(), "faults": lines}); err != nil {
					return err
				}
			} else {
				for _, x := range faults {
					fmt.Fprintln(c.OutOrStdout(), x.Error())
				}
			}
			switch {
			case len(faults) > 0:
				return fmt.Errorf("%s: %s", path, count(len(faults), "fault"))
			case !at.json:
				fmt.Fprintf(c.OutOrStdout(), "%s: no fault; sections: %s\n", path, strings.Join(f.Sections(), ", "))
			}
			return nil
		}}
}

// checkServices judges what the services of the file would be told, and looks for
// the keys that they need.
func checkServices(f *config.File) (faults config.Faults) {
	for _, name := range f.Sections() {
		if services[name] == "" {
			continue
		}
		var at place
		var o serviceOptions
		c := &cobra.Command{Use: "foreshift"}
		at.flags(c)
		sub := serviceCommand(&at, name, &o)
		c.AddCommand(sub)
		if err := f.Apply(sub); err != nil {
			faults = append(faults, config.Fault{Section: name, Want: err.Error()})
			continue
		}
		for _, x := range o.validate(name) {
			x.Section = name
			faults = append(faults, x)
		}
		if at.url == "" {
			faults = append(faults, config.Fault{Section: config.Fleet, Setting: "nats", Want: "want the address of the bus, as nats://bus.example:4222"})
		}
		faults = append(faults, checkKeys(at.state, name, roleOfService(name, o.host))...)
	}
	slices.SortFunc(faults, func(a, b config.Fault) int { return strings.Compare(a.Error(), b.Error()) })
	return slices.Compact(faults)
}

// checkKeys looks for the keys of a role: they are secrets, in files of their own.
func checkKeys(dir, name, role string) (faults config.Faults) {
	if role == streams.RoleActuator("") {
		return nil // told already: it has no host
	}
	missing := func(err error) {
		faults = append(faults, config.Fault{Section: name, Want: fmt.Sprintf("%v; `foreshift streams auth` makes the keys, copy those of %s to %s", err, role, dir)})
	}
	for _, a := range streams.AccountsOf(role) {
		if _, err := streams.ReadSeed(streams.SeedFile(dir, role, a)); err != nil {
			missing(err)
		}
	}
	if streams.Signs(role) {
		if _, err := streams.ReadSeed(streams.SigningFile(dir, role)); err != nil {
			missing(err)
		}
	}
	if name == "actuator" {
		if _, err := streams.LoadAuthorities(filepath.Join(dir, streams.FileAuthorities)); err != nil {
			missing(err)
		}
	}
	return faults
}

// validate tells every fault of the options of a service, with setting, value and
// what is wanted.
func (o *serviceOptions) validate(name string) (faults config.Faults) {
	bad := func(setting string, value any, want string) {
		faults = append(faults, config.Fault{Section: name, Setting: setting, Value: fmt.Sprint(value), Want: want})
	}
	if o.base <= 0 {
		bad("base-step", o.base, "want a duration above 0, as 5m")
	}
	if _, err := service.Logger(os.Stderr, o.log, false); err != nil {
		bad("log", o.log, "want debug, info, warn or error")
	}
	if err := service.CheckAddress(o.listen); err != nil {
		bad("listen", o.listen, err.Error())
	}
	if name == "actuator" {
		if err := schemas.CheckToken("host", o.host); err != nil {
			bad("host", o.host, "want --host, the id that the agent of the host reports: "+err.Error())
		}
		if u, err := url.Parse(o.uri); err != nil || u.Scheme == "" {
			bad("uri", o.uri, "want a libvirt URI, as qemu:///system")
		}
	}
	if name == "tunnel" {
		if _, err := o.tunnel.config(""); err != nil {
			bad("site", o.tunnel.site, err.Error())
		}
	}
	return faults
}
