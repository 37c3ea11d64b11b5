// Package arch holds the house to its plan: which package may import which, and
// which packages may not look at a clock.
//
// What comes in: the source tree, as a file system. What goes out: a list of
// violations, empty when the house stands as docs/ARCHITECTURE.md draws it.
//
// What is promised: every Go file outside tests is parsed, not guessed at;
// a package that the table does not name is itself a violation, so that nobody
// adds a room without saying where its door leads. The rules:
//
//   - Arrows run down: cmd, then services, then deciders and the bus, then schemas.
//     Services never import each other; they meet in schemas.
//   - Deciders read no clock, no file, no socket and no shared source of chance;
//     they know neither NATS nor libvirt. Time reaches them as a value. The same
//     holds for the glue of a service outside its service.go.
//   - A heavy dependency has one door: Telegraf, go-libvirt, the NATS server.
//   - No file is longer than a person reads in one sitting.
//
// Why a test and not a habit: every project of this field that meant to keep the
// clock out of its deciders, and did not check, leaked it.
package arch

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const module = "github.com/foreshift/foreshift/"

// MaxLines is the longest a Go file may be, tests included.
const MaxLines = 500

// room is what one package may do.
type room struct {
	may   []string // import prefixes, module-local ones without the module path
	clean bool     // a decider: no clock, no I/O, no shared chance
	// shell names the files of an otherwise clean package that may do I/O.
	shell []string
}

// doors are dependencies that only the named packages may import.
var doors = map[string][]string{
	"github.com/influxdata/telegraf":      {"agents", "cmd/foreshift-agent"},
	"github.com/digitalocean/go-libvirt":  {"actuator/libvirt", "agents/domain", "internal/sim", "internal/lab"},
	"github.com/nats-io/nats-server/v2":   {"streams/embedded"},
	"github.com/davecgh/go-xdr":           {"internal/sim"},
	"github.com/vishvananda":              {"actuator/tunnel", "internal/lab"},
	"golang.zx2c4.com/wireguard":          {"actuator/tunnel"},
	"github.com/cockroachdb/datadriven":   {},
	"pgregory.net/rapid":                  {},
	"github.com/prometheus/client_golang": {"streams", "forecaster", "placer", "actuator", "agents", "console", "internal/service", "cmd/foreshift", "internal/stack"},
}

// unclean are standard packages a decider must do without.
var unclean = []string{"context", "log", "log/slog", "net", "net/http", "os", "os/exec", "sync", "sync/atomic", "syscall", "io/fs", "math/rand", "crypto/rand"}

// clock are the functions of package time that read or wait for the clock.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"}

// seeded are the names of math/rand/v2 that need a seed; all others share one.
var seeded = []string{"New", "NewPCG", "NewChaCha8", "Rand", "PCG", "ChaCha8", "Source", "Zipf", "NewZipf"}

// Violation is one breach of the plan.
type Violation struct {
	File string
	Line int
	What string
}

func (v Violation) String() string { return fmt.Sprintf("%s:%d: %s", v.File, v.Line, v.What) }

// Check parses every Go file of the tree and reports the breaches, by file.
func Check(tree fs.FS) ([]Violation, error) {
	var out []Violation
	err := fs.WalkDir(tree, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && file != "." || d.Name() == "testdata" || file == "tools") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(file, ".go") {
			return nil
		}
		src, err := fs.ReadFile(tree, file)
		if err != nil {
			return err
		}
		if n := bytes.Count(src, []byte{'\n'}); n > MaxLines {
			out = append(out, Violation{file, n, fmt.Sprintf("%d lines; split it, %d is the most a person reads in one sitting", n, MaxLines)})
		}
		if strings.HasSuffix(file, "_test.go") {
			return nil
		}
		found, err := checkFile(file, src)
		out = append(out, found...)
		return err
	})
	return out, err
}

func checkFile(file string, src []byte) ([]Violation, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	pkg := path.Dir(file)
	r, listed := roomOf(pkg)
	if !listed {
		return []Violation{{file, 1, "package " + pkg + " is not in the plan: add it to internal/arch with what it may import"}}, nil
	}
	clean := r.clean && !slices.Contains(r.shell, path.Base(file))
	var out []Violation
	report := func(p token.Pos, format string, a ...any) {
		out = append(out, Violation{file, fset.Position(p).Line, fmt.Sprintf(format, a...)})
	}
	timeName, randName := "", ""
	for _, spec := range f.Imports {
		imp := strings.Trim(spec.Path.Value, `"`)
		if imp == "time" {
			timeName = "time"
			if spec.Name != nil {
				timeName = spec.Name.Name
			}
		}
		if imp == "math/rand/v2" {
			randName = "rand"
			if spec.Name != nil {
				randName = spec.Name.Name
			}
		}
		for door, who := range doors {
			if under(imp, door) && !slices.ContainsFunc(who, func(w string) bool { return under(pkg, w) }) {
				report(spec.Pos(), "%s may not import %s: its only doors are %v", pkg, imp, who)
			}
		}
		local, isLocal := strings.CutPrefix(imp, module)
		switch {
		case isLocal:
			if local != pkg && !slices.ContainsFunc(r.may, func(m string) bool { return m == "*" || under(local, m) }) {
				report(spec.Pos(), "%s may not import %s", pkg, local)
			}
		case clean && slices.Contains(unclean, imp):
			report(spec.Pos(), "%s decides and must not import %s", pkg, imp)
		case clean && strings.HasPrefix(imp, "github.com/nats-io/"):
			report(spec.Pos(), "%s decides and must not know NATS (%s)", pkg, imp)
		}
	}
	if clean && timeName+randName != "" {
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			if x.Name == timeName && slices.Contains(clock, sel.Sel.Name) {
				report(sel.Pos(), "%s decides and must be told the time, not call time.%s", pkg, sel.Sel.Name)
			}
			if x.Name == randName && !slices.Contains(seeded, sel.Sel.Name) {
				report(sel.Pos(), "%s decides: chance comes from a named seed, not from rand.%s", pkg, sel.Sel.Name)
			}
			return true
		})
	}
	return out, nil
}

// under reports whether p is prefix or below it.
func under(p, prefix string) bool { return p == prefix || strings.HasPrefix(p, prefix+"/") }
