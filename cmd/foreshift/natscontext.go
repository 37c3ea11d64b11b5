package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/foreshift/foreshift/schemas"
	"github.com/foreshift/foreshift/streams"
)

// natsContextFile is what we read of a context of the nats command line.
type natsContextFile struct {
	URL  string `json:"url"`
	NKey string `json:"nkey"`
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// natsContext finds a fleet by a context of the nats command line: its address is
// the context's, and the keys of all accounts lie where the context's key lies. A
// context is for one account; a role of ours may have several.
func natsContext(name, role string) (streams.Credentials, error) {
	bad := func(err error) (streams.Credentials, error) {
		return streams.Credentials{}, fmt.Errorf("context %q: %w", name, err)
	}
	if err := schemas.CheckToken("name", name); err != nil {
		return bad(err)
	}
	dir, err := natsContextDir()
	if err != nil {
		return bad(err)
	}
	path := filepath.Join(dir, name+".json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return bad(fmt.Errorf("there is no %s; `nats context add %s --server URL --nkey DIR/creds/operator.TEL.nk` makes it, known are: %s", path, name, natsContextNames(dir)))
	} else if err != nil {
		return bad(err)
	}
	var c natsContextFile
	if err := json.Unmarshal(b, &c); err != nil {
		return bad(fmt.Errorf("%s: %w", path, err))
	}
	keys := filepath.Dir(c.NKey)
	if c.URL == "" || c.NKey == "" || filepath.Base(keys) != streams.DirCreds {
		return bad(fmt.Errorf("%s: want url, and nkey a file DIR/%s/ROLE.ACCOUNT.nk as `foreshift streams auth` makes it; have url %q, nkey %q", path, streams.DirCreds, c.URL, c.NKey))
	}
	if (c.Cert == "") != (c.Key == "") {
		return bad(fmt.Errorf("%s: cert %q and key %q belong together; `nats context edit %s` mends it", path, c.Cert, c.Key, name))
	}
	return streams.Credentials{URL: c.URL, Role: role, Dir: filepath.Dir(keys), TLS: streams.TLSFiles{CA: c.CA, Cert: c.Cert, Key: c.Key}}, nil
}

// natsContextDir is where the nats command line keeps its contexts.
func natsContextDir() (string, error) {
	base := os.Getenv("XDG_CONFIG_HOME")
	if base == "" {
		h, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		base = filepath.Join(h, ".config")
	}
	return filepath.Join(base, "nats", "context"), nil
}

func natsContextNames(dir string) string {
	files, _ := filepath.Glob(filepath.Join(dir, "*.json")) // the pattern is well formed
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".json"))
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
