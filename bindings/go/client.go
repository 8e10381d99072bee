package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ondat/telemetry/bindings/go/internal/unwind"
)

const (
	defaultTimeout      = 10 * time.Second
	defaultCloseTimeout = time.Second
)

// Version returns the version of the linked library, or "" without cgo.
// C: ondat_telemetry_version.
func Version() string { return nativeVersion() }

// Client is a client of the library. Any goroutine may call its methods at any time, Close included. The methods of a
// nil client return ErrUnavailable, so a host whose New has failed runs without telemetry.
type Client struct {
	native       *nativeClient
	hooks        *hooks
	timeout      time.Duration
	closeTimeout time.Duration

	// calls counts calls under way, and has isClosed set from Close on. No read-write lock: a callback may call the
	// client again while Close is waiting, where a second read lock would wait for ever.
	calls   atomic.Int64
	drained chan struct{}
	closing sync.Once

	crash     crashOutput
	isWatched atomic.Bool // the crash handler is its own
}

const isClosed = 1 << 62

// onWatch is the client that a panic has left open. There is at most one, because only one client can have the crash
// handler.
var onWatch atomic.Pointer[Client]

// New creates a client. It starts no thread and uses no network. From now on callbacks may be called, until Close
// returns.
// C: ondat_telemetry_init.
func New(config Config) (*Client, error) {
	c := &Client{
		hooks:        newHooks(&config),
		timeout:      config.Timeout,
		closeTimeout: config.CloseTimeout,
		drained:      make(chan struct{}, 1),
	}
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	if c.closeTimeout == 0 {
		c.closeTimeout = defaultCloseTimeout
	}
	native, err := newNative(&config, c.hooks)
	if err != nil {
		return nil, err
	}
	c.native = native
	return c, nil
}

// Start starts the schedule: from now on version checks and reports are made automatically.
// C: ondat_telemetry_start.
func (c *Client) Start() error {
	return c.call("Start", func(native *nativeClient) error {
		c.hooks.publish()
		return native.start()
	})
}

// Close waits for calls that are running, delivers what is stored for at most Config.CloseTimeout, removes the crash
// handler and frees everything. No callback is called after it has returned. Further calls only wait for the first one.
// In a callback it returns ErrInvalidState.
//
// CloseTimeout does not bound the waiting for running calls and for callbacks. The library takes at most 210 ms longer
// than CloseTimeout for the rest.
//
// A deferred Close does not close a client that has the crash handler if it runs because its goroutine panics, or
// because the main goroutine ends by [runtime.Goexit]: closing would hide the very death that it is part of. It delivers
// what is stored for at most Config.CloseTimeout, without logging to Config.Logger, and waits for nothing else. Client,
// monitor and crash output stay as they are. If the panic is recovered after all, another Close closes the client, and
// so does InstallCrashHandler of another client; no finalizer does.
//
// Only the stack of the calling goroutine decides. A deferred function that recovers a panic and then calls Close is
// still part of that panic. A Close that another goroutine calls meanwhile is not, and closes.
// C: ondat_telemetry_close, ondat_telemetry_flush.
func (c *Client) Close() error {
	switch {
	case c == nil:
		return nil
	case c.isWatched.Load() && !c.hooks.isInside() && unwind.IsFatal():
		c.stayOnWatch()
		return nil
	default:
		return c.end()
	}
}

// stayOnWatch delivers what is stored and leaves everything as it is.
func (c *Client) stayOnWatch() {
	if !c.enter() {
		return // It is closed, or is being closed by somebody who does what is to be done.
	}
	defer c.leave()
	onWatch.Store(c)
	if c.closeTimeout > 0 {
		// The logger may wait for a lock that the panic has left locked.
		c.hooks.silent.Add(1)
		defer c.hooks.silent.Add(-1)
		// What cannot be delivered stays stored for the next start.
		_ = c.native.flush(milliseconds(c.closeTimeout))
	}
}

