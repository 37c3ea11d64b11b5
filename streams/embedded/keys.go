package embedded

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/foreshift/foreshift/streams"
)

// cliContext is a context of the nats command line, as far as we set it.
type cliContext struct {
	Description string `json:"description"`
	URL         string `json:"url"`
	NKey        string `json:"nkey"`
	InboxPrefix string `json:"inbox_prefix"`
}

// writeContexts writes the contexts that the nats command line finds with
// XDG_CONFIG_HOME=<state>/cli. The inspector's on telemetry is the selected one.
func writeContexts(dir, url string) error {
	base := filepath.Join(dir, "cli", "nats")
	if err := os.MkdirAll(filepath.Join(base, "context"), 0o700); err != nil {
		return err
	}
	for _, c := range []struct {
		name, role string
		account    streams.Account
		doc        string
	}{
		{"foreshift-tel", streams.RoleInspector, streams.Tel, "telemetry, forecasts and pressures, read only"},
		{"foreshift-audit", streams.RoleOperator, streams.AuditTrail, "the audit trail, read only"},
		{"foreshift-ctrl", streams.RoleAdmin, streams.Ctrl, "commands, plans and acts, for whoever administers the bus"},
		{"foreshift-tel-admin", streams.RoleAdmin, streams.Tel, "telemetry, for whoever administers the bus"},
	} {
		b, err := json.MarshalIndent(cliContext{
			Description: "Foreshift: " + c.doc, URL: url,
			NKey:        streams.SeedFile(dir, c.role, c.account),
			InboxPrefix: streams.InboxPrefix(c.role),
		}, "", "  ")
		if err != nil {
			return err
		}
		path := filepath.Join(base, "context", c.name+".json")
		if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
			return fmt.Errorf("context %s: %w", c.name, err)
		}
	}
	return os.WriteFile(filepath.Join(base, "context.txt"), []byte("foreshift-tel"), 0o600)
}
