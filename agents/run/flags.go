package run

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/influxdata/telegraf"
	"github.com/influxdata/telegraf/plugins/inputs"
	"github.com/influxdata/telegraf/plugins/outputs"
	"github.com/influxdata/telegraf/plugins/processors"
)

// flags are Telegraf's, as far as the agent has them.
type flags struct {
	configs, dirs   []string
	inputs, outputs []string
	test, once      bool
	testWait        int
	debug, quiet    bool
	version, sample bool
	list, check     bool
	help            bool
	nonStrict       bool
	pidfile         string
}

const about = `foreshift-agent measures hosts and VMs for Foreshift. It is Telegraf with chosen
plugins, and takes Telegraf's configuration files and flags.

  foreshift-agent --config FILE              run
  foreshift-agent --config FILE --test       gather once, print, write nothing
  foreshift-agent --config FILE config check check the configuration
  foreshift-agent config                     print a configuration to start from
  foreshift-agent plugins | version

`

func parse(args []string, errs io.Writer) (*flags, error) {
	f := &flags{}
	fs := flag.NewFlagSet("foreshift-agent", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	many := func(to *[]string) func(string) error {
		return func(s string) error { *to = append(*to, s); return nil }
	}
	filter := func(to *[]string) func(string) error {
		return func(s string) error {
			*to = append(*to, slices.DeleteFunc(strings.Split(s, ":"), func(p string) bool { return p == "" })...)
			return nil
		}
	}
	fs.Func("config", "configuration `file` or URL; may be repeated", many(&f.configs))
	fs.Func("config-directory", "`directory` with more *.conf files; may be repeated", many(&f.dirs))
	fs.Func("input-filter", "inputs to enable, `names` parted by ':'", filter(&f.inputs))
	fs.Func("output-filter", "outputs to enable, `names` parted by ':'", filter(&f.outputs))
	fs.BoolVar(&f.test, "test", false, "gather once, print the metrics, write nothing, exit")
	fs.IntVar(&f.testWait, "test-wait", 0, "with --test or --once, wait so many `seconds` for inputs that deliver late")
	fs.BoolVar(&f.once, "once", false, "gather once, write, exit")
	fs.BoolVar(&f.debug, "debug", false, "log for debugging")
	fs.BoolVar(&f.quiet, "quiet", false, "log errors only")
	fs.BoolVar(&f.version, "version", false, "print the version and exit")
	fs.BoolVar(&f.sample, "sample-config", false, "print a configuration to start from and exit")
	fs.BoolVar(&f.nonStrict, "non-strict-env-handling", false, "replace environment variables outside of strings too")
	fs.StringVar(&f.pidfile, "pidfile", "", "`file` to write the process id to")
	if err := parseAround(fs, args, f); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			f.help = true
			fmt.Fprint(errs, about)
			fs.SetOutput(errs)
			fs.PrintDefaults()
			return f, nil
		}
		return nil, usageError{err}
	}
	if f.test && f.once {
		return nil, usageError{errors.New("--test and --once exclude each other: --once writes to the outputs, --test prints")}
	}
	if f.testWait < 0 {
		return nil, usageError{fmt.Errorf("--test-wait %d must not be negative", f.testWait)}
	}
	return f, nil
}

// parseAround reads flags before and after the command, as Telegraf does.
func parseAround(fs *flag.FlagSet, args []string, f *flags) error {
	var words []string
	for {
		if err := fs.Parse(args); err != nil {
			return err
		}
		if args = fs.Args(); len(args) == 0 {
			break
		}
		words, args = append(words, args[0]), args[1:]
	}
	switch command := strings.Join(words, " "); command {
	case "":
	case "version":
		f.version = true
	case "plugins":
		f.list = true
	case "config", "config create":
		f.sample = true
	case "config check":
		f.check = true
	default:
		return fmt.Errorf("unknown command %q: want config, config check, plugins or version", command)
	}
	return nil
}

// versionLine names the agent's version and Telegraf's.
func versionLine() string {
	own, telegraf := "(devel)", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			own = info.Main.Version
		}
		for _, d := range info.Deps {
			if d.Path == "github.com/influxdata/telegraf" {
				telegraf = d.Version
			}
		}
	}
	return fmt.Sprintf("foreshift-agent %s (Telegraf %s)", own, telegraf)
}

func listPlugins(out io.Writer) error {
	for _, k := range []struct {
		kind  string
		names []string
	}{
		{"inputs", slices.Sorted(maps.Keys(inputs.Inputs))},
		{"processors", slices.Sorted(maps.Keys(processors.Processors))},
		{"outputs", slices.Sorted(maps.Keys(outputs.Outputs))},
	} {
		for _, n := range k.names {
			if _, err := fmt.Fprintf(out, "%s.%s\n", k.kind, n); err != nil {
				return err
			}
		}
	}
	return nil
}

const agentSample = `# Configuration of foreshift-agent, in Telegraf's format. Environment variables may
# stand in strings as ${NAME}.
[agent]
  ## How often inputs are gathered and outputs are flushed
  interval = "10s"
  flush_interval = "5s"
  round_interval = true

  ## At least as many as one gather has metrics (a VM is one), and how many are kept
  ## while the bus is away
  metric_batch_size = 5000
  metric_buffer_limit = 200000

  omit_hostname = true

`

// sampleConfig prints the samples of our plugins and of those that the filters
// name.
func sampleConfig(out io.Writer, f *flags) error {
	if _, err := io.WriteString(out, agentSample); err != nil {
		return err
	}
	show := func(kind string, names, want []string, sample func(string) telegraf.PluginDescriber) error {
		for _, n := range names {
			ours := strings.HasPrefix(n, "foreshift_")
			if len(want) > 0 && !slices.Contains(want, n) || len(want) == 0 && !ours {
				continue
			}
			if _, err := fmt.Fprintf(out, "%s\n", sample(n).SampleConfig()); err != nil {
				return err
			}
		}
		for _, n := range want {
			if !slices.Contains(names, n) {
				return usageError{fmt.Errorf("--%s-filter: there is no %s %q; `foreshift-agent plugins` lists them", kind, kind, n)}
			}
		}
		return nil
	}
	err := show("output", slices.Sorted(maps.Keys(outputs.Outputs)), f.outputs, func(n string) telegraf.PluginDescriber { return outputs.Outputs[n]() })
	if err != nil {
		return err
	}
	return show("input", slices.Sorted(maps.Keys(inputs.Inputs)), f.inputs, func(n string) telegraf.PluginDescriber { return inputs.Inputs[n]() })
}
