//go:build linux && cgo

package telemetry

import (
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
)

// crashOutput is where the runtime writes when the process dies, in addition to the standard error.
type crashOutput struct {
	mu     sync.Mutex
	isSet  bool
	copyOf syscall.Stat_t
	number int // the descriptor of the runtime's copy, -1 if it was not found
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

// reset removes the crash output, unless the host has set another one: the runtime has then closed its copy.
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

// descriptors returns this process's descriptors of the same pipe; none if /proc is missing.
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
