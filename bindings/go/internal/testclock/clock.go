//go:build linux && cgo

// Package testclock sets the clock of the program it is linked into, as the library sees it: the daily report of a test
// is due at once. Go's own time is the kernel's.
package testclock

// void testclock_midnight(void);
// void testclock_pass(long seconds);
import "C"

// Day in seconds.
const Day = 86400

// AtMidnight makes it the midnight before tomorrow. Before New.
func AtMidnight() { C.testclock_midnight() }

// Pass lets so many seconds pass at once.
func Pass(seconds int) { C.testclock_pass(C.long(seconds)) }
