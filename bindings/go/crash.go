package telemetry

import (
	"errors"
	"log/slog"
	"os/exec"
	"syscall"
)

// CrashOptions are the options of InstallCrashHandler.
type CrashOptions struct {
	// CoreDumps raises the soft limit of core files to the hard one. Go itself dumps core only with GOTRACEBACK=crash.
	CoreDumps bool
	// KeepCrashOutput leaves [runtime/debug.SetCrashOutput] alone. Set it if the host gives the runtime a crash output
	// of its own: there can be only one, and Go does not tell whether there is one. Reports then do not say whether an
	// exit code 2 was a panic or a fatal error.
	KeepCrashOutput bool
}

// InstallCrashHandler reports every abnormal end of this process from now on: unrecovered panics, fatal errors, signals,
// and exit codes other than 0. It does not change how the process ends or how Go handles faults, and no text of a panic
// is sent. ErrUnsupported: the monitor cannot run; crashes are then stored and reported at the next start. Only one
// client of a process can have the crash handler. A client that a panic has left open (see Close) is closed when another
// one installs it.
//
// It gives the runtime a crash output, by which reports tell panics from fatal errors, and Close removes it; see
// [CrashOptions]. A crash output that the host sets later replaces it and stays.
// C: ondat_telemetry_install_crash_handler, ondat_telemetry_crash_output.
func (c *Client) InstallCrashHandler(options CrashOptions) error {
	return c.call("InstallCrashHandler", func(native *nativeClient) error {
		err := native.installCrashHandler(options.CoreDumps)
		if errors.Is(err, ErrInvalidState) && c.replacesLeftOpen() {
			err = native.installCrashHandler(options.CoreDumps)
		}
		c.isWatched.Store(c.isWatched.Load() || err == nil || errors.Is(err, ErrUnsupported))
		if err != nil {
			return err
		}
		if options.KeepCrashOutput {
			return nil
		}
		output, err := native.crashOutput()
		if err == nil {
			err = c.crash.set(output)
		}
		if err != nil {
			// The reports lack a word, nothing else.
			c.hooks.log(slog.LevelWarn, "telemetry: the crash output is not set", "error", err)
		}
		return nil
	})
}

// replacesLeftOpen closes another client that a panic has left open. In a callback nothing can be installed in its place.
func (c *Client) replacesLeftOpen() bool {
	left := onWatch.Load()
	return left != nil && left != c && !c.hooks.isInside() && left.end() == nil
}

// Supervise runs a child until it ends, reports the end as ReportExit does, and returns what [exec.Cmd.Run] would
// return. It is for children without a crash handler of their own; a child that has one reports itself. The child runs
// whatever is wrong with telemetry, even with a nil client; errors are logged.
//
// If the context of a CommandContext ends, the child is killed, which counts as a crash. To stop a child as intended,
// let cmd.Cancel send SIGTERM.
func (c *Client) Supervise(component string, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	failed := cmd.Wait()
	if cmd.ProcessState == nil || c == nil {
		return failed
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return failed
	}
	if err := c.ReportExit(component, status, ""); err != nil && !errors.Is(err, ErrDisabled) {
		c.hooks.log(slog.LevelWarn, "telemetry: an exit is not reported", "component", component, "error", err)
	}
	return failed
}
