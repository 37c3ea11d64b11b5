package web

import (
	"encoding/json"

	"github.com/foreshift/foreshift/schemas"
)

// flatten writes a policy as names and values.
func flatten(p schemas.Policy) map[string]string {
	out := map[string]string{}
	b, err := json.Marshal(p)
	if err != nil {
		return out // a policy that came over the bus has been JSON already
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(b, &fields) != nil {
		return out
	}
	for k, v := range fields {
		if s := string(v); s != "null" && s != "{}" && s != "[]" {
			out[k] = s
		}
	}
	return out
}
