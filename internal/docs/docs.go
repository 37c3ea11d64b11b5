package docs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Command is one command with the output that is written for it.
type Command struct {
	Line   int // where it begins
	Text   string
	Output []string // nil: none is written
}

// Block is one fenced block of commands.
type Block struct {
	File, NotRun string            // NotRun: why it is not run
	Names        map[string]string // a name in the text: what it stands for
	Commands     []Command
}

// looksLikeCommand are lines that may only stand in a block of commands.
var looksLikeCommand = regexp.MustCompile(`^(\$ |\./task\b|(\.build/bin/)?foreshift(-agent)? [a-z-]|nats [a-z]|virsh |docker |sudo |apt(-get)? |systemctl |dpkg )`)

// Parse finds the blocks of commands of a page, and what is wrong with it.
func Parse(file, text string) (blocks []Block, faults []error) {
	bad := func(line int, format string, a ...any) {
		faults = append(faults, fmt.Errorf("%s:%d: %s", file, line, fmt.Sprintf(format, a...)))
	}
	var block *Block
	fence, kind := "", ""
	for i, l := range strings.Split(text, "\n") {
		n := i + 1
		trimmed := strings.TrimSpace(l)
		switch {
		case fence == "" && strings.HasPrefix(trimmed, "```"):
			fence = "```"
			info := strings.TrimPrefix(trimmed, "```")
			kind, _, _ = strings.Cut(info, " ")
			block = nil
			if why := strings.TrimSpace(strings.TrimPrefix(info, "sh")); kind == "sh" && strings.HasPrefix(why, "not-run:") || kind == "console" {
				b, err := heading(file, strings.TrimSpace(strings.TrimPrefix(info, kind)))
				if err != nil {
					bad(n, "%v", err)
				}
				block = &b
			}
		case fence != "" && trimmed == fence:
			fence = ""
			if block != nil {
				if len(block.Commands) == 0 {
					bad(n, "a block of commands without one: they begin with \"$ \"")
				} else {
					blocks = append(blocks, *block)
				}
			}
		case fence == "":
		case block == nil:
			if kind != "toml" && kind != "json" && looksLikeCommand.MatchString(trimmed) {
				bad(n, "a command outside of a block \"console\": %s", trimmed)
			}
		case kind == "sh":
			if n := len(block.Commands); n > 0 && strings.HasSuffix(block.Commands[n-1].Text, `\`) {
				block.Commands[n-1].Text += "\n" + l
			} else if trimmed != "" && !strings.HasPrefix(trimmed, "#") {
				block.Commands = append(block.Commands, Command{Line: n, Text: trimmed})
			}
		case strings.HasPrefix(l, "$ "):
			block.Commands = append(block.Commands, Command{Line: n, Text: l[2:]})
		case len(block.Commands) == 0:
			bad(n, "output before the first command: %s", l)
		default:
			c := &block.Commands[len(block.Commands)-1]
			if c.Output == nil && strings.HasSuffix(c.Text, `\`) {
				c.Text += "\n" + l
			} else {
				c.Output = append(c.Output, l)
			}
		}
	}
	if fence != "" {
		bad(strings.Count(text, "\n")+1, "a block does not end")
	}
	for i := range blocks {
		for j := range blocks[i].Commands {
			c := &blocks[i].Commands[j]
			for len(c.Output) > 0 && strings.TrimSpace(c.Output[len(c.Output)-1]) == "" {
				c.Output = c.Output[:len(c.Output)-1]
			}
		}
	}
	return blocks, faults
}

// roles that a name in a block may stand for.
var roles = []string{"moved", "source", "destination", "plan", "page", "virsh", "port"}

func heading(file, info string) (Block, error) {
	b := Block{File: file, Names: map[string]string{}}
	if why, ok := strings.CutPrefix(info, "not-run:"); ok {
		b.NotRun = strings.TrimSpace(why)
		if b.NotRun == "" {
			return b, fmt.Errorf("not-run without a reason")
		}
		return b, nil
	}
	for f := range strings.FieldsSeq(info) {
		name, role, ok := strings.Cut(f, "=")
		if !ok || name == "" || !slices.Contains(roles, role) {
			return b, fmt.Errorf("heading %q: want NAME=ROLE, ROLE of %v, or not-run: REASON", f, roles)
		}
		b.Names[name] = role
	}
	return b, nil
}

// what differs from run to run, in the order in which it is taken out.
var differs = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\x1b\[[0-9;]*m`), ""},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "ID"},
	{regexp.MustCompile(`\b[A-Z0-9]{50,60}\b`), "KEY"},
	{regexp.MustCompile(`_INBOX_?[\w.]+`), "INBOX"},
	{regexp.MustCompile(`\b20[0-9]{2}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z| UTC)?`), "TIME"},
	{regexp.MustCompile(`\b[0-9]{2}:[0-9]{2}:[0-9]{2}\b`), "TIME"},
	{regexp.MustCompile(`\b([a-z]-)?[0-9a-f]{12,}\b`), "ID"},
	{regexp.MustCompile(`-?\b([0-9]+(\.[0-9]+)?(ns|µs|ms|s|m|h|d))+\b`), "DURATION"},
	{regexp.MustCompile(`\b[a-z]+-[0-9]+\b`), "NAME"},
	{regexp.MustCompile(`-?\b[0-9][0-9.,]*([eE][-+]?[0-9]+)?\b`), "N"},
	{regexp.MustCompile(`[█░]+`), "BAR"},
	{regexp.MustCompile(`[-─━═]{3,}`), "---"},
	{regexp.MustCompile(`\s+`), " "},
}

