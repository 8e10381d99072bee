//go:build linux && cgo

package telemetry

import (
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
)

// crashOutput is where the runtime writes when the process dies, besides the standard error.
type crashOutput struct {
	mu     sync.Mutex
	isSet  bool
	copyOf syscall.Stat_t
	number int // of the runtime's copy, -1 where it was not found
}

// set gives the file to the runtime, which copies its descriptor.
func (c *crashOutput) set(file *os.File) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer file.Close()
	ours := int(file.Fd())
	if err := syscall.Fstat(ours, &c.copyOf); err != nil {
		return err
	}
	before := c.descriptors()
	if err := debug.SetCrashOutput(file, debug.CrashOptions{}); err != nil {
		return err
	}
	c.isSet, c.number = true, -1
	for number := range c.descriptors() {
		if !before[number] {
			c.number = number
		}
	}
	return nil
}

// reset takes it back, unless the host has put another in its place: the runtime then has closed its copy.
func (c *crashOutput) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isSet && (c.number < 0 || c.isCopy(c.number)) {
		// It fails only for a descriptor that cannot be copied.
		_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
	}
	c.isSet = false
}

func (c *crashOutput) isCopy(number int) bool {
	var stat syscall.Stat_t
	return syscall.Fstat(number, &stat) == nil && stat.Dev == c.copyOf.Dev && stat.Ino == c.copyOf.Ino
}

// descriptors are those of this process that lead to the same pipe; none where /proc is missing.
func (c *crashOutput) descriptors() map[int]bool {
	found := map[int]bool{}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		if number, err := strconv.Atoi(entry.Name()); err == nil && c.isCopy(number) {
			found[number] = true
		}
	}
	return found
}
