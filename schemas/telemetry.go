package schemas

import "time"

// Metrics is one flush of one agent for one host: subject metrics.<host>, Arrow
// IPC. Row i is the VM VM[i] over the interval of IntervalS[i] seconds that ended
// at Time[i]; the zero VMID is the host itself. Rates are made once, by the agent.
type Metrics struct {
	Host  HostID
	Site  SiteID
	Agent string // instance that measured: changes when the agent restarts
	Seq   uint64 // counts the flushes of this agent for this host from 1

	Time      []Time
	VM        []VMID
	IntervalS []float32
	Flags     []Flags
	AllocCPU  []float32 // mCPU of reference speed; NaN = unknown
	AllocMem  []float32 // bytes; NaN = unknown
	// Cols[c][i]; NaN = missing. ColCPUMax and ColMemMax are always nil here. A
	// nil column is missing for every row.
	Cols [NumColumns][]float32
}

// Kind implements [Message].
func (*Metrics) Kind() Kind { return KindMetrics }

// Steps are the closed base steps of one partition at one step: subject
// steps.<partition>, Arrow IPC. They are the durable history: windows are
// restored from them, backtests read them. Readers key (vm, step) and let the
// highest (revision, lease) win.
type Steps struct {
	Partition int
	Step      Step
	Revision  int           // 0 at first, then 1.. for samples that came late
	Lease     uint64        // lease revision of the owner that closed the step
	Base      time.Duration // length of the base step
	// Metrics is the sequence of METRICS up to which the owner had read when it closed
	// the step: samples of the step up to there are in it, later ones are not. 0 = not
	// told (before version 1.1, and imported history).
	Metrics uint64

	VM       []VMID
	Host     []HostID
	Coverage []float32 // share of the step that samples covered, 0..1
	Flags    []Flags
	AllocCPU []float32 // mCPU; NaN = unknown
	AllocMem []float32 // bytes; NaN = unknown
	Cols     [NumColumns][]float32
}

// Kind implements [Message].
func (*Steps) Kind() Kind { return KindSteps }

// Forecasts are the predictive distributions and joint scenarios of up to
// [MaxForecastVMs] VMs of one partition: subject forecasts.<partition>, Arrow IPC
// with float16 payload scaled per VM and resource.
type Forecasts struct {
	Partition int
	Chunk     int // 0-based; Chunks in all for this partition and issue
	Chunks    int
	Issued    Step // the last closed step the forecast has seen
	Grid      Grid // normally starts at Issued+1
	Base      time.Duration
	Lease     uint64
	Model     string // which models made it, for people

	K       int       // scenarios, at most NumScenarios
	Origins []Step    // K origins; the persistence scenario has origin Issued
	Weight  []float32 // K x Slots, sums to 1 over k per slot

	VM       []VMID
	Host     []HostID // where the VM ran in the last closed step
	AllocCPU []float32
	AllocMem []float32
	Q        [NumResources][]float32 // n x Slots x NumLevels: mCPU, bytes, bytes/s, bytes/s
	D        []float32               // n x K x Slots x ScenarioResources
}

// MaxForecastVMs bounds the rows of one [Forecasts] message.
const MaxForecastVMs = 64

// Kind implements [Message].
func (*Forecasts) Kind() Kind { return KindForecasts }

// Dist is row i's distribution of resource r, aliasing the message.
func (f *Forecasts) Dist(i int, r Resource) Dist {
	n := Slots * NumLevels
	return Dist{Q: f.Q[r][i*n : (i+1)*n]}
}

// Scenarios are row i's joint paths, aliasing the message.
func (f *Forecasts) Scenarios(i int) Scenarios {
	n := f.K * Slots * ScenarioResources
	return Scenarios{Weight: f.Weight, D: f.D[i*n : (i+1)*n]}
}
