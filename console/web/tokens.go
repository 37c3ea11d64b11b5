package web

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/foreshift/foreshift/schemas"
)

// Role is what a person at the page may do.
type Role string

// The roles.
const (
	Nobody   Role = ""
	Viewer   Role = "viewer"   // looks on
	Operator Role = "operator" // approves, skips, aborts, pauses, changes calendar and policy
)

// Person is who a token stands for. The name goes into the record of acts.
type Person struct {
	Role Role
	Name string
}

// FileTokens is the name of the tokens' file in a state directory.
const FileTokens = "console.tokens"

const (
	tokenBytes = 32
	minToken   = 24 // characters
	maxTokens  = 1000
)

// Tokens are the people who may use the page.
type Tokens struct {
	path   string
	tokens []string
	people []Person
}

// LoadTokens reads a file of lines "role name token"; "#" begins a comment. A file
// that others may read is refused.
func LoadTokens(path string) (*Tokens, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("tokens: %s may be read by others (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
	}
	t := &Tokens{path: path}
	names := map[string]bool{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		fault := func(what string) error { return fmt.Errorf("tokens: %s line %d: %s", path, n, what) }
		switch {
		case len(words) != 3:
			return nil, fault("want a role, a name and a token")
		case Role(words[0]) != Viewer && Role(words[0]) != Operator:
			return nil, fault(fmt.Sprintf("role %.20q: want viewer or operator", words[0]))
		case schemas.CheckToken("name", words[1]) != nil:
			return nil, fault(schemas.CheckToken("name", words[1]).Error())
		case names[words[1]]:
			return nil, fault(fmt.Sprintf("name %s is there twice", words[1]))
		case len(words[2]) < minToken:
			return nil, fault(fmt.Sprintf("a token of %d characters can be guessed; want %d or more", len(words[2]), minToken))
		case len(t.people) == maxTokens:
			return nil, fault(fmt.Sprintf("more than %d tokens", maxTokens))
		}
		names[words[1]] = true
		t.tokens, t.people = append(t.tokens, words[2]), append(t.people, Person{Role(words[0]), words[1]})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	if len(t.people) == 0 {
		return nil, fmt.Errorf("tokens: %s holds none: remove it and a new one is made", path)
	}
	return t, nil
}

// EnsureTokens is LoadTokens of a file that is made, with one operator and one viewer,
// when there is none.
func EnsureTokens(path string) (*Tokens, error) {
	t, err := LoadTokens(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	text := "# Who may use the console: role, name, token. Keep it to yourself; restart the console after a change.\n"
	for _, r := range []Role{Operator, Viewer} {
		b := make([]byte, tokenBytes)
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("tokens: %w", err)
		}
		text += fmt.Sprintf("%s %s %s\n", r, r, base64.RawURLEncoding.EncodeToString(b))
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	return LoadTokens(path)
}

// Token is the first token of a role, empty when there is none: for a link by which
// one's own machine is acted on.
func (t *Tokens) Token(r Role) string {
	for i, p := range t.people {
		if p.Role == r {
			return t.tokens[i]
		}
	}
	return ""
}

// Path is where the tokens are kept.
func (t *Tokens) Path() string { return t.path }

// Person is who the token stands for. It takes as long for a wrong token as for a
// right one.
func (t *Tokens) Person(token string) (Person, bool) {
	h := sha256.Sum256([]byte(token))
	found := -1
	for i := range t.tokens {
		if one := sha256.Sum256([]byte(t.tokens[i])); subtle.ConstantTimeCompare(h[:], one[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return Person{}, false
	}
	return t.people[found], true
}
