package lab

import (
	"fmt"
	"io"
)

// cpioFile is one entry of an initial RAM disk.
type cpioFile struct {
	Name string
	Mode uint32 // with the file type bits of stat(2)
	Data []byte
}

const (
	modeDir  = 0o040755
	modeFile = 0o100644
	modeExec = 0o100755
)

// writeCPIO writes the "newc" archive format that the kernel unpacks as its first
// root (Documentation/driver-api/early-userspace/buffer-format): headers of 13
// hexadecimal fields of 8 digits, name and data each padded to 4 bytes.
func writeCPIO(w io.Writer, files []cpioFile) error {
	total := 0
	put := func(b []byte) error {
		n, err := w.Write(b)
		total += n
		return err
	}
	pad := func() error { return put(make([]byte, (4-total%4)%4)) }
	for i, f := range append(append([]cpioFile{}, files...), cpioFile{Name: "TRAILER!!!"}) {
		links := 1
		if f.Mode&0o170000 == 0o040000 {
			links = 2
		}
		// magic ino mode uid gid nlink mtime size devmajor devminor rdevmajor rdevminor namesize check
		h := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", i+1, f.Mode, 0, 0, links, 0, len(f.Data), 0, 0, 0, 0, len(f.Name)+1, 0)
		if err := put(append([]byte(h), append([]byte(f.Name), 0)...)); err != nil {
			return err
		}
		if err := pad(); err != nil {
			return err
		}
		if err := put(f.Data); err != nil {
			return err
		}
		if err := pad(); err != nil {
			return err
		}
	}
	return nil
}
