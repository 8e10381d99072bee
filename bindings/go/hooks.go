package telemetry

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// hooks are the callbacks of the library. They do not refer to the client, because handles of hooks are roots of the
// garbage collector.
type hooks struct {
	logger    *slog.Logger
	onVersion func(VersionInfo)
	onReport  func(*ReportWriter) error

	silent atomic.Int32 // the number of callers that suppress logging now

	mu     sync.Mutex
	inside map[int]int // the depth of callbacks on each thread
}

func newHooks(config *Config) *hooks {
	return &hooks{
		logger:    config.Logger,
		onVersion: config.OnVersion,
		onReport:  config.OnReport,
		inside:    map[int]int{},
	}
}

// run calls f, whose panic must not unwind into C.
func (h *hooks) run(what string, f func()) {
	thread := threadID()
	h.count(thread, 1)
	defer h.count(thread, -1)
	defer func() {
		if reason := recover(); reason != nil {
			h.log(slog.LevelError, "telemetry: a callback panicked", "callback", what, "panic", reason,
				"stack", string(debug.Stack()))
		}
	}()
	f()
}

func (h *hooks) count(thread, by int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inside[thread] += by; h.inside[thread] == 0 {
		delete(h.inside, thread)
	}
}

// publish makes what the caller has done happen before callbacks on other threads: the Go memory model does not cover C.
func (h *hooks) publish() {
	h.mu.Lock()
	defer h.mu.Unlock()
}

// isInside reports whether the caller is in a callback, which stays on its thread.
func (h *hooks) isInside() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inside[threadID()] > 0
}

// log never panics, although the logger belongs to the host.
func (h *hooks) log(level slog.Level, message string, attributes ...any) {
	defer func() { _ = recover() }()
	if h.logger != nil {
		h.logger.Log(context.Background(), level, message, attributes...)
	}
}

// logged receives a log line of the library.
func (h *hooks) logged(priority int, message string) {
	if h.silent.Load() > 0 {
		return
	}
	h.run("Logger", func() {
		if h.logger != nil {
			h.logger.Log(context.Background(), levelOf(priority), message)
		}
	})
}

func (h *hooks) versionChanged(info VersionInfo) {
	h.run("OnVersion", func() { h.onVersion(info) })
}

func (h *hooks) fillReport(native *nativeReport) {
	writer := newReportWriter(native)
	h.run("OnReport", func() {
		// Even if it panics: nobody may use the report afterwards.
		defer writer.end()
		if err := h.onReport(writer); err != nil {
			h.log(slog.LevelError, "telemetry: the daily report is incomplete", "error", err)
		}
	})
}

// levelOf translates a syslog(3) priority.
func levelOf(priority int) slog.Level {
	switch {
	case priority <= 3:
		return slog.LevelError
	case priority == 4:
		return slog.LevelWarn
	case priority <= 6:
		return slog.LevelInfo
	default:
		return slog.LevelDebug
	}
}
