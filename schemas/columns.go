package schemas

// Column indexes the measured quantities of a VM.
type Column uint8

// The columns of metrics and steps. Demand is not usage: ColCPU is run time plus
// the time the vCPUs waited for a core, normalised by the host's speed; ColMem is
// what the guest reports as used (resident set where it has no balloon driver)
// plus what is swapped.
const (
	ColCPU       Column = iota // mCPU of reference speed
	ColMem                     // bytes
	ColNetRx                   // bytes/s
	ColNetTx                   // bytes/s
	ColDiskRd                  // bytes/s
	ColDiskWr                  // bytes/s
	ColSteal                   // mCPU waited for (vcpu.delay)
	ColDirtyRate               // bytes/s of memory dirtied
	ColCPUMax                  // mCPU, highest sample of the step; absent in metrics
	ColMemMax                  // bytes, highest sample of the step; absent in metrics
	ColAppMs                   // ms, response time of the VM's application
	ColPSI                     // ratio of time stalled (Linux PSI, "some")
	ColSwap                    // bytes
	NumColumns   = 13
)

// ColumnInfo documents one column.
type ColumnInfo struct{ Name, Unit, Doc string }

// Columns documents the columns in their order; the name carries the unit.
var Columns = [NumColumns]ColumnInfo{
	{"cpu_mcpu", "mCPU", "CPU demand: run time plus vcpu.delay, normalised by host speed"},
	{"mem_bytes", "bytes", "memory demand: used plus swapped"},
	{"net_rx_bytes_per_second", "bytes/s", "received"},
	{"net_tx_bytes_per_second", "bytes/s", "sent"},
	{"disk_rd_bytes_per_second", "bytes/s", "read"},
	{"disk_wr_bytes_per_second", "bytes/s", "written"},
	{"steal_mcpu", "mCPU", "time runnable without a core"},
	{"dirty_rate_bytes_per_second", "bytes/s", "memory dirtied"},
	{"cpu_max_mcpu", "mCPU", "highest sample of the step"},
	{"mem_max_bytes", "bytes", "highest sample of the step"},
	{"app_ms", "ms", "application response time"},
	{"psi_ratio", "ratio", "share of time stalled"},
	{"swap_bytes", "bytes", "swapped out"},
}

// Flags mark a row of metrics or steps.
type Flags uint8

// The flags.
const (
	FlagMigrating Flags = 1 << iota // a migration of the VM ran in the interval: left out of learning
	FlagReset                       // a counter went back; the interval's rates are missing
	FlagPaused                      // the VM was not running
	FlagImported                    // from an import, not measured by an agent
)
