package libvirt

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	lv "github.com/digitalocean/go-libvirt"
	"go.uber.org/goleak"

	"github.com/foreshift/foreshift/actuator/migration"
	"github.com/foreshift/foreshift/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	for _, x := range []struct{ uri, network, address, driver string }{
		{"qemu+tcp://10.0.0.1/system", "tcp", "10.0.0.1:16509", "qemu:///system"},
		{"qemu+tcp://127.1.2.3:1234/system", "tcp", "127.1.2.3:1234", "qemu:///system"},
		{"qemu+unix:///system?socket=/tmp/x.sock", "unix", "/tmp/x.sock", "qemu:///system"},
		{"qemu:///session?socket=/y", "unix", "/y", "qemu:///session"},
	} {
		got, err := parse(x.uri)
		if err != nil || got != (target{x.network, x.address, x.driver}) {
			t.Errorf("%s: %+v %v", x.uri, got, err)
		}
	}
	for _, bad := range []string{"", "xen:///system", "qemu+ssh://h/system", "qemu+tcp:///system", "qemu+tcp://h/", "qemu://h/system", "qemu+tcp://h:x/system"} {
		if got, err := parse(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

func TestClassify(t *testing.T) {
	for _, x := range []struct {
		err   error
		class Class
		how   migration.How
	}{
		{lv.Error{Code: uint32(lv.ErrNoDomain), Message: "x"}, NotFound, migration.Refused},
		{lv.Error{Code: uint32(lv.ErrNoStoragePool), Message: "x"}, NotFound, migration.Refused},
		{lv.Error{Code: uint32(lv.ErrOperationAborted)}, Aborted, migration.Refused},
		{lv.Error{Code: 1}, Refused, migration.Refused},
		{lv.ErrUnsupported, Refused, migration.Refused},
		{lv.ErrInterrupted, Lost, migration.Unknown},
		{syscall.EINVAL, Lost, migration.Unknown},
		{io.EOF, Lost, migration.Unknown},
		{context.DeadlineExceeded, TimedOut, migration.Unknown},
	} {
		err := classify("op", x.err)
		var e *Error
		if !errors.As(err, &e) || e.Class != x.class || migration.HowOf(err) != x.how || e.Reason().Detail == "" || !errors.Is(err, x.err) {
			t.Errorf("%v: %v", x.err, err)
		}
	}
	if classify("op", nil) != nil {
		t.Error("no error became one")
	}
}

// TestSilence: a daemon that takes the connection and never answers costs a
// deadline, not a hang, and leaves nothing behind.
func TestSilence(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err = Open(ctx, "qemu+tcp://"+l.Addr().String()+"/system")
	var e *Error
	if !errors.As(err, &e) || e.Class != TimedOut || migration.HowOf(err) != migration.Unknown {
		t.Fatalf("%v", err)
	}
	c := <-accepted
	defer c.Close()
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
}

// TestGarbage: a daemon that talks nonsense loses the connection; nothing panics.
func TestGarbage(t *testing.T) {
	for _, answer := range [][]byte{{0, 0, 0, 1, 0}, {0xff, 0xff, 0xff, 0xff}, []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), make([]byte, 64)} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = c.Write(answer)
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		if _, err := Open(ctx, "qemu+tcp://"+l.Addr().String()+"/system"); migration.HowOf(err) != migration.Unknown {
			t.Errorf("%q: %v", answer, err)
		}
		cancel()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestJobStats(t *testing.T) {
	ull := func(k string, v uint64) lv.TypedParam {
		return lv.TypedParam{Field: k, Value: *lv.NewTypedParamValueUllong(v)}
	}
	j := jobStats(int32(lv.DomainJobUnbounded), []lv.TypedParam{ull(lv.DomainJobMemoryTotal, 1<<30), ull(lv.DomainJobMemoryProcessed, 100), ull(lv.DomainJobMemoryRemaining, 50),
		ull(lv.DomainJobMemoryDirtyRate, 1000), ull(lv.DomainJobMemoryPageSize, 4096), ull(lv.DomainJobMemoryIteration, 3), ull(lv.DomainJobTimeElapsed, 1500),
		ull(lv.DomainJobDowntime, 40), ull(lv.DomainJobMemoryBps, 7), text("errmsg", "x")})
	want := migration.JobStats{Active: true, Round: 3, Total: 1 << 30, Processed: 100, Remaining: 50, Speed: 7, DirtyRate: 4096000, Downtime: 40, Elapsed: 1500 * time.Millisecond}
	if j != want {
		t.Errorf("%+v", j)
	}
	if j := jobStats(int32(lv.DomainJobCompleted), nil); j.Active {
		t.Error("a completed job is active")
	}
	if j := jobStats(int32(lv.DomainJobUnbounded), []lv.TypedParam{ull(lv.DomainJobDiskTotal, 10), ull(lv.DomainJobDiskProcessed, 4)}); !j.Disk || j.Processed != 4 {
		t.Errorf("disk phase: %+v", j)
	}
}

func TestFlags(t *testing.T) {
	const never = lv.MigratePeer2peer | lv.MigrateTunnelled | lv.MigrateUnsafe | lv.MigratePostcopy
	if f := phaseFlags(nil); f&never != 0 || f&lv.MigratePaused == 0 || f != flags {
		t.Errorf("flags %b", f)
	}
	AllowLabSharedDirectory()
	defer labShared.Store(false)
	if f := phaseFlags(nil); f != flags|lv.MigrateUnsafe {
		t.Errorf("laboratory: flags %b", f)
	}
}

func TestIdentity(t *testing.T) {
	vm := schemas.VMID{1, 2}
	name, got, err := identity("<domain type='kvm'><name>web 1</name><uuid>" + vm.String() + "</uuid></domain>")
	if err != nil || name != "web 1" || got != vm {
		t.Error(name, got, err)
	}
	for _, bad := range []string{"", "<domain/>", "<domain><uuid>x</uuid></domain>", "<domain><uuid>" + vm.String() + "</uuid></domain>", "<a", "\x00"} {
		if _, _, err := identity(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzScan(f *testing.F) {
	f.Add([]byte{0, 0, 0, 28}, 3)
	f.Add([]byte{0, 0, 0, 1}, 1)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		whole := &framed{gone: make(chan struct{})}
		ok := whole.scan(b)
		parts := &framed{gone: make(chan struct{})}
		if cut = min(max(cut, 0), len(b)); ok != (parts.scan(b[:cut]) && parts.scan(b[cut:])) {
			t.Fatalf("judged differently when cut at %d", cut)
		}
	})
}
