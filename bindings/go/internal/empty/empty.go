//go:build linux && cgo

// Package empty is what a call over cgo costs that does nothing.
package empty

// static void empty(void) {}
import "C"

// Call calls C and returns.
func Call() { C.empty() }