// shape is a line without what differs from run to run.
func shape(l string) string {
	for _, d := range differs {
		l = d.what.ReplaceAllString(l, d.with)
	}
	return strings.TrimSpace(l)
}

// Compare says how an output differs in shape from what is written, "" when it does
// not.
func Compare(written []string, got string) string {
	lines := strings.Split(strings.TrimRight(got, "\n"), "\n")
	if len(written) == 0 {
		return ""
	}
	at, free := 0, false
	for _, w := range written {
		if strings.TrimSpace(w) == "..." {
			free = true
			continue
		}
		want := pattern(w)
		found := -1
		for i := at; i < len(lines); i++ {
			if want.MatchString(shape(lines[i])) {
				found = i
				break
			}
			if !free {
				break
			}
		}
		if found < 0 {
			next := "the end"
			if at < len(lines) {
				next = fmt.Sprintf("%q", lines[at])
			}
			return fmt.Sprintf("written: %q\n    found: %s", w, next)
		}
		at, free = found+1, false
	}
	if !free && at < len(lines) {
		return fmt.Sprintf("after the last line that is written comes %q", lines[at])
	}
	return ""
}

func pattern(w string) *regexp.Regexp {
	parts := strings.Split(w, "...")
	for i, p := range parts {
		// Blanks at a gap belong to it.
		parts[i] = regexp.QuoteMeta(shape(p))
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
}

// inline is a command of ours in running text.
var inline = regexp.MustCompile("`(foreshift [a-z][^`]*)`")

// Inline holds the commands of running text against the generated reference: every
// command and every flag must be there.
func Inline(file, text, reference string) (faults []error) {
	commands := flagsOf(reference)
	inFence := false
	for i, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(l), "```") {
			inFence = !inFence
		}
		if inFence {
			continue
		}
		for _, m := range inline.FindAllStringSubmatch(l, -1) {
			words := strings.Fields(m[1])
			path := words[0]
			for _, w := range words[1:] {
				w, _, _ = strings.Cut(w, "|")
				if commands[path+" "+w] == nil {
					break
				}
				path += " " + w
			}
			if path == words[0] && len(words) > 1 && commands[path+" "+words[1]] == nil && words[1] != "help" {
				faults = append(faults, fmt.Errorf("%s:%d: no command `%s`", file, i+1, m[1]))
				continue
			}
			for _, w := range words {
				name, _, _ := strings.Cut(strings.Trim(w, "[].,"), "=")
				if strings.HasPrefix(name, "--") && !commands[path][name] && !commands["foreshift"][name] {
					faults = append(faults, fmt.Errorf("%s:%d: `%s` has no flag %s", file, i+1, path, name))
				}
			}
		}
	}
	return faults
}

// flagsOf are the commands of the reference with their flags; "foreshift" has those of
// all.
func flagsOf(reference string) map[string]map[string]bool {
	out := map[string]map[string]bool{"foreshift": {"--help": true}}
	at := "foreshift"
	for l := range strings.SplitSeq(reference, "\n") {
		if name, ok := strings.CutPrefix(l, "## foreshift "); ok {
			at = "foreshift " + name
			out[at] = map[string]bool{}
		}
		if f := regexp.MustCompile(`^\s+(?:-\w, )?(--[a-z][a-z0-9-]*)`).FindStringSubmatch(l); f != nil {
			out[at][f[1]] = true
		}
	}
	return out
}
