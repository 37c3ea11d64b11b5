package streams

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/foreshift/foreshift/schemas"
	"github.com/nats-io/nkeys"
)

// Files of a directory of credentials, beside creds/ and [FileAuthorities].
const (
	FileUsers    = "users.json"    // which public key is which role's
	FileAccounts = "accounts.conf" // for the server to include
)

// AuthOptions say for whom credentials are made.
type AuthOptions struct {
	Dir    string
	Hosts  []schemas.HostID
	Shared bool // the roles "agent" and "actuator" that serve all hosts, for simulated ones
	Own    bool // each host's agent and actuator of its own
}

// users is what FileUsers holds: every key that may connect. A role that is being
// rotated has several.
type users struct {
	Hosts []schemas.HostID `json:"hosts"`
	Users []User           `json:"users"`
}

// auth is a directory of credentials, opened.
type auth struct {
	dir     string
	users   users
	pinned  Authorities
	hosts   map[schemas.HostID]*[]string // of pinned.Actuators, while they change
	changes []string
}

// EnsureAuth makes the keys that are missing in a directory: for every role a key
// per account, and a signing key, pinned as an authority, for the roles that sign.
// It writes the server's accounts too. What is there stays as it is, so that it can
// be repeated; changes says what was new. Seeds have mode 0600 and never leave their
// files.
func EnsureAuth(o AuthOptions) (all []User, changes []string, err error) {
	a, err := openAuth(o.Dir)
	if err != nil {
		return nil, nil, err
	}
	for _, h := range o.Hosts {
		if err := schemas.CheckToken("host", string(h)); err != nil {
			return nil, nil, fmt.Errorf("credentials: %w", err)
		}
		if !slices.Contains(a.users.Hosts, h) {
			a.users.Hosts = append(a.users.Hosts, h)
		}
	}
	var names []string
	if o.Own {
		for _, h := range a.users.Hosts {
			names = append(names, RoleAgentOf(h), RoleActuator(h))
		}
	}
	for _, r := range RoleNames() {
		if o.Shared || r != RoleAgent && r != RoleActuatorID {
			names = append(names, r)
		}
	}
	for _, role := range names {
		if err := a.ensure(role); err != nil {
			return nil, nil, err
		}
	}
	return a.users.Users, a.changes, a.save()
}

// RotateAuth gives a role new keys beside the old ones, which still count until
// [RetireAuth]. In between, the new files are copied to where the role runs, and it
// is restarted.
func RotateAuth(dir, role string) (changes []string, err error) {
	a, err := openAuth(dir)
	if err != nil {
		return nil, err
	}
	if !a.has(role) {
		return nil, fmt.Errorf("credentials: role %q has no keys in %s; run `foreshift streams auth` first", role, dir)
	}
	for _, acc := range AccountsOf(role) {
		if _, err := newSeed(SeedFile(dir, role, acc)); err != nil {
			return nil, err
		}
	}
	if Signs(role) {
		if _, err := newSeed(SigningFile(dir, role)); err != nil {
			return nil, err
		}
	}
	if err := a.ensure(role); err != nil {
		return nil, err
	}
	return a.changes, a.save()
}

// RetireAuth ends a rotation: of a role's keys only those in its files still count.
// What the others signed before the time stays history.
func RetireAuth(dir, role string, at schemas.Time) (changes []string, err error) {
	a, err := openAuth(dir)
	if err != nil {
		return nil, err
	}
	var current []string
	for _, acc := range AccountsOf(role) {
		pub, err := publicOf(SeedFile(dir, role, acc))
		if err != nil {
			return nil, err
		}
		current = append(current, pub)
	}
	for _, u := range slices.Clone(a.users.Users) {
		if u.Role == role && !slices.Contains(current, u.Public) {
			a.retire(u.Public, at)
		}
	}
	if Signs(role) {
		pub, err := publicOf(SigningFile(dir, role))
		if err != nil {
			return nil, err
		}
		for _, list := range a.lists(role) {
			for _, k := range *list {
				if k != pub {
					a.retire(k, at)
				}
			}
		}
	}
	return a.changes, a.save()
}

// RevokeAuth takes one public key out at once, whoever's it is. Nothing that it
// signed from the time on counts, so that a theft can be answered as of when it
// happened.
func RevokeAuth(dir, key string, at schemas.Time) (changes []string, err error) {
	a, err := openAuth(dir)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(a.pinned.keys(), key) && !slices.ContainsFunc(a.users.Users, func(u User) bool { return u.Public == key }) {
		return nil, fmt.Errorf("credentials: %.60q is no key of %s", key, dir)
	}
	a.retire(key, at)
	return a.changes, a.save()
}

