package rpc

import "strconv"

// Proc is a procedure number of libvirt's remote program.
type Proc uint32

// The procedures that the simulator serves or sends, as in remote_protocol.x.
const (
	ConnectOpen                  Proc = 1
	ConnectClose                 Proc = 2
	ConnectGetType               Proc = 3
	ConnectGetVersion            Proc = 4
	ConnectGetMaxVcpus           Proc = 5
	NodeGetInfo                  Proc = 6
	ConnectGetCapabilities       Proc = 7
	DomainCreateXML              Proc = 10
	DomainDestroy                Proc = 12
	DomainGetXMLDesc             Proc = 14
	DomainGetAutostart           Proc = 15
	DomainGetInfo                Proc = 16
	DomainGetMaxMemory           Proc = 17
	DomainGetMaxVcpus            Proc = 18
	DomainGetOSType              Proc = 19
	ConnectListDefinedDomains    Proc = 21
	DomainLookupByID             Proc = 22
	DomainLookupByName           Proc = 23
	DomainLookupByUUID           Proc = 24
	ConnectNumOfDefinedDomains   Proc = 25
	DomainResume                 Proc = 28
	DomainSuspend                Proc = 34
	DomainUndefine               Proc = 35
	ConnectListDomains           Proc = 37
	ConnectNumOfDomains          Proc = 51
	ConnectGetHostname           Proc = 59
	ConnectSupportsFeature       Proc = 60
	AuthList                     Proc = 66
	ConnectNumOfStoragePools     Proc = 71
	ConnectListStoragePools      Proc = 72
	StoragePoolRefresh           Proc = 83
	StoragePoolLookupByName      Proc = 84
	StoragePoolLookupByUUID      Proc = 85
	StoragePoolGetInfo           Proc = 87
	StoragePoolGetXMLDesc        Proc = 88
	StoragePoolGetAutostart      Proc = 89
	StoragePoolNumOfVolumes      Proc = 91
	StorageVolCreateXML          Proc = 93
	StorageVolDelete             Proc = 94
	StorageVolLookupByPath       Proc = 97
	NodeGetFreeMemory            Proc = 102
	ConnectGetURI                Proc = 110
	DomainGetSecurityLabel       Proc = 121
	NodeGetSecurityModel         Proc = 122
	ConnectIsSecure              Proc = 149
	DomainIsActive               Proc = 150
	DomainIsPersistent           Proc = 151
	StoragePoolIsActive          Proc = 154
	StoragePoolIsPersistent      Proc = 155
	ConnectGetLibVersion         Proc = 157
	ConnectCompareCPU            Proc = 158
	DomainMemoryStats            Proc = 159
	DomainGetJobInfo             Proc = 163
	DomainAbortJob               Proc = 164
	DomainMigrateSetMaxDowntime  Proc = 166
	DomainHasManagedSaveImage    Proc = 183
	DomainIsUpdated              Proc = 202
	DomainGetBlockInfo           Proc = 194
	DomainMigrateSetMaxSpeed     Proc = 207
	DomainGetState               Proc = 212
	NodeGetCPUStats              Proc = 227
	NodeGetMemoryStats           Proc = 228
	DomainUndefineFlags          Proc = 231
	DomainDestroyFlags           Proc = 234
	DomainMigrateGetMaxSpeed     Proc = 242
	DomainGetMetadata            Proc = 265
	ConnectListAllDomains        Proc = 273
	ConnectListAllStoragePools   Proc = 281
	DomainGetJobStats            Proc = 298
	DomainMigrateBegin3Params    Proc = 302
	DomainMigratePrepare3Params  Proc = 303
	DomainMigratePerform3Params  Proc = 305
	DomainMigrateFinish3Params   Proc = 306
	DomainMigrateConfirm3Params  Proc = 307
	ConnectEventRegisterAny      Proc = 316
	ConnectEventDeregisterAny    Proc = 317
	EventLifecycle               Proc = 318
	ConnectGetDomainCapabilities Proc = 342
	ConnectGetAllDomainStats     Proc = 344
	EventMigrationIteration      Proc = 359
	ConnectRegisterClose         Proc = 360
	ConnectUnregisterClose       Proc = 361
	EventConnectionClosed        Proc = 362
	EventJobCompleted            Proc = 363
	DomainMigrateStartPostCopy   Proc = 364
	DomainMigrateGetMaxDowntime  Proc = 387
	ConnectCompareHypervisorCPU  Proc = 393
	DomainStartDirtyRateCalc     Proc = 427
)

var procNames = map[Proc]string{
	DomainMigrateBegin3Params: "Begin3Params", DomainMigratePrepare3Params: "Prepare3Params",
	DomainMigratePerform3Params: "Perform3Params", DomainMigrateFinish3Params: "Finish3Params",
	DomainMigrateConfirm3Params: "Confirm3Params", DomainResume: "Resume", DomainSuspend: "Suspend",
	DomainDestroy: "Destroy", DomainGetState: "GetState", ConnectGetAllDomainStats: "GetAllDomainStats",
	ConnectOpen: "Open", DomainAbortJob: "AbortJob", DomainGetJobStats: "GetJobStats",
	ConnectListAllDomains: "ListAllDomains", DomainUndefineFlags: "UndefineFlags",
}

// String is the procedure's name where it has one worth reading.
func (p Proc) String() string {
	if s, ok := procNames[p]; ok {
		return s
	}
	return "procedure " + strconv.Itoa(int(p))
}
