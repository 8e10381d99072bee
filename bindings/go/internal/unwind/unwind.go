// Package unwind tells a deferred call at a function's end from one on the way to the end of the process.
package unwind

import "runtime"

// What runs deferred functions when a function does not return, and what main is called by. The names are ASCII and
// stay: package testing itself compares with "runtime.gopanic" (frameSkip), so does the runtime ("always show
// runtime.gopanic frame" in traceback.go), whose panic.go forbids to change its signature (go.dev/issue/67401); Goexit is
// exported; every traceback of a main goroutine ends in runtime.main. None is ever inlined: the runtime finds panics by
// the frame of gopanic, and all three loop around calls.
const (
	panics = "runtime.gopanic"
	exits  = "runtime.Goexit"
	main   = "runtime.main"
)

// IsFatal tells whether the deferred function in which the caller is runs because its goroutine panics, or because the
// main goroutine ends by Goexit: a main that never returns. Of a panic in a Goexit and a Goexit in a panic the inner one
// decides, as it does in the runtime.
//
// It looks at the stack and recovers nothing, as that would change what the runtime prints and where a core says that it
// is. So a recovered panic counts until the deferred function that has recovered it returns: its frames stay until then.
func IsFatal() bool {
	// From the innermost on, where the panic is, all again and not the rest: runtime.Callers does not count frames of C
	// in what it skips.
	for size := 64; ; size *= 2 {
		counters := make([]uintptr, size)
		count := runtime.Callers(0, counters)
		if isFatal, isDecided := look(counters[:count]); isDecided || count < size {
			return isFatal
		}
	}
}

// look looks at the innermost frames of a stack.
func look(counters []uintptr) (isFatal, isDecided bool) {
	isExit := false
	frames := runtime.CallersFrames(counters)
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		switch frame.Function {
		case panics:
			if !isExit {
				return true, true
			}
		case exits:
			isExit = true
		case main:
			return isExit, true
		}
	}
	return false, false
}
