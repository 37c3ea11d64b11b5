package sim

import (
	"encoding/xml"
	"path"

	"github.com/foreshift/foreshift/internal/sim/rpc"
)

// The simulator starts no guests but one kind: a tiny one that holds a lease until its
// connection ends or it is destroyed, by which a disk lock is tried.

const (
	startAutodestroy = 2
	probeID          = 1 << 20
)

// create is DomainCreateXML.
func create(r *request) error {
	doc, flags := r.in.Str(), r.in.U32()
	if err := r.args(); err != nil {
		return err
	}
	var x struct {
		Name  string `xml:"name"`
		Lease struct {
			Space  string `xml:"lockspace"`
			Key    string `xml:"key"`
			Target struct {
				Path string `xml:"path,attr"`
			} `xml:"target"`
		} `xml:"devices>lease"`
	}
	if err := xml.Unmarshal([]byte(doc), &x); err != nil {
		return rpc.Errorf(rpc.CodeXML, "XML error: %v", err)
	}
	lease := path.Join(x.Lease.Target.Path, x.Lease.Space, x.Lease.Key)
	if x.Lease.Key == "" || flags != startAutodestroy {
		return rpc.Errorf(rpc.CodeNoSupport, "this function is not supported by the connection driver: virDomainCreateXML but for a lease")
	}
	if _, taken := r.d.f.leases[lease]; taken && r.d.f.cfg.DiskLock {
		return rpc.Errorf(rpc.CodeResourceBusy, "resource busy: Lockspace resource '%.80s' is locked", lease)
	}
	r.d.f.leases[lease] = r.c
	r.out.Domain(rpc.Domain{Name: lease, ID: probeID})
	return nil
}

// release gives up leases.
func (f *Fleet) release(which func(path string, by *rpc.Conn) bool) (n int) {
	for path, by := range f.leases {
		if which(path, by) {
			delete(f.leases, path)
			n++
		}
	}
	return n
}