// end closes for good.
func (c *Client) end() error {
	if c.hooks.isInside() {
		return &Error{Op: "Close", Code: ErrInvalidState, Detail: "called from a callback"}
	}
	c.closing.Do(func() {
		if c.calls.Or(isClosed) > 0 {
			<-c.drained
		}
		c.native.close(milliseconds(max(c.closeTimeout, 0)))
		c.crash.reset()
		onWatch.CompareAndSwap(c, nil)
	})
	return nil
}

// enter keeps the native client alive until leave; false when it is closed.
func (c *Client) enter() bool {
	if c.calls.Add(1) < isClosed {
		return true
	}
	c.leave()
	return false
}

func (c *Client) leave() {
	if c.calls.Add(-1) == isClosed {
		select {
		case c.drained <- struct{}{}:
		default: // Nobody waits for the second time.
		}
	}
}

// call runs f with a client that stays open meanwhile.
func (c *Client) call(op string, f func(*nativeClient) error) error {
	if c == nil {
		return &Error{Op: op, Code: ErrUnavailable, Detail: "there is no client"}
	}
	if !c.enter() {
		return &Error{Op: op, Code: ErrClosed}
	}
	defer c.leave()
	return f(c.native)
}

// wait runs f with the time that the context leaves.
func (c *Client) wait(ctx context.Context, op string, f func(*nativeClient, uint32) error) error {
	return c.call(op, func(native *nativeClient) error {
		if err := ctx.Err(); err != nil {
			return &Error{Op: op, Code: ErrTimedOut, Detail: err.Error(), cause: err}
		}
		timeout := c.timeout
		deadline, isBounded := ctx.Deadline()
		if isBounded {
			timeout = time.Until(deadline)
		}
		err := f(native, milliseconds(timeout))
		if failed, ok := err.(*Error); ok && failed.Code == ErrTimedOut {
			failed.cause = ctx.Err()
			// The library may be back before the runtime has noticed that the context's time is up.
			if failed.cause == nil && isBounded && !time.Now().Before(deadline) {
				failed.cause = context.DeadlineExceeded
			}
		}
		return err
	})
}

// milliseconds rounds up: a call gets no shorter than asked for.
func milliseconds(d time.Duration) uint32 {
	return uint32(min(max((d+time.Millisecond-1)/time.Millisecond, 0), math.MaxUint32))
}

// Switches returns what is on, with all sources counted. It returns 0 for a closed client.
// C: ondat_telemetry_switches.
func (c *Client) Switches() Switches {
	if c == nil || !c.enter() {
		return 0
	}
	on := c.native.switches()
	c.leave()
	return on
}

// SetSwitches changes the host's own choice. Turning a switch off interrupts what is being sent and removes what was
// stored for it.
// C: ondat_telemetry_set_switches.
func (c *Client) SetSwitches(on Switches) error {
	return c.call("SetSwitches", func(native *nativeClient) error { return native.setSwitches(on) })
}

// Explanation says for each switch whether it is on and which sources turn it off.
type Explanation struct {
	VersionCheck SwitchState `json:"version_check"`
	DailyReport  SwitchState `json:"daily_report"`
	CrashReports SwitchState `json:"crash_reports"`
}

// SwitchState is one switch of an Explanation.
type SwitchState struct {
	On      bool     `json:"on"`
	OffBy   []string `json:"off_by"`  // for people
	Sources []Source `json:"sources"` // the same for programs
}

// Source is who turns a switch off.
type Source struct {
	// Kind is host, environment, cluster_spec, administrator, api_client, unreadable, or a word of a later version.
	Kind string `json:"kind"`
	// Name is the variable, the field, or why switches.json cannot be read.
	Name string `json:"name"`
}

// ExplainSwitches says which sources turn the switches off.
// C: ondat_telemetry_explain_switches.
func (c *Client) ExplainSwitches() (Explanation, error) {
	var explanation Explanation
	err := c.call("ExplainSwitches", func(native *nativeClient) error {
		text, err := native.explainSwitches()
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &explanation); err != nil {
			return &Error{Op: "ExplainSwitches", Code: ErrInternal, Detail: err.Error(), cause: err}
		}
		return nil
	})
	return explanation, err
}

