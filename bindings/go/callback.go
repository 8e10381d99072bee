//go:build linux && cgo

package telemetry

// The functions that C calls. Exported functions are in a file whose preamble contains only declarations, because cgo copies
// the preamble into two C files.

// #include <ondat_telemetry.h>
// #include <stdint.h>
import "C"

import (
	"runtime/cgo"
	"time"
	"unsafe"
)

func hooksOf(handle C.uintptr_t) *hooks { return cgo.Handle(handle).Value().(*hooks) }

//export ondatTelemetryGoLog
func ondatTelemetryGoLog(handle C.uintptr_t, level C.int, message *C.char) {
	hooksOf(handle).logged(int(level), C.GoString(message))
}

// ondatTelemetryGoVersion receives version information for the callback of a config, or for the call that has asked for
// it.
//
//export ondatTelemetryGoVersion
func ondatTelemetryGoVersion(handle C.uintptr_t, running, latest, advisory *C.char, verdict C.int32_t,
	authenticated C.bool, checkedAt C.int64_t) {
	info := VersionInfo{
		Running:       C.GoString(running),
		Latest:        C.GoString(latest),
		Advisory:      C.GoString(advisory),
		Verdict:       Verdict(verdict),
		Authenticated: bool(authenticated),
	}
	if checkedAt != 0 {
		info.CheckedAt = time.Unix(int64(checkedAt), 0)
	}
	switch taker := cgo.Handle(handle).Value().(type) {
	case *hooks:
		taker.versionChanged(info)
	case *VersionInfo:
		*taker = info
	}
}

//export ondatTelemetryGoReport
func ondatTelemetryGoReport(handle C.uintptr_t, report *C.ondat_telemetry_report) {
	hooksOf(handle).fillReport(&nativeReport{pointer: report})
}

//export ondatTelemetryGoText
func ondatTelemetryGoText(handle C.uintptr_t, text *C.char, length C.size_t) {
	*cgo.Handle(handle).Value().(*[]byte) = append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(text)), length)...)
}

//export ondatTelemetryGoFree
func ondatTelemetryGoFree(handle C.uintptr_t) {
	cgo.Handle(handle).Delete()
}
