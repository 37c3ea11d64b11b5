package domain

import (
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/foreshift/foreshift/schemas"
)

// fakeDaemon is a libvirt daemon of one host, as small as the input needs it; what
// it serves can be changed while it runs.
type fakeDaemon struct {
	ln net.Listener
	wg sync.WaitGroup

	mu      sync.Mutex
	guests  []*fakeGuest
	calls   map[uint32]int
	refuse  map[uint32]uint32 // procedure -> libvirt error code
	silent  map[uint32]bool   // never answered
	garbage []byte            // sent instead of any statistics
	conns   []net.Conn
	opened  []uint32 // flags of ConnectOpen
}

type fakeGuest struct {
	name       string
	vm         schemas.VMID
	id         int32
	stats      []string // "state.state=1", "block.0.name=vda"; numbers are unsigned
	xml        string
	job        int32
	operation  int32
	persistent int32
}

func startDaemon(t testing.TB, guests ...*fakeGuest) *fakeDaemon {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &fakeDaemon{ln: ln, guests: guests, calls: map[uint32]int{}, refuse: map[uint32]uint32{}, silent: map[uint32]bool{}}
	d.wg.Add(1)
	go d.accept()
	t.Cleanup(d.stop)
	return d
}

func (d *fakeDaemon) uri() string { return "qemu+tcp://" + d.ln.Addr().String() + "/system" }

func (d *fakeDaemon) stop() {
	d.ln.Close()
	d.hangUp()
	d.wg.Wait()
}

// hangUp closes all connections, as a daemon that restarts does.
func (d *fakeDaemon) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		c.Close()
	}
	d.conns = nil
}

func (d *fakeDaemon) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *fakeDaemon) count(proc uint32) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls[proc]
}

func (d *fakeDaemon) accept() {
	defer d.wg.Done()
	for {
		c, err := d.ln.Accept()
		if err != nil {
			return
		}
		d.set(func() { d.conns = append(d.conns, c) })
		d.wg.Add(1)
		go d.serve(c)
	}
}

func (d *fakeDaemon) serve(c net.Conn) {
	defer d.wg.Done()
	defer c.Close()
	for {
		var h [headerBytes]byte
		if _, err := io.ReadFull(c, h[:]); err != nil {
			return
		}
		args := make([]byte, binary.BigEndian.Uint32(h[:])-headerBytes)
		if _, err := io.ReadFull(c, args); err != nil {
			return
		}
		proc := binary.BigEndian.Uint32(h[12:])
		reply, status := d.answer(proc, args)
		if reply == nil {
			continue
		}
		binary.BigEndian.PutUint32(h[16:], typeReply)
		binary.BigEndian.PutUint32(h[24:], status)
		binary.BigEndian.PutUint32(h[:], uint32(headerBytes+len(reply)))
		if _, err := c.Write(append(h[:], reply...)); err != nil {
			return
		}
	}
}

func (d *fakeDaemon) answer(proc uint32, args []byte) ([]byte, uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[proc]++
	w := &xdrWriter{b: []byte{}}
	if d.silent[proc] {
		return nil, 0
	}
	if code, ok := d.refuse[proc]; ok {
		w.u32(code)
		w.u32(0)
		w.u32(1)
		w.text("refused for the test")
		return w.b, 1
	}
	r := &xdrReader{b: args}
	switch proc {
	case procAuthList:
		w.u32(1)
		w.u32(0)
	case procConnectOpen:
		r.u32()
		r.text()
		d.opened = append(d.opened, r.u32())
	case procConnectGetVersion, procGetLibVersion:
		w.u64(9000000)
	case procNodeGetInfo:
		w.b = append(w.b, make([]byte, 128)...)
		w.u64(8 << 20) // KiB
		for _, v := range []uint32{4, 2000, 1, 1, 4, 1} {
			w.u32(v)
		}
	case procGetCapabilities:
		w.text("<capabilities><host><cpu><arch>x86_64</arch><model>EPYC</model></cpu></host></capabilities>")
	case procGetDomainCaps:
		w.text(`<domainCapabilities><cpu><mode name='host-passthrough' supported='yes'/><mode name='custom' supported='yes'>
			<model usable='yes' vendor='AMD'>EPYC</model><model usable='no' vendor='AMD'>EPYC-Rome</model><model usable='unknown'>qemu64</model></mode></cpu></domainCapabilities>`)
	case procNodeGetCPUStats:
		w.fields("kernel=1000", "user=2000", "idle=6000", "iowait=1000")
	case procNodeGetMemoryStats:
		w.fields("total=8388608", "free=1048576", "buffers=0", "cached=1048576")
	case procListAllPools:
		w.u32(1)
		w.text("images")
		w.opaque(make([]byte, 16))
		w.u32(1)
	case procStoragePoolInfo:
		w.u32(2)
		w.u64(1000)
		w.u64(400)
		w.u64(600)
	case procStoragePoolXML:
		w.text("<pool type='netfs'><target><path>/srv/images</path></target></pool>")
	case procGetAllDomainStats:
		if d.garbage != nil {
			return d.garbage, 0
		}
		w.u32(uint32(len(d.guests)))
		for _, g := range d.guests {
			g.write(w)
		}
	case procDomainGetXMLDesc, procDomainIsPersistent, procDomainGetJobStats, procStartDirtyRateCalc:
		d.answerGuest(w, proc, string(r.text()))
	}
	return w.b, 0
}