// Verdict is the judgement on the running version.
type Verdict int32

// The verdicts, in order of urgency.
const (
	Unknown Verdict = iota // there is no answer yet, or none that applies (a development build)
	Current                // the running version is the latest, or newer
	Outdated
	UpgradeRecommended
	UpgradeRequired
)

func (v Verdict) String() string {
	names := [...]string{"unknown", "current", "outdated", "upgrade recommended", "upgrade required"}
	if v < 0 || int(v) >= len(names) {
		return fmt.Sprintf("verdict %d", int32(v))
	}
	return names[v]
}

// VersionInfo is what is known about versions.
type VersionInfo struct {
	Running       string    // as set in the Config
	Latest        string    // "" when unknown
	Advisory      string    // the id of the advisory behind the recommendation, or ""
	Verdict       Verdict   //
	Authenticated bool      // whether the signature of the answer was verified
	CheckedAt     time.Time // when the zone was asked for this; zero when there is no answer
}

// CheckVersion asks the version zone now. The deadline of the context bounds how long it uses the network; without a
// deadline Config.Timeout does. If the context is already done, nothing is asked. Cancelling it later does not interrupt
// the call.
// C: ondat_telemetry_check_version.
func (c *Client) CheckVersion(ctx context.Context) (VersionInfo, error) {
	var info VersionInfo
	err := c.wait(ctx, "CheckVersion", func(native *nativeClient, timeout uint32) (err error) {
		info, err = native.checkVersion(timeout)
		return err
	})
	return info, err
}

// LatestVersion returns what is already known, without asking. It works right after a restart, too.
// C: ondat_telemetry_latest_version.
func (c *Client) LatestVersion() (VersionInfo, error) {
	var info VersionInfo
	err := c.call("LatestVersion", func(native *nativeClient) (err error) {
		info, err = native.latestVersion()
		return err
	})
	return info, err
}

// SubmitReport sends the report of the current UTC day. ErrQueued: it is stored and will be delivered later.
// ErrInvalidState: the report of this day was already delivered or stored. The context counts as in CheckVersion, but
// only bounds the delivery: the report is sealed and stored first, however long that takes.
// C: ondat_telemetry_submit_report.
func (c *Client) SubmitReport(ctx context.Context, report Report) error {
	return c.wait(ctx, "SubmitReport", func(native *nativeClient, timeout uint32) error {
		document, err := document("SubmitReport", &report)
		if err != nil {
			return err
		}
		return native.submitReport(document, timeout)
	})
}

// PreviewReport returns, byte for byte, what would be sealed for this report. It sends and stores nothing.
// C: ondat_telemetry_preview_report.
func (c *Client) PreviewReport(report Report) ([]byte, error) {
	var preview []byte
	err := c.call("PreviewReport", func(native *nativeClient) error {
		document, err := document("PreviewReport", &report)
		if err != nil {
			return err
		}
		preview, err = native.previewReport(document)
		return err
	})
	return preview, err
}

func document(op string, report *Report) ([]byte, error) {
	document, err := json.Marshal(report)
	if err != nil {
		return nil, &Error{Op: op, Code: ErrInvalidReport, Detail: err.Error(), cause: err}
	}
	return document, nil
}

// Flush delivers what is stored, now. ErrQueued: something is left. The context counts as in CheckVersion.
// C: ondat_telemetry_flush.
func (c *Client) Flush(ctx context.Context) error {
	return c.wait(ctx, "Flush", (*nativeClient).flush)
}

// ReportExit reports how another process ended, for a parent that reaps it; Supervise does this for an [exec.Cmd].
// description may be ""; up to 200 characters of it are sent. ReportExit returns nil also if there is nothing to report:
// exit code 0, SIGTERM, SIGINT, SIGHUP, SIGQUIT. The report is stored at once and delivered by the schedule or by Flush.
// C: ondat_telemetry_report_exit.
func (c *Client) ReportExit(component string, status syscall.WaitStatus, description string) error {
	return c.call("ReportExit", func(native *nativeClient) error {
		return native.reportExit(component, status, description)
	})
}
