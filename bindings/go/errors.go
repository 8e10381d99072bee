package telemetry

import (
	"fmt"
)

// Code is the kind of a failure. The codes are errors themselves, for [errors.Is]:
//
//	if errors.Is(err, telemetry.ErrDisabled) { ... }
//
// Positive numbers are those of ondat_telemetry_status.
type Code int32

// The codes with which calls fail.
const (
	ErrInvalidArgument Code = 1  // a value is out of range, too long, or not UTF-8
	ErrInvalidConfig   Code = 2  // a setting is missing, malformed or contradicts another one
	ErrInvalidState    Code = 3  // started twice, called from a callback, or a second report of the same day
	ErrInvalidReport   Code = 4  // a field of the report is malformed
	ErrDisabled        Code = 5  // the switch is off: nothing was sent or stored
	ErrQueued          Code = 6  // something is stored and not delivered yet; delivery is retried
	ErrTimedOut        Code = 7  // the timeout has expired
	ErrNetwork         Code = 8  // DNS, TCP, TLS or the proxy failed
	ErrRefused         Code = 9  // the server refused
	ErrUntrusted       Code = 10 // the answer is not signed by a configured key, has expired, or is malformed
	ErrIO              Code = 11 // the state directory could not be read or written
	ErrUnsupported     Code = 12 // this kernel, this process or this library does not support it
	ErrInternal        Code = 13 // a bug in the library; it was contained

	ErrClosed      Code = -1 // the client is closed
	ErrUnavailable Code = -2 // the program was built without cgo, or the client is nil
)

var meanings = map[Code]string{
	ErrInvalidArgument: "invalid argument",
	ErrInvalidConfig:   "invalid configuration",
	ErrInvalidState:    "invalid state",
	ErrInvalidReport:   "invalid report",
	ErrDisabled:        "disabled",
	ErrQueued:          "queued",
	ErrTimedOut:        "timed out",
	ErrNetwork:         "network failure",
	ErrRefused:         "refused",
	ErrUntrusted:       "untrusted answer",
	ErrIO:              "state directory failure",
	ErrUnsupported:     "unsupported",
	ErrInternal:        "internal error",
	ErrClosed:          "client is closed",
	ErrUnavailable:     "not available in this build",
}

func (c Code) Error() string {
	if meaning, ok := meanings[c]; ok {
		return "telemetry: " + meaning
	}
	return fmt.Sprintf("telemetry: unknown status %d", int32(c))
}

// Error says what failed, and why. It unwraps to its Code and, if a context ended the call, to the context's error.
type Error struct {
	Op     string // the method
	Code   Code
	Detail string // one line from the library, may be empty

	cause error
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("telemetry: %s: %s", e.Op, e.Code.Error()[len("telemetry: "):])
	}
	return fmt.Sprintf("telemetry: %s: %s", e.Op, e.Detail)
}

// Unwrap returns the Code and the error of the context, for [errors.Is] and [errors.As].
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.cause}
}
