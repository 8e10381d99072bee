//go:build linux && cgo

package main

// #cgo LDFLAGS: -lpthread
// void foreign_segv(void);
// void foreign_abort(void);
// void foreign_overflow(void);
// void foreign_segv_on_thread(void);
// void foreign_abort_on_thread(void);
// void foreign_overflow_on_thread(void);
import "C"

// What goes wrong in C, on a thread of Go's and on one of C's.
func init() {
	scenarios["c_segv"] = func() { C.foreign_segv() }
	scenarios["c_abort"] = func() { C.foreign_abort() }
	scenarios["c_overflow"] = func() { C.foreign_overflow() }
	scenarios["thread_segv"] = func() { C.foreign_segv_on_thread() }
	scenarios["thread_abort"] = func() { C.foreign_abort_on_thread() }
	scenarios["thread_overflow"] = func() { C.foreign_overflow_on_thread() }
}
