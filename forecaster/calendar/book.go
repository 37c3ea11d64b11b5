package calendar

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/foreshift/foreshift/schemas"
)

// Bounds of a book.
const (
	MaxEntries  = 2048  // calendar entries
	MaxExternal = 256   // numeric series
	MaxValues   = 16384 // of a numeric series that are kept, the newest
	MaxKinds    = 4096  // distinct sets of labels among VMs
)

// Book holds the entries in force and the labels of VMs. It is owned by one
// goroutine.
type Book struct {
	base     time.Duration
	events   map[string]*Event
	external map[string]*schemas.External
	vms      map[schemas.VMID]int // to kinds
	kinds    []kind               // of VMs, by their labels; 0 has none
	byKey    map[string]int
	free     []int
	version  uint64
	Counts   Counts
}

// Counts of what a book was told and what did not fit, since the start.
type Counts struct {
	Refused uint64 // entries that cannot be expanded
	Dropped uint64 // entries, values, kinds and series beyond a bound
	Crowded uint64 // regressors beyond what a model takes of one VM
}

type kind struct {
	labels map[string]string
	key    string
	vms    int
}

// NewBook makes an empty book for steps of the given length.
func NewBook(base time.Duration) *Book {
	return &Book{base: base, events: map[string]*Event{}, external: map[string]*schemas.External{}, vms: map[schemas.VMID]int{},
		kinds: make([]kind, 1), byKey: map[string]int{"": 0}}
}

// Version changes with everything that may change a sheet.
func (b *Book) Version() uint64 { return b.version }

// Len is the number of entries and numeric series in force.
func (b *Book) Len() int { return len(b.events) + len(b.external) }

// Put brings an entry into force in place of the one with its id, or removes it. An
// entry that is refused removes its predecessor: the operator no longer means that.
func (b *Book) Put(c *schemas.Calendar) error {
	if _, ok := b.events[c.ID]; ok {
		delete(b.events, c.ID)
		b.version++
	}
	if c.Removed {
		return nil
	}
	e, err := Compile(c)
	if err != nil {
		b.Counts.Refused++
		return err
	}
	if len(b.events) == MaxEntries {
		b.Counts.Dropped++
		return fmt.Errorf("calendar entry %s: %d entries are in force already; remove some", c.ID, MaxEntries)
	}
	b.events[c.ID] = e
	b.version++
	return nil
}

// PutExternal brings a numeric series into force. Values of the version before that
// lie before its start are kept, if the grid is the same: the past is what a model
// learns from.
func (b *Book) PutExternal(x *schemas.External) error {
	old, ok := b.external[x.ID]
	if !ok && len(b.external) == MaxExternal {
		b.Counts.Dropped++
		return fmt.Errorf("external series %s: %d series are in force already", x.ID, MaxExternal)
	}
	n := *x
	if step := every(&n); ok && step == every(old) && x.Start > old.Start && x.Start.Sub(old.Start)%step == 0 {
		if k := int(x.Start.Sub(old.Start) / step); k <= len(old.Value) {
			n.Start, n.Value = old.Start, slices.Concat(old.Value[:k], x.Value)
		}
	}
	if over := len(n.Value) - MaxValues; over > 0 {
		n.Start, n.Value = n.Start.Add(time.Duration(over)*every(&n)), n.Value[over:]
	}
	b.external[x.ID] = &n
	b.version++
	return nil
}

// PutVM tells the labels of a VM.
func (b *Book) PutVM(v schemas.VMID, labels map[string]string) {
	key := keyOf(labels)
	old, ok := b.vms[v]
	if ok && b.kinds[old].key == key {
		return
	}
	b.RemoveVM(v)
	k, ok := b.byKey[key]
	if !ok {
		if n := len(b.free); n > 0 {
			k, b.free = b.free[n-1], b.free[:n-1]
		} else if len(b.kinds) < MaxKinds {
			k = len(b.kinds)
			b.kinds = append(b.kinds, kind{})
		} else {
			b.Counts.Dropped++
			return
		}
		b.kinds[k] = kind{labels: maps.Clone(labels), key: key}
		b.byKey[key] = k
	}
	b.kinds[k].vms++
	b.vms[v] = k
	b.version++
}

// RemoveVM forgets the labels of a VM.
func (b *Book) RemoveVM(v schemas.VMID) {
	k, ok := b.vms[v]
	if !ok {
		return
	}
	delete(b.vms, v)
	b.version++
	if b.kinds[k].vms--; b.kinds[k].vms == 0 && k != 0 {
		delete(b.byKey, b.kinds[k].key)
		b.kinds[k] = kind{}
		b.free = append(b.free, k)
	}
}

// keyOf is a text that two sets of labels share only if they are the same.
func keyOf(labels map[string]string) string {
	if len(labels) == 0 {
		return ""
	}
	var s strings.Builder
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(&s, "%q=%q,", k, labels[k])
	}
	return s.String()
}

// Matches reports whether labels have all that match asks for; nothing asked matches
// every VM.
func Matches(match, labels map[string]string) bool {
	for k, v := range match {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}
