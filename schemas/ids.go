package schemas

import (
	"encoding/hex"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// VMID is the UUID of a libvirt domain. It is the key of a VM everywhere and
// follows it from host to host. In text it is the canonical lower-case form.
type VMID [16]byte

// ParseVMID reads the canonical text form (either case).
func ParseVMID(s string) (VMID, error) {
	var v VMID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return v, fmt.Errorf("vm id %q: want a UUID such as 3f1c8a52-0000-4000-8000-00000000002a", clip(s))
	}
	compact := s[0:8] + s[9:13] + s[14:18] + s[19:23] + s[24:36]
	if _, err := hex.Decode(v[:], []byte(compact)); err != nil {
		return VMID{}, fmt.Errorf("vm id %q: %w", clip(s), err)
	}
	return v, nil
}

func (v VMID) String() string {
	b := v.text()
	return string(b[:])
}

// text is the canonical form without an allocation.
func (v *VMID) text() (b [36]byte) {
	hex.Encode(b[0:8], v[0:4])
	hex.Encode(b[9:13], v[4:6])
	hex.Encode(b[14:18], v[6:8])
	hex.Encode(b[19:23], v[8:10])
	hex.Encode(b[24:36], v[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return b
}

// IsZero reports the all-zero id, which in metrics names the host itself.
func (v VMID) IsZero() bool { return v == VMID{} }

// MarshalText makes VMID a JSON string and a JSON object key.
func (v VMID) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the canonical form.
func (v *VMID) UnmarshalText(b []byte) (err error) { *v, err = ParseVMID(string(b)); return err }

// Partitions is the number of partitions that VMs are spread over.
const Partitions = 64

// Partition is the partition of the VM: xxhash64 of its canonical UUID text
// modulo [Partitions].
func (v VMID) Partition() int {
	b := v.text()
	return int(xxhash.Sum64(b[:]) % Partitions)
}

// HostID, SiteID and the like are restricted names that serve as one NATS
// subject token: 1 to 64 of a-z, A-Z, 0-9, '-' and '_'.
type (
	HostID string
	SiteID string
	// PlanID names a plan; CommandID one move of it.
	PlanID    string
	CommandID string
)

// CheckToken says whether s can be one token of a subject.
func CheckToken(what, s string) error {
	if len(s) == 0 || len(s) > 64 {
		return fmt.Errorf("%s %q: want 1 to 64 characters", what, clip(s))
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
		if !ok {
			return fmt.Errorf("%s %q: character %q at %d is not allowed (letters, digits, '-' and '_' only)", what, clip(s), c, i)
		}
	}
	return nil
}

// clip bounds foreign text in an error message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