func (d *fakeDaemon) answerGuest(w *xdrWriter, proc uint32, name string) {
	for _, g := range d.guests {
		if g.name != name {
			continue
		}
		switch proc {
		case procDomainGetXMLDesc:
			w.text(g.xml)
		case procDomainIsPersistent:
			w.i32(g.persistent)
		case procDomainGetJobStats:
			w.i32(g.job)
			w.u32(1)
			w.text("operation")
			w.u32(1)
			w.i32(g.operation)
		}
	}
}

func (g *fakeGuest) write(w *xdrWriter) {
	w.text(g.name)
	w.opaque(g.vm[:])
	w.i32(g.id)
	w.u32(uint32(len(g.stats)))
	for _, s := range g.stats {
		name, value, _ := strings.Cut(strings.TrimSpace(s), "=")
		w.text(name)
		if v, err := strconv.ParseUint(value, 10, 64); err == nil {
			w.u32(4)
			w.u64(v)
		} else {
			w.u32(7)
			w.text(value)
		}
	}
}

func (w *xdrWriter) u64(v uint64) { w.b = binary.BigEndian.AppendUint64(w.b, v) }

func (w *xdrWriter) fields(fs ...string) {
	w.u32(uint32(len(fs)))
	for _, f := range fs {
		name, value, _ := strings.Cut(f, "=")
		v, _ := strconv.ParseUint(value, 10, 64)
		w.text(name)
		w.u64(v)
	}
	w.u32(uint32(len(fs)))
}

const fakeXML = `<domain type='kvm'><name>%s</name>
<metadata><f:labels xmlns:f="urn:foreshift:labels"><f:label key="app" value="shop"/></f:labels></metadata>
<vcpu>2</vcpu><devices><disk type='file' device='disk'><driver cache='none'/><source file='/srv/images/a.raw'/><target dev='vda'/></disk></devices></domain>`

// guest makes a running guest with the statistics that a real one has.
func guest(n int, more ...string) *fakeGuest {
	var vm schemas.VMID
	vm[0], vm[14], vm[15] = 0x3f, byte(n>>8), byte(n)
	name := "vm-" + strconv.Itoa(n)
	return &fakeGuest{
		name: name, vm: vm, id: int32(n), xml: strings.Replace(fakeXML, "%s", name, 1), persistent: 1,
		stats: append([]string{
			"state.state=1", "state.reason=1", "cpu.time=5000000000", "cpu.user=1", "cpu.system=1",
			"balloon.current=1048576", "balloon.maximum=1048576", "balloon.available=1000000", "balloon.usable=600000", "balloon.unused=400000",
			"balloon.rss=900000", "balloon.swap_in=100", "balloon.swap_out=300",
			"vcpu.current=2", "vcpu.maximum=2", "vcpu.0.state=1", "vcpu.0.time=1", "vcpu.0.delay=100", "vcpu.1.state=1", "vcpu.1.time=1", "vcpu.1.delay=50",
			"net.count=2", "net.0.name=vnet0", "net.0.rx.bytes=1000", "net.0.tx.bytes=10", "net.1.name=vnet1", "net.1.rx.bytes=2000", "net.1.tx.bytes=20",
			"block.count=1", "block.0.name=vda", "block.0.path=/srv/images/a.raw", "block.0.rd.bytes=4096", "block.0.wr.bytes=8192", "block.0.capacity=1073741824",
		}, more...),
	}
}
