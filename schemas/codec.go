package schemas

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Encoding is how a kind of message is written.
type Encoding uint8

// The encodings.
const (
	JSON  Encoding = iota // one JSON object
	Arrow                 // one self-contained Arrow IPC stream with one record batch
)

func (e Encoding) String() string {
	if e == Arrow {
		return "arrow"
	}
	return "json"
}

// Spec is the entry of one kind in the registry.
type Spec struct {
	Kind     Kind
	Major    int
	Minor    int
	Encoding Encoding
	Title    string         // what it is, in a few words
	New      func() Message // an empty message to decode into
}

// MaxMessage bounds an encoded message, in bytes: what the control servers carry.
// Telemetry stays far below it.
const MaxMessage = 8 << 20

// Errors that callers tell apart. All others mean a malformed message.
var (
	// ErrUnknownKind means that no kind of that name is known.
	ErrUnknownKind = errors.New("unknown message kind")
	// ErrUnknownVersion means that the kind or its major version is not known here.
	ErrUnknownVersion = errors.New("unknown message version")
)

// specs is the registry, in the order of the design's table of streams.
var specs = []Spec{
	{KindMetrics, 1, 0, Arrow, "samples of a host and its VMs", func() Message { return new(Metrics) }},
	{KindSteps, 1, 1, Arrow, "closed base steps of a partition", func() Message { return new(Steps) }},
	{KindForecasts, 1, 0, Arrow, "predictive distributions and joint scenarios", func() Message { return new(Forecasts) }},
	{KindCapacityHost, 1, 1, JSON, "what a host has and whom it carries", func() Message { return new(CapacityHost) }},
	{KindCapacityLink, 1, 2, JSON, "what a link between two sites carries", func() Message { return new(CapacityLink) }},
	{KindPressureVM, 1, 0, JSON, "likelihood that a VM's demand goes unserved", func() Message { return new(PressureVM) }},
	{KindPressureHost, 1, 0, JSON, "likelihood that a host runs short", func() Message { return new(PressureHost) }},
	{KindBenefit, 1, 0, JSON, "best move of a pressured VM, or why there is none", func() Message { return new(Benefit) }},
	{KindShortfall, 1, 0, JSON, "what no placement can fix", func() Message { return new(Shortfall) }},
	{KindCalendar, 1, 0, JSON, "a known event of the future", func() Message { return new(Calendar) }},
	{KindExternal, 1, 0, JSON, "a numeric series known for the future", func() Message { return new(External) }},
	{KindModel, 1, 0, JSON, "a version of learnt state", func() Message { return new(Model) }},
	{KindProgress, 1, 1, JSON, "a move under way", func() Message { return new(Progress) }},
	{KindCommand, 1, 2, JSON, "the order to move a VM", func() Message { return new(Command) }},
	{KindOutcome, 1, 1, JSON, "how a move ended", func() Message { return new(Outcome) }},
	{KindEffect, 1, 0, JSON, "what a move achieved", func() Message { return new(Effect) }},
	{KindPlan, 1, 3, JSON, "one decision of the placer, with all it declined", func() Message { return new(Plan) }},
	{KindAct, 1, 3, JSON, "a signed word of an operator", func() Message { return new(Act) }},
	{KindAudit, 1, 0, JSON, "one link of the audit chain", func() Message { return new(Audit) }},
	{KindDeadLetter, 1, 0, JSON, "a message that could not be used", func() Message { return new(DeadLetter) }},
	{KindHostEntry, 1, 0, JSON, "a host by its id", func() Message { return new(HostEntry) }},
	{KindVMEntry, 1, 0, JSON, "a VM by its id", func() Message { return new(VMEntry) }},
	{KindPolicy, 1, 2, JSON, "what the operator allows and asks for", func() Message { return new(Policy) }},
	{KindTunnel, 1, 2, JSON, "the share-out of a link", func() Message { return new(Tunnel) }},
	{KindTunnelPeer, 1, 0, JSON, "a site's end of a tunnel, with its public keys", func() Message { return new(TunnelPeer) }},
	{KindRequest, 1, 1, JSON, "what one actuator asks of another", func() Message { return new(Request) }},
	{KindReply, 1, 1, JSON, "an actuator's answer", func() Message { return new(Reply) }},
}

var specByKind = func() map[Kind]*Spec {
	m := make(map[Kind]*Spec, len(specs))
	for i := range specs {
		m[specs[i].Kind] = &specs[i]
	}
	return m
}()

// Specs lists the registry in a fixed order. The slice is the caller's own.
func Specs() []Spec { return append([]Spec(nil), specs...) }

// SpecOf looks a kind up; an unknown one is [ErrUnknownKind].
func SpecOf(k Kind) (Spec, error) {
	s, ok := specByKind[k]
	if !ok {
		return Spec{}, fmt.Errorf("%w %q", ErrUnknownKind, clip(string(k)))
	}
	return *s, nil
}

