package main

import (
	"bytes"
	"fmt"
	"time"

	"github.com/apache/arrow/go/v17/arrow/ipc"

	"github.com/foreshift/foreshift/schemas"
)

// arrowFile is a readable Arrow schema.
type arrowFile struct {
	ID          string          `json:"$id"`
	Title       string          `json:"title"`
	Description string          `json:"description"`
	Metadata    []arrowMetadata `json:"metadata"`
	Columns     []arrowColumn   `json:"columns"`
}

type arrowMetadata struct {
	Key         string `json:"key"`
	Description string `json:"description"`
}

type arrowColumn struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Nullable    bool   `json:"nullable"`
	Required    bool   `json:"required"`
	Unit        string `json:"unit,omitempty"`
	Description string `json:"description"`
}

// arrowSchema writes a message with every column and asks Arrow's own reader what
// is in it: the file tells what is sent, not what was meant.
func arrowSchema(s schemas.Spec) (*arrowFile, error) {
	m, err := full(s.Kind)
	if err != nil {
		return nil, err
	}
	b, err := schemas.Encode(m)
	if err != nil {
		return nil, err
	}
	r, err := ipc.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer r.Release()
	f := &arrowFile{ID: urn(s), Title: "Foreshift " + string(s.Kind),
		Description: s.Title + "; an Arrow IPC stream of one record batch; header " + schemas.HeaderSchema + ": " + s.Header()}
	docs := schemas.ArrowDocs(s.Kind)
	md := r.Schema().Metadata()
	for _, k := range md.Keys() {
		d, ok := docs.Metadata[k]
		if !ok {
			return nil, fmt.Errorf("metadata %s is not documented", k)
		}
		f.Metadata = append(f.Metadata, arrowMetadata{k, d})
	}
	for _, c := range r.Schema().Fields() {
		d, ok := docs.Columns[c.Name]
		if !ok {
			return nil, fmt.Errorf("column %s is not documented", c.Name)
		}
		f.Columns = append(f.Columns, arrowColumn{c.Name, c.Type.String(), c.Nullable, d.Required, d.Unit, d.Doc})
	}
	return f, nil
}

// full is a message of one row in which nothing is absent.
func full(k schemas.Kind) (schemas.Message, error) {
	vm := schemas.VMID{1}
	one := []float32{1}
	at := schemas.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	base := schemas.DefaultBase
	var cols [schemas.NumColumns][]float32
	for i := range cols {
		cols[i] = one
	}
	step := schemas.StepAt(at, base)
	switch k {
	case schemas.KindMetrics:
		cols[schemas.ColCPUMax], cols[schemas.ColMemMax] = nil, nil
		return &schemas.Metrics{Host: "h", Site: "s", Agent: "a", Seq: 1, Time: []schemas.Time{at}, VM: []schemas.VMID{vm},
			IntervalS: one, Flags: []schemas.Flags{0}, AllocCPU: one, AllocMem: one, Cols: cols}, nil
	case schemas.KindSteps:
		return &schemas.Steps{Partition: vm.Partition(), Step: step, Base: base, VM: []schemas.VMID{vm}, Host: []schemas.HostID{"h"},
			Coverage: one, Flags: []schemas.Flags{0}, AllocCPU: one, AllocMem: one, Cols: cols}, nil
	case schemas.KindForecasts:
		f := &schemas.Forecasts{Partition: vm.Partition(), Chunks: 1, Issued: step, Grid: schemas.Grid{Start: step + 1}, Base: base, Model: "m",
			K: schemas.NumScenarios, VM: []schemas.VMID{vm}, Host: []schemas.HostID{"h"}, AllocCPU: one, AllocMem: one}
		f.Origins = make([]schemas.Step, f.K)
		f.Weight = make([]float32, f.K*schemas.Slots)
		for i := range f.Weight[:schemas.Slots] {
			f.Weight[i] = 1
		}
		for r := range f.Q {
			f.Q[r] = schemas.NewDist().Q
		}
		f.D = make([]float32, f.K*schemas.Slots*schemas.ScenarioResources)
		return f, nil
	}
	return nil, fmt.Errorf("no sample of %s", k)
}
