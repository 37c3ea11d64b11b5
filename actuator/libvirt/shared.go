package libvirt

import (
	"path/filepath"
	"slices"
	"syscall"
)

// sharedFS are the numbers by which Linux tells file systems that several hosts
// mount at once (statfs(2); the list is libvirt's, virFileIsSharedFS).
var sharedFS = []int64{
	0x6969,     // NFS
	0x01161970, // GFS2
	0x7461636f, // OCFS2
	0x5346414f, // AFS
	0x517B,     // SMB
	0xFE534D42, // SMB2
	0xFF534D42, // CIFS
	0x00c36400, // Ceph
	0x47504653, // GPFS
	0x19830326, // BeeGFS
	0x786f4256, // Virtuozzo
	0xaad7aaea, // PanFS
}

// PathShared reports whether a path lies on a file system that other hosts mount
// too; nil when that cannot be seen. A network mounted through FUSE counts as
// local, as nothing tells it apart.
func PathShared(path string) *bool {
	var st syscall.Statfs_t
	for p := path; ; p = filepath.Dir(p) {
		err := syscall.Statfs(p, &st)
		if err == nil {
			break
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
	yes := slices.Contains(sharedFS, int64(st.Type))
	return &yes
}