// Header is the value of [HeaderSchema]: "capacity.host/1.0".
func (s Spec) Header() string {
	return string(s.Kind) + "/" + strconv.Itoa(s.Major) + "." + strconv.Itoa(s.Minor)
}

var headers = func() map[Kind]string {
	m := make(map[Kind]string, len(specs))
	for _, s := range specs {
		m[s.Kind] = s.Header()
	}
	return m
}()

// SchemaHeader is the value of [HeaderSchema] for messages of a kind, or empty for
// an unknown kind.
func SchemaHeader(k Kind) string { return headers[k] }

// Encode validates a message and writes it: JSON, or an Arrow IPC stream for the
// high-volume kinds. Equal messages give equal bytes. The message is not changed.
func Encode(m Message) ([]byte, error) {
	if isNil(m) {
		return nil, errors.New("encode: no message")
	}
	s, err := SpecOf(m.Kind())
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("encode %s: %w", s.Kind, err)
	}
	var b []byte
	if s.Encoding == Arrow {
		b, err = encodeArrow(m)
	} else {
		b, err = encodeJSON(m)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", s.Kind, err)
	}
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("encode %s: %d bytes, at most %d are allowed", s.Kind, len(b), MaxMessage)
	}
	return b, nil
}

// isNil tells a missing message, be it an empty interface or a typed nil.
func isNil(m Message) bool {
	if m == nil {
		return true
	}
	v := reflect.ValueOf(m)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// Decode reads a message of the current version and validates it. The message
// aliases nothing of b. In JSON an unknown, doubled or null field is an error, and
// so is anything after the object.
func Decode(k Kind, b []byte) (Message, error) {
	s, err := SpecOf(k)
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return decode(s, b, true)
}

// DecodeHeader reads a message by its [HeaderSchema]. An unknown kind or major
// version is [ErrUnknownVersion]; a newer minor version is read leniently, its
// unknown fields and columns passed over.
func DecodeHeader(header string, b []byte) (Message, error) {
	k, major, minor, err := ParseSchemaHeader(header)
	if err != nil {
		return nil, fmt.Errorf("decode: %w: %w", ErrUnknownVersion, err)
	}
	s, ok := specByKind[k]
	if !ok {
		return nil, fmt.Errorf("decode: %w: %w %q", ErrUnknownVersion, ErrUnknownKind, clip(string(k)))
	}
	if major != s.Major {
		return nil, fmt.Errorf("decode: %w: %s, this build reads %s", ErrUnknownVersion, clip(header), s.Header())
	}
	return decode(*s, b, minor <= s.Minor)
}

// ParseSchemaHeader takes "kind/major.minor" apart.
func ParseSchemaHeader(header string) (k Kind, major, minor int, err error) {
	fail := func() (Kind, int, int, error) {
		return "", 0, 0, fmt.Errorf("schema header %q: want kind/major.minor such as capacity.host/1.0", clip(header))
	}
	name, version, ok := strings.Cut(header, "/")
	a, b, dot := strings.Cut(version, ".")
	if !ok || !dot || name == "" || len(header) > 128 {
		return fail()
	}
	if major, ok = versionNumber(a); !ok {
		return fail()
	}
	if minor, ok = versionNumber(b); !ok {
		return fail()
	}
	return Kind(name), major, minor, nil
}

// versionNumber reads one to four digits.
func versionNumber(s string) (int, bool) {
	if len(s) == 0 || len(s) > 4 {
		return 0, false
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

func decode(s Spec, b []byte, strict bool) (Message, error) {
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("decode %s: %d bytes, at most %d are allowed", s.Kind, len(b), MaxMessage)
	}
	m := s.New()
	var err error
	if s.Encoding == Arrow {
		err = decodeArrow(m, b)
	} else {
		err = decodeJSON(m, b, strict)
	}
	if err == nil {
		err = m.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", s.Kind, err)
	}
	return m, nil
}

// JSONLines writes a message for people, as lines of JSON, each one an object and
// ended by a newline: the message itself, or one line for every row of an Arrow
// message. Missing values are null.
func JSONLines(m Message) ([]byte, error) {
	if isNil(m) {
		return nil, errors.New("json lines: no message")
	}
	var b []byte
	var err error
	switch m := m.(type) {
	case *Metrics:
		b, err = m.jsonLines()
	case *Steps:
		b, err = m.jsonLines()
	case *Forecasts:
		b, err = m.jsonLines()
	default:
		if b, err = encodeJSON(m); err == nil {
			b = append(b, '\n')
		}
	}
	if err != nil {
		return nil, fmt.Errorf("json lines of %s: %w", m.Kind(), err)
	}
	return b, nil
}
