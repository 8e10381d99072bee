//go:build linux && cgo && victim_late

package main

// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// const char *late_install(const char *library, unsigned flags, int *output);
// void late_close(void);
import "C"

import (
	"errors"
	"os"
	"runtime/debug"
	"unsafe"

	"github.com/ondat/telemetry/bindings/go/internal/unwind"
)

type late struct{}

// What the binding does, in a program that is not linked to the library.
func install(scenario string) (installation, error) {
	path := C.CString(os.Getenv("VICTIM_LIBRARY"))
	defer C.free(unsafe.Pointer(path))
	const goHost, coreDumps = 1, 2
	flags := C.uint(goHost)
	if scenario == "core" {
		flags |= coreDumps
	}
	var descriptor C.int
	if why := C.late_install(path, flags, &descriptor); why != nil {
		return nil, errors.New(C.GoString(why))
	}
	output := os.NewFile(uintptr(descriptor), "crash output")
	defer output.Close()
	if scenario == "own_output" {
		return late{}, nil
	}
	return late{}, debug.SetCrashOutput(output, debug.CrashOptions{})
}

func (late) close() {
	if !unwind.IsFatal() {
		C.late_close()
	}
}