func openAuth(dir string) (*auth, error) {
	a := &auth{dir: dir, hosts: map[schemas.HostID]*[]string{}}
	b, err := os.ReadFile(filepath.Join(dir, FileUsers))
	if err == nil {
		err = json.Unmarshal(b, &a.users)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("credentials: %s: %w", FileUsers, err)
	}
	for _, u := range a.users.Users {
		if !nkeys.IsValidPublicUserKey(u.Public) {
			return nil, fmt.Errorf("credentials: %s: %.60q is not a public user nkey", FileUsers, u.Public)
		}
	}
	k, err := readAuthorities(filepath.Join(dir, FileAuthorities))
	switch {
	case err == nil:
		a.pinned = *k
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if a.pinned.Actuators == nil {
		a.pinned.Actuators = map[string][]string{}
	}
	return a, nil
}

// ensure makes the role's files and lists what is in them.
func (a *auth) ensure(role string) error {
	for _, acc := range AccountsOf(role) {
		pub, err := a.current(SeedFile(a.dir, role, acc), role)
		if err != nil {
			return err
		}
		if u := (User{role, acc, pub}); !slices.Contains(a.users.Users, u) {
			a.users.Users = append(a.users.Users, u)
			a.changed("%s may connect to %s with %s", role, acc, pub)
		}
	}
	if !Signs(role) {
		return nil
	}
	pub, err := a.current(SigningFile(a.dir, role), role)
	if err != nil {
		return err
	}
	for _, list := range a.lists(role) {
		if !slices.Contains(*list, pub) {
			*list = append([]string{pub}, *list...)
			a.changed("%s signs with %s", role, pub)
		}
	}
	return nil
}

// current is the public part of the key in a file, made when missing.
func (a *auth) current(path, role string) (string, error) {
	_, pub, err := EnsureSeed(path)
	if err != nil {
		return "", err
	}
	if _, gone := a.pinned.Retired[pub]; gone {
		return "", fmt.Errorf("credentials: %s holds a revoked key; run `foreshift streams auth rotate %s`", path, role)
	}
	return pub, nil
}

func publicOf(path string) (string, error) {
	kp, err := ReadSeed(path)
	if err != nil {
		return "", err
	}
	return kp.PublicKey()
}

// has reports whether a role may connect with any key.
func (a *auth) has(role string) bool {
	return slices.ContainsFunc(a.users.Users, func(u User) bool { return u.Role == role })
}

// lists are those of the authorities in which a role's signing keys stand. The role
// that serves all hosts speaks for those that have no actuator of their own.
func (a *auth) lists(role string) []*[]string {
	switch role {
	case RolePlacer:
		return []*[]string{&a.pinned.Commands}
	case RoleOperator:
		return []*[]string{&a.pinned.Acts}
	case RoleRecorder:
		return []*[]string{&a.pinned.Records}
	case RoleTunnel:
		return []*[]string{&a.pinned.Tunnels}
	}
	var out []*[]string
	for _, h := range a.users.Hosts {
		if role == RoleActuator(h) || role == RoleActuatorID && !a.has(RoleActuator(h)) {
			out = append(out, a.host(h))
		}
	}
	return out
}

func (a *auth) host(h schemas.HostID) *[]string {
	l, ok := a.hosts[h]
	if !ok {
		own := a.pinned.Actuators[string(h)]
		l = &own
		a.hosts[h] = l
	}
	return l
}

// retire takes a key out: no user has it any more, and its word counts only before.
func (a *auth) retire(key string, at schemas.Time) {
	a.users.Users = slices.DeleteFunc(a.users.Users, func(u User) bool { return u.Public == key })
	if a.pinned.Retired == nil {
		a.pinned.Retired = map[string]schemas.Time{}
	}
	// Once retired a key may only lose more of its past.
	if was, ok := a.pinned.Retired[key]; !ok || at < was {
		a.pinned.Retired[key] = at
		a.changed("%s no longer counts", key)
	}
}

func (a *auth) changed(format string, args ...any) {
	a.changes = append(a.changes, fmt.Sprintf(format, args...))
}

// save writes the lists. The authorities come first: a key that a server admits and
// nobody trusts does no harm.
func (a *auth) save() error {
	for h, l := range a.hosts {
		a.pinned.Actuators[string(h)] = *l
	}
	if err := a.pinned.Save(filepath.Join(a.dir, FileAuthorities)); err != nil {
		return err
	}
	b, err := json.MarshalIndent(a.users, "", "  ")
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	if err := writeFile(filepath.Join(a.dir, FileUsers), append(b, '\n'), 0o600); err != nil {
		return err
	}
	conf, err := ServerAccounts(a.users.Users, a.users.Hosts)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	return writeFile(filepath.Join(a.dir, FileAccounts), []byte(conf), 0o600)
}
