package domain

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// The wire protocol of libvirt (libvirt.org/kbase/internals/rpc.html): a length
// of four bytes, a header of six words, the XDR payload.
const (
	program     = 0x20008086
	version     = 1
	headerBytes = 28
	// maxPacket is libvirt's own bound on a message.
	maxPacket = 32 << 20

	procConnectOpen        = 1
	procConnectClose       = 2
	procConnectGetVersion  = 4
	procNodeGetInfo        = 6
	procGetCapabilities    = 7
	procDomainGetXMLDesc   = 14
	procAuthList           = 66
	procAuthPolkit         = 70
	procStoragePoolInfo    = 87
	procStoragePoolXML     = 88
	procDomainIsPersistent = 151
	procGetLibVersion      = 157
	procNodeGetCPUStats    = 227
	procNodeGetMemoryStats = 228
	procListAllPools       = 281
	procDomainGetJobStats  = 298
	procGetDomainCaps      = 342
	procGetAllDomainStats  = 344
	procStartDirtyRateCalc = 427

	authPolkit = 2
	typeReply  = 1
	statusOK   = 0
)

// remoteError is an error that libvirt answered with: the connection is sound.
type remoteError struct {
	code uint32
	text string
}

func (e *remoteError) Error() string { return fmt.Sprintf("libvirt: %s (code %d)", e.text, e.code) }

// unsupported reports whether libvirt does not know the procedure, the flag or
// the feature.
func unsupported(err error) bool {
	var re *remoteError
	if !errors.As(err, &re) {
		return false
	}
	switch libvirt.ErrorNumber(re.code) {
	case libvirt.ErrNoSupport, libvirt.ErrOperationUnsupported, libvirt.ErrArgumentUnsupported, libvirt.ErrInvalidArg:
		return true
	}
	return unknownCall(err)
}

// unknownCall reports whether the daemon does not know the procedure at all.
func unknownCall(err error) bool {
	var re *remoteError
	return errors.As(err, &re) &&
		(libvirt.ErrorNumber(re.code) == libvirt.ErrNoSupport || strings.Contains(re.text, "unknown procedure"))
}

// client is one connection to a libvirt daemon. It makes one call at a time and
// every call has a deadline: libvirt's protocol has none, and a daemon that is
// stuck on one guest would hold its caller for ever. After an error that is not
// a [remoteError] the stream may be in the middle of a message: close the client
// and dial anew. Not safe for concurrent use.
type client struct {
	conn    net.Conn
	timeout time.Duration // of one call
	serial  uint32
	w       xdrWriter
	out     []byte // the request
	buf     []byte // the reply; valid until the next call
	nodeCPU uint32 // how many parameters NodeGetCPUStats has; 0 = not asked yet
	nodeMem uint32
}

// dial connects to a libvirt URI: qemu:///system, qemu+unix:///system?socket=PATH,
// qemu+tcp://host:port/system, qemu+tls://host/system?pkipath=DIR. Everything but
// the start of a dirty rate measurement works on a read-only connection.
func dial(ctx context.Context, uri string, readOnly bool, timeout time.Duration) (*client, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("uri: %w", err)
	}
	conn, err := dialTransport(ctx, u, timeout)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", uri, err)
	}
	c := &client{conn: conn, timeout: timeout}
	if err := c.open(ctx, string(libvirt.RemoteURI(u)), readOnly); err != nil {
		c.conn.Close()
		return nil, fmt.Errorf("open %s: %w", uri, err)
	}
	return c, nil
}

// transport tells how a URI wants to be reached.
func transport(u *url.URL) string {
	if _, t, ok := strings.Cut(u.Scheme, "+"); ok {
		return t
	}
	if u.Host != "" {
		return "tls"
	}
	return "unix"
}

func dialTransport(ctx context.Context, u *url.URL, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}
	switch t := transport(u); t {
	case "unix":
		path := u.Query().Get("socket")
		if path == "" {
			path = "/var/run/libvirt/libvirt-sock"
		}
		return d.DialContext(ctx, "unix", path)
	case "tcp":
		port := u.Port()
		if port == "" {
			port = "16509"
		}
		return d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	case "tls":
		var opt []dialers.TLSOption
		if p := u.Port(); p != "" {
			opt = append(opt, dialers.UseTLSPort(p))
		}
		if p := u.Query().Get("pkipath"); p != "" {
			opt = append(opt, dialers.UsePKIPath(p))
		}
		return dialers.NewTLS(u.Hostname(), opt...).Dial()
	default:
		return nil, fmt.Errorf("transport %q is not supported: use qemu:///system, qemu+unix, qemu+tcp or qemu+tls", t)
	}
}

