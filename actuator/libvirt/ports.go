package libvirt

import (
	"bytes"
	"encoding/xml"
	"net/url"
	"strconv"
)

// Ports are the TCP ports of the destination that one move alone sends to: that of its
// memory, from Prepare3's URI, and that of its disks, from Prepare3's cookie, where libvirt
// has chosen them. What is not told is left out: a gateway then knows the move by its
// hosts.
func Ports(uri string, cookie []byte) (ports []int) {
	add := func(text string) {
		if p, err := strconv.Atoi(text); err == nil && p > 0 && p < 1<<16 {
			ports = append(ports, p)
		}
	}
	if u, err := url.Parse(uri); err == nil {
		add(u.Port())
	}
	var c struct {
		XMLName xml.Name `xml:"qemu-migration"`
		NBD     struct {
			Port string `xml:"port,attr"`
		} `xml:"nbd"`
	}
	if err := xml.Unmarshal(bytes.TrimRight(cookie, "\x00"), &c); err == nil {
		add(c.NBD.Port)
	}
	return ports
}
