package schemas

// ArrowDoc documents the metadata keys and the columns of an Arrow kind.
type ArrowDoc struct {
	Metadata map[string]string
	Columns  map[string]ColumnDoc
}

// ColumnDoc documents one column of an Arrow message. A column that is not
// required may be absent: missing for every row.
type ColumnDoc struct {
	Unit, Doc string
	Required  bool
}

const schemaDoc = "kind/major.minor, as in the header"

// ArrowDocs documents an Arrow kind; it is empty for the others.
func ArrowDocs(k Kind) ArrowDoc {
	d := ArrowDoc{Columns: map[string]ColumnDoc{
		colVM:       {"", "the VM: UUID of its libvirt domain", true},
		colAllocCPU: {"mCPU", "CPU the VM may use, in mCPU of reference speed", false},
		colAllocMem: {"bytes", "memory the VM may use", false},
	}}
	switch k {
	case KindMetrics:
		d.Metadata = map[string]string{
			"schema": schemaDoc,
			"host":   "the host the samples are of",
			"site":   "its site",
			"agent":  "instance that measured; another one after each restart",
			"seq":    "count of this agent's flushes for this host, from 1",
		}
		d.Columns[colVM] = ColumnDoc{"", "the VM: UUID of its libvirt domain; all zero for the host itself", true}
		d.Columns[colTime] = ColumnDoc{"ns since 1970", "end of the interval, by the agent's clock", true}
		d.Columns[colInterval] = ColumnDoc{"seconds", "length of the interval the rates are over", true}
	case KindSteps:
		d.Metadata = map[string]string{
			"schema":      schemaDoc,
			"partition":   "xxhash64 of the VM's UUID text modulo 64",
			"step":        "index of the base step: Unix time divided by its length",
			"revision":    "0 at first, counts up for samples that came late",
			"lease":       "revision of the lease of the owner that closed the step",
			"metrics_seq": "sequence of METRICS up to which the owner had read when it closed the step; absent: not told",
			"base_ns":     "length of the base step in nanoseconds",
		}
		d.Columns[colCoverage] = ColumnDoc{"ratio", "share of the step that samples covered, 0..1", true}
	case KindForecasts:
		d.Metadata = map[string]string{
			"schema":          schemaDoc,
			"partition":       "xxhash64 of the VM's UUID text modulo 64",
			"chunk":           "index of this message among those of one issue, from 0",
			"chunks":          "count of messages of this issue",
			"issued_step":     "last closed base step the forecast has seen",
			"grid_start_step": "base step at which slot 0 begins",
			"base_ns":         "length of the base step in nanoseconds",
			"lease":           "revision of the lease of the owner that made it",
			"model":           "which models made it, for people",
			"scenarios":       "K, the count of scenarios",
			"origin_steps":    "K base steps: the past origin each scenario follows",
			"weights":         "K x 44 shares, scenario by scenario; they sum to 1 over the scenarios of each slot",
		}
		for r, u := range resourceUnits {
			d.Columns[quantileColumns[r]] = ColumnDoc{u, "44 slots x 13 levels (.01 .05 .1 .2 .3 .4 .5 .6 .7 .8 .9 .95 .99) of the demand at a random base step in the slot, divided by the row's scale", true}
			d.Columns[quantileColumns[r]+scaleSuffix] = ColumnDoc{u, "power of two that the row's quantiles are multiplied by", true}
		}
		for r := 0; r < ScenarioResources; r++ {
			d.Columns[scenarioColumns[r]] = ColumnDoc{resourceUnits[r], "K scenarios x 44 slots of joint demand, divided by the row's scale; absent when K is 0", false}
			d.Columns[scenarioColumns[r]+scaleSuffix] = ColumnDoc{resourceUnits[r], "power of two that the row's scenarios are multiplied by", false}
		}
	default:
		return ArrowDoc{}
	}
	if k != KindMetrics {
		d.Columns[colHost] = ColumnDoc{"", "host the VM ran on; empty when unknown", true}
	}
	if k != KindForecasts {
		d.Columns[colFlags] = ColumnDoc{"", "bits: 1 migrating, 2 counter reset, 4 not running, 8 imported", true}
		for _, c := range Columns {
			d.Columns[c.Name] = ColumnDoc{c.Unit, c.Doc, false}
		}
	}
	return d
}

var resourceUnits = [NumResources]string{"mCPU", "bytes", "bytes/s", "bytes/s"}