func (c *client) open(ctx context.Context, name string, readOnly bool) error {
	r, err := c.call(ctx, procAuthList)
	if err != nil {
		return fmt.Errorf("list authentication: %w", err)
	}
	for n := r.count(4); n > 0; n-- {
		if r.u32() == authPolkit {
			if _, err := c.call(ctx, procAuthPolkit); err != nil {
				return fmt.Errorf("authenticate by polkit: %w", err)
			}
			break
		}
	}
	c.begin()
	c.w.u32(1) // a name follows
	c.w.text(name)
	var flags uint32
	if readOnly {
		flags = uint32(libvirt.ConnectRo)
	}
	c.w.u32(flags)
	if _, err = c.call(ctx, procConnectOpen); err != nil {
		return fmt.Errorf("connect to %s: %w", name, err)
	}
	return nil
}

// close says goodbye if that is quick.
func (c *client) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	c.begin()
	_, err := c.call(ctx, procConnectClose)
	_ = err // the daemon closes anyway
	c.conn.Close()
}

// begin starts a call's arguments.
func (c *client) begin() { c.w.b = c.w.b[:0] }

// call sends the arguments written since begin and gives the reply's payload,
// which is valid until the next call.
func (c *client) call(ctx context.Context, proc uint32) (xdrReader, error) {
	args := c.w.b
	defer c.begin()
	deadline := time.Now().Add(c.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return xdrReader{}, err
	}
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c.serial++
	c.out = c.out[:0]
	for _, v := range [...]uint32{uint32(headerBytes + len(args)), program, version, proc, 0, c.serial, 0} {
		c.out = binary.BigEndian.AppendUint32(c.out, v)
	}
	c.out = append(c.out, args...)
	if _, err := c.conn.Write(c.out); err != nil {
		return xdrReader{}, fmt.Errorf("send: %w", err)
	}
	for {
		if err := c.fill(headerBytes); err != nil {
			return xdrReader{}, fmt.Errorf("receive: %w", err)
		}
		var h [headerBytes]byte
		copy(h[:], c.buf)
		word := func(i int) uint32 { return binary.BigEndian.Uint32(h[4*i:]) }
		n := int64(word(0)) - headerBytes
		if n < 0 || n > maxPacket {
			return xdrReader{}, fmt.Errorf("receive: packet of %d bytes, want %d to %d", word(0), headerBytes, maxPacket)
		}
		if err := c.fill(int(n)); err != nil {
			return xdrReader{}, fmt.Errorf("receive: %w", err)
		}
		if word(1) != program || word(4) != typeReply || word(5) != c.serial {
			continue // an event, or a keep-alive: nobody asked
		}
		r := xdrReader{b: c.buf}
		if word(6) != statusOK {
			return xdrReader{}, readError(&r)
		}
		return r, nil
	}
}

// fill reads n bytes into the reply buffer. It grows the buffer as bytes arrive,
// so that a length that lies does not cost memory.
func (c *client) fill(n int) error {
	const chunk = 1 << 20
	c.buf = c.buf[:0]
	for len(c.buf) < n {
		k := min(n-len(c.buf), chunk)
		at := len(c.buf)
		if cap(c.buf) < at+k {
			grown := make([]byte, at, max(at+k, min(2*cap(c.buf), n)))
			copy(grown, c.buf)
			c.buf = grown
		}
		c.buf = c.buf[:at+k]
		if _, err := io.ReadFull(c.conn, c.buf[at:]); err != nil {
			return err
		}
	}
	return nil
}

// readError decodes remote_error: code, domain, optional message, and more that
// is of no use here.
func readError(r *xdrReader) error {
	e := &remoteError{code: r.u32()}
	r.u32()
	if r.u32() != 0 {
		e.text = string(r.text())
	}
	if r.err != nil {
		return fmt.Errorf("error reply: %w", r.err)
	}
	if len(e.text) > 300 {
		e.text = e.text[:300] + "..."
	}
	return e
}
