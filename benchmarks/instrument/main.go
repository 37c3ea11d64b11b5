// Command instrument runs the Go toolchain's tools for `go test -fuzz -toolexec`, and
// lets the compiler instrument the code of one module alone.
//
// What comes in: a module's path, a tool and its arguments, as -toolexec gives them. What
// goes out: whatever the tool does; its exit code. What is promised: packages of the
// module are compiled as they were to be, all others without counters of coverage.
//
// Why: after each execution the fuzzer reads every counter of the binary. A boundary of a
// few hundred lines in a binary with a whole NATS server is fed a thousand times a second
// with those of the server, and ten times as often without.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: go test -fuzz TARGET -toolexec \"instrument MODULE\" PACKAGE")
		os.Exit(2)
	}
	module, tool, args := os.Args[1], os.Args[2], os.Args[3:]
	if compiles := strings.TrimSuffix(filepath.Base(tool), ".exe") == "compile"; compiles && slices.Contains(args, "-V=full") {
		// The go command asks for the version to tell what it may take from its cache.
		out, err := exec.Command(tool, args...).Output()
		if err != nil {
			fail(err)
		}
		fmt.Printf("%s of %s alone\n", strings.TrimSpace(string(out)), module)
		return
	} else if compiles && !within(module, args) {
		args = slices.DeleteFunc(args, func(a string) bool { return a == "-d=libfuzzer" })
	}
	c := exec.Command(tool, args...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		fail(err)
	}
}

// within reports whether the package that is compiled belongs to the module.
func within(module string, args []string) bool {
	i := slices.Index(args, "-p")
	if i < 0 || i+1 == len(args) {
		return false
	}
	p := args[i+1]
	return p == module || strings.HasPrefix(p, module+"/")
}

func fail(err error) {
	var e *exec.ExitError
	if errors.As(err, &e) {
		os.Exit(e.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "instrument:", err)
	os.Exit(1)
}
