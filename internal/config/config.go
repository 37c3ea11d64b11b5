package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Fleet is the section of what all commands share.
const Fleet = "fleet"

// maxFile bounds what is read.
const maxFile = 1 << 20

// File is a configuration as it was read: sections of settings.
type File struct {
	Path     string
	sections map[string]map[string]string
}

// Fault is one thing that is wrong.
type Fault struct {
	Section, Setting, Value string
	Want                    string
}

func (f Fault) Error() string {
	where := "[" + f.Section + "]"
	if f.Setting != "" {
		where += fmt.Sprintf(" %s = %q", f.Setting, f.Value)
	}
	return where + ": " + f.Want
}

// Faults are all of them, a line each.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Read reads a file; faults of single settings are found by [File.Check].
func Read(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("configuration: %s has %d bytes: want at most %d", path, st.Size(), maxFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return Parse(path, string(b))
}

// Parse reads the text of a file.
func Parse(path, text string) (*File, error) {
	var raw map[string]any
	if _, err := toml.Decode(text, &raw); err != nil {
		if p := new(toml.ParseError); errors.As(err, p) {
			return nil, fmt.Errorf("configuration: %s, line %d: %s", path, p.Position.Line, p.Message)
		}
		return nil, fmt.Errorf("configuration: %s: %w", path, err)
	}
	f := &File{Path: path, sections: map[string]map[string]string{}}
	var faults Faults
	for name, v := range raw {
		section, ok := v.(map[string]any)
		if !ok {
			faults = append(faults, Fault{name, "", "", "want a section of settings; a setting stands below the heading of its section"})
			continue
		}
		f.sections[name] = map[string]string{}
		for key, v := range section {
			text, ok := flat(v)
			if !ok {
				faults = append(faults, Fault{name, key, fmt.Sprint(v), "want a text, a number, true or false, or a list of texts"})
				continue
			}
			f.sections[name][key] = text
		}
	}
	if len(faults) > 0 {
		faults.sort()
		return nil, fmt.Errorf("configuration %s:\n%w", path, faults)
	}
	return f, nil
}

// flat is a value as a flag takes it.
func flat(v any) (string, bool) {
	switch x := v.(type) {
	case string, bool, int64, float64:
		return fmt.Sprint(x), true
	case []any:
		var parts []string
		for _, p := range x {
			s, ok := p.(string)
			if !ok || strings.Contains(s, ",") {
				return "", false
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, ","), true
	}
	return "", false
}

// Has reports whether the file has a section.
func (f *File) Has(section string) bool { return f.sections[section] != nil }

// Sections are those of the file, sorted.
func (f *File) Sections() (out []string) {
	for name := range f.sections {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Apply sets the flags of a command that the command line did not.
func (f *File) Apply(c *cobra.Command) error {
	var faults Faults
	for _, section := range []string{Fleet, top(c).Name()} {
		for key, value := range f.sections[section] {
			flag := c.Flag(key)
			if flag == nil || given(flag) {
				continue // of another command, or told better
			}
			if err := flag.Value.Set(value); err != nil {
				faults = append(faults, Fault{section, key, value, want(flag, err)})
			}
		}
	}
	if len(faults) > 0 {
		faults.sort()
		return fmt.Errorf("configuration %s:\n%w", f.Path, faults)
	}
	return nil
}

// given reports whether the command line set a flag.
func given(f *pflag.Flag) bool { return f.Changed }

// top is the command below the root that c belongs to.
func top(c *cobra.Command) *cobra.Command {
	for c.HasParent() && c.Parent().HasParent() {
		c = c.Parent()
	}
	return c
}

// Check finds all faults of sections and settings that root's commands know.
func (f *File) Check(root *cobra.Command) (faults Faults) {
	known := map[string]map[string]*pflag.Flag{Fleet: {}}
	for _, c := range root.Commands() {
		known[c.Name()] = map[string]*pflag.Flag{}
		add := func(flag *pflag.Flag) {
			if flag.Name == "help" || flag.Name == "config" {
				return
			}
			known[c.Name()][flag.Name] = flag
			known[Fleet][flag.Name] = flag
		}
		c.LocalFlags().VisitAll(add)
		c.InheritedFlags().VisitAll(add)
		for _, sub := range c.Commands() { // a section holds for the commands below it too
			sub.LocalFlags().VisitAll(func(flag *pflag.Flag) {
				if _, own := known[c.Name()][flag.Name]; !own && flag.Name != "help" {
					known[c.Name()][flag.Name] = flag
				}
			})
		}
	}
	for section, settings := range f.sections {
		flags, ok := known[section]
		if !ok {
			faults = append(faults, Fault{section, "", "", "no such section" + meant(section, keys(known))})
			continue
		}
		for key, value := range settings {
			flag, ok := flags[key]
			if !ok {
				faults = append(faults, Fault{section, key, value, "no such setting" + meant(key, keys(flags))})
				continue
			}
			if err := flag.Value.Set(value); err != nil {
				faults = append(faults, Fault{section, key, value, want(flag, err)})
			}
		}
	}
	faults.sort()
	return faults
}

func (f Faults) sort() {
	slices.SortFunc(f, func(a, b Fault) int { return strings.Compare(a.Error(), b.Error()) })
}

// want says what a flag takes.
func want(f *pflag.Flag, err error) string {
	kind := map[string]string{"duration": "a duration like 5m or 10s", "bool": "true or false", "int": "a whole number", "uint": "a whole number from 0", "uint64": "a whole number from 0", "float64": "a number"}[f.Value.Type()]
	if kind == "" {
		return err.Error()
	}
	return "want " + kind + " (" + f.Usage + ")"
}

func keys[V any](m map[string]V) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// meant names the nearest of what there is.
func meant(name string, there []string) string {
	best, near := "", 3
	for _, t := range there {
		if d := distance(name, t); d < near {
			best, near = t, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; is %q meant?", best)
	}
	return "; there are: " + strings.Join(there, ", ")
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Effective are the settings of a command as they hold, for the log: "name=value"
// in the order of the names.
func Effective(c *cobra.Command) (out []string) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			out = append(out, fmt.Sprintf("%s=%s", f.Name, f.Value))
		}
	})
	return out
}

// shared are the settings that a sample shows once for the fleet.
var shared = []string{"nats", "state", "base-step"}

// Sample writes a section with every setting of a command, each with its comment;
// what is set is given, the rest stays a comment with its default.
func Sample(c *cobra.Command, section string, set map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s]\n", section)
	write := func(f *pflag.Flag) {
		if f.Name == "help" || f.Hidden || section != Fleet && slices.Contains(shared, f.Name) {
			return
		}
		usage := strings.ToUpper(f.Usage[:1]) + f.Usage[1:]
		fmt.Fprintf(&b, "# %s\n", usage)
		if v, ok := set[f.Name]; ok {
			fmt.Fprintf(&b, "%s = %s\n", f.Name, value(f, v))
		} else {
			fmt.Fprintf(&b, "#%s = %s\n", f.Name, value(f, f.DefValue))
		}
	}
	if section == Fleet {
		for _, name := range shared {
			if f := c.Flag(name); f != nil {
				write(f)
			}
		}
		return b.String()
	}
	c.LocalNonPersistentFlags().VisitAll(write)
	return b.String()
}

// value writes a flag's value as TOML.
func value(f *pflag.Flag, v string) string {
	switch f.Value.Type() {
	case "bool", "int", "uint", "uint64", "float64":
		return v
	}
	return fmt.Sprintf("%q", v)
}
