package domain

import (
	"encoding/xml"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// feature is one CPU feature, of a guest with the policy by which it is wanted.
type feature struct {
	Policy string `xml:"policy,attr"`
	Name   string `xml:"name,attr"`
}

// features are the words of a list of features, in order.
func features(list []feature) []string {
	words := make([]string, 0, len(list)+2)
	for _, f := range list {
		words = append(words, f.Policy+" "+f.Name)
	}
	slices.Sort(words)
	return words
}

// digest is 16 hex digits of some words.
func digest(words []string) string {
	h := fnv.New64a()
	h.Write([]byte(strings.Join(words, "\n")))
	return fmt.Sprintf("%016x", h.Sum64())
}

// parseCapabilities reads the host's CPU model, and a digest of what the CPU can do:
// not of its clock, which a daemon measures anew whenever it starts.
func parseCapabilities(b []byte) (model, can string, err error) {
	var d struct {
		CPU struct {
			Arch      string `xml:"arch"`
			Model     string `xml:"model"`
			Vendor    string `xml:"vendor"`
			Microcode struct {
				Version string `xml:"version,attr"`
			} `xml:"microcode"`
			Feature []feature `xml:"feature"`
		} `xml:"host>cpu"`
	}
	if err := xml.Unmarshal(b, &d); err != nil {
		return "", "", fmt.Errorf("capabilities: %w", err)
	}
	if d.CPU.Model == "" {
		return "", "", nil
	}
	return clean([]byte(d.CPU.Model), maxName), digest(append(features(d.CPU.Feature), d.CPU.Arch, d.CPU.Model, d.CPU.Vendor, d.CPU.Microcode.Version)), nil
}
