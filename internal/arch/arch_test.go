package arch

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestHouseStandsAsPlanned(t *testing.T) {
	found, err := Check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

// A check that cannot fail is no check: each rule is shown to find a planted breach.
func TestPlantedViolationsAreFound(t *testing.T) {
	const m = `"github.com/foreshift/foreshift/`
	plants := []struct{ name, file, src, want string }{
		{"service imports service", "placer/service.go", "package placer\nimport _ " + m + "forecaster\"\n", "placer may not import forecaster"},
		{"schemas looks up", "schemas/x.go", "package schemas\nimport _ " + m + "streams\"\n", "schemas may not import streams"},
		{"decider reads the clock", "placer/plan/x.go", "package plan\nimport \"time\"\nvar t = time.Now()\n", "must be told the time, not call time.Now"},
		{"decider reads the clock under another name", "forecaster/model/x.go", "package model\nimport clk \"time\"\nvar t = clk.Now()\n", "must be told the time"},
		{"glue reads the clock", "placer/decider.go", "package placer\nimport \"time\"\nfunc f() { <-time.After(1) }\n", "not call time.After"},
		{"decider opens files", "placer/fleet/x.go", "package fleet\nimport _ \"os\"\n", "placer/fleet decides and must not import os"},
		{"decider rolls shared dice", "placer/search/x.go", "package search\nimport _ \"math/rand\"\n", "must not import math/rand"},
		{"decider rolls unseeded dice", "placer/search/x.go", "package search\nimport \"math/rand/v2\"\nvar x = rand.IntN(3)\n", "chance comes from a named seed, not from rand.IntN"},
		{"decider knows NATS", "actuator/migration/x.go", "package migration\nimport _ \"github.com/nats-io/nats.go\"\n", "must not know NATS"},
		{"telegraf in the control plane", "cmd/foreshift/x.go", "package main\nimport _ \"github.com/influxdata/telegraf/config\"\n", "its only doors are [agents cmd/foreshift-agent]"},
		{"libvirt elsewhere", "actuator/x.go", "package actuator\nimport _ \"github.com/digitalocean/go-libvirt\"\n", "may not import github.com/digitalocean/go-libvirt"},
		{"a room nobody planned", "utils/x.go", "package utils\n", "package utils is not in the plan"},
		{"a file too long", "schemas/long.go", "package schemas\n" + strings.Repeat("\n", MaxLines), "split it"},
	}
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			found, err := Check(fstest.MapFS{p.file: {Data: []byte(p.src)}})
			if err != nil {
				t.Fatal(err)
			}
			if len(found) != 1 || !strings.Contains(found[0].What, p.want) {
				t.Fatalf("want one violation with %q, got %v", p.want, found)
			}
		})
	}
	allowed := fstest.MapFS{
		"placer/service.go":   {Data: []byte("package placer\nimport (\"time\"; _ " + m + "streams\")\nvar t = time.Now()\n")},
		"placer/plan/plan.go": {Data: []byte("package plan\nimport (\"time\"; _ " + m + "schemas\")\nconst d = time.Minute\n")},
	}
	if found, err := Check(allowed); err != nil || len(found) != 0 {
		t.Fatalf("what is allowed was refused: %v %v", found, err)
	}
}
