package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// source is one entry of apt's sources: a deb822 stanza or a line.
type source struct {
	URIs       []string
	Suites     []string
	Components []string
	Options    [][2]string // Signed-By, Trusted and the like, by their deb822 names
}

// parseDeb822 reads the stanzas of a .sources file that are enabled and offer
// binary packages (sources.list(5)).
func parseDeb822(text string) []source {
	var out []source
	for _, stanza := range splitStanzas(text) {
		fields := map[string]string{}
		order := []string{}
		key := ""
		for _, line := range stanza {
			if line[0] == ' ' || line[0] == '\t' { // a continued value, such as an inline key
				if key != "" {
					fields[key] += "\n" + line
				}
				continue
			}
			k, v, ok := strings.Cut(line, ":")
			if !ok {
				key = ""
				continue
			}
			key = strings.ToLower(strings.TrimSpace(k))
			fields[key] = strings.TrimSpace(v)
			order = append(order, key)
		}
		if !slices.Contains(strings.Fields(fields["types"]), "deb") || strings.EqualFold(fields["enabled"], "no") {
			continue
		}
		s := source{URIs: strings.Fields(fields["uris"]), Suites: strings.Fields(fields["suites"]), Components: strings.Fields(fields["components"])}
		for _, k := range order {
			if name, ok := keptOptions[k]; ok {
				s.Options = append(s.Options, [2]string{name, fields[k]})
			}
		}
		out = append(out, s)
	}
	return out
}

// keptOptions are what a derived entry takes over, by lower-case deb822 name.
var keptOptions = map[string]string{"signed-by": "Signed-By", "trusted": "Trusted", "architectures": "Architectures", "check-valid-until": "Check-Valid-Until", "allow-insecure": "Allow-Insecure"}

// lineOptions are the one-line style's names of the same.
var lineOptions = map[string]string{"signed-by": "Signed-By", "trusted": "Trusted", "arch": "Architectures", "check-valid-until": "Check-Valid-Until", "allow-insecure": "Allow-Insecure"}

// splitStanzas gives the non-empty, non-comment lines between blank lines.
func splitStanzas(text string) [][]string {
	var all [][]string
	var cur []string
	for _, line := range append(strings.Split(text, "\n"), "") {
		switch {
		case strings.TrimSpace(line) == "":
			if len(cur) > 0 {
				all = append(all, cur)
			}
			cur = nil
		case line[0] != '#':
			cur = append(cur, line)
		}
	}
	return all
}

// parseLines reads a one-line style file: deb [option=value ...] URI SUITE COMPONENT...
func parseLines(text string) []source {
	var out []source
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb")
		if !ok || rest == "" || !strings.ContainsAny(rest[:1], " \t[") {
			continue
		}
		var s source
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			end := strings.Index(rest, "]")
			if end < 0 {
				continue
			}
			for _, o := range strings.Fields(rest[1:end]) {
				k, v, _ := strings.Cut(o, "=")
				if name, ok := lineOptions[strings.ToLower(k)]; ok {
					s.Options = append(s.Options, [2]string{name, strings.ReplaceAll(v, ",", " ")})
				}
			}
			rest = rest[end+1:]
		}
		f := strings.Fields(rest)
		if len(f) < 3 {
			continue
		}
		s.URIs, s.Suites, s.Components = f[:1], f[1:2], f[2:]
		out = append(out, s)
	}
	return out
}

// readSources reads all of the machine's apt sources under root (normally
// /etc/apt), in file order.
func readSources(root string) ([]source, error) {
	lists, err := filepath.Glob(filepath.Join(root, "sources.list.d", "*.list"))
	if err != nil {
		return nil, fmt.Errorf("apt sources: %w", err)
	}
	stanzas, err := filepath.Glob(filepath.Join(root, "sources.list.d", "*.sources"))
	if err != nil {
		return nil, fmt.Errorf("apt sources: %w", err)
	}
	files := append(append([]string{}, lists...), stanzas...)
	sort.Strings(files)
	var out []source
	for _, f := range append([]string{filepath.Join(root, "sources.list")}, files...) {
		b, err := os.ReadFile(f)
		if os.IsNotExist(err) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("apt sources: %w", err)
		}
		if strings.HasSuffix(f, ".sources") {
			out = append(out, parseDeb822(string(b))...)
		} else {
			out = append(out, parseLines(string(b))...)
		}
	}
	return out, nil
}

// hasSuite reports whether a suite's main component is among the sources.
func hasSuite(all []source, suite string) bool {
	for _, s := range all {
		if slices.Contains(s.Suites, suite) && slices.Contains(s.Components, "main") {
			return true
		}
	}
	return false
}

// backportsEntry derives a deb822 entry for codename-backports from the entry that
// the machine has for codename itself, so that a mirror or proxy stays in use.
func backportsEntry(all []source, codename string) (string, error) {
	for _, s := range all {
		if !slices.Contains(s.Suites, codename) || !slices.Contains(s.Components, "main") || len(s.URIs) == 0 {
			continue
		}
		var b strings.Builder
		fmt.Fprintf(&b, "# Written by Foreshift's lab: QEMU 9 or newer is needed for live migration.\n")
		fmt.Fprintf(&b, "Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\n", strings.Join(s.URIs, " "), codename)
		for _, o := range s.Options {
			fmt.Fprintf(&b, "%s: %s\n", o[0], o[1])
		}
		return b.String(), nil
	}
	return "", fmt.Errorf("apt sources: no entry for suite %s, component main, from which to derive %s-backports", codename, codename)
}
