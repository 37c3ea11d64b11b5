package rpc

import "fmt"

// Code is libvirt's virErrorNumber.
type Code int32

// The codes that the simulator gives, as in libvirt/virterror.h.
const (
	CodeInternal         Code = 1
	CodeNoSupport        Code = 3
	CodeInvalidArg       Code = 8
	CodeOperationFailed  Code = 9
	CodeXML              Code = 27
	CodeDomExist         Code = 28
	CodeSystem           Code = 38
	CodeRPC              Code = 39
	CodeNoDomain         Code = 42
	CodeNoStoragePool    Code = 49
	CodeNoStorageVol     Code = 50
	CodeStorageVolExist  Code = 90
	CodeCPUIncompatible  Code = 91
	CodeOperationInvalid Code = 55
	CodeResourceBusy     Code = 87
	CodeMigrateUnsafe    Code = 81
	CodeOperationTimeout Code = 68
	CodeAborted          Code = 78
	CodeNoMetadata       Code = 80
)

// Domains of an error, as in libvirt/virterror.h.
const (
	fromRPC    = 7
	fromQEMU   = 10
	fromRemote = 13
)

// Error is an error as libvirt sends it.
type Error struct {
	Code    Code
	From    int32 // domain of the error; 0 means the QEMU driver
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("libvirt error %d: %s", e.Code, e.Message) }

// Errorf makes an [Error] of the QEMU driver.
func Errorf(c Code, format string, a ...any) *Error {
	return &Error{Code: c, From: fromQEMU, Message: fmt.Sprintf(format, a...)}
}

// encodeError appends libvirt's remote_error.
func encodeError(e *Encoder, err *Error) {
	from := err.From
	if from == 0 {
		from = fromQEMU
	}
	e.I32(int32(err.Code))
	e.I32(from)
	e.Opt(&err.Message)
	e.I32(2)   // VIR_ERR_ERROR
	e.U32(0)   // no domain
	e.Opt(nil) // str1..str3
	e.Opt(nil)
	e.Opt(nil)
	e.I32(-1)
	e.I32(-1)
	e.U32(0) // no network
}
