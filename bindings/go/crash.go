package telemetry

import (
	"errors"
	"log/slog"
	"os/exec"
	"syscall"
)

// CrashOptions are what InstallCrashHandler can do otherwise.
type CrashOptions struct {
	// CoreDumps raises the soft limit of core files to the hard one. Go itself dumps core only with GOTRACEBACK=crash.
	CoreDumps bool
	// KeepCrashOutput leaves [runtime/debug.SetCrashOutput] alone. Set it where the host gives the runtime a crash output of its
	// own: there can be one, and Go does not tell whether there is. Reports then do not say whether an exit code 2 was a
	// panic or a fatal error.
	KeepCrashOutput bool
}

// InstallCrashHandler reports every abnormal end of this process from now on: unrecovered panics, fatal errors, signals,
// exit codes other than 0. How the process ends stays the same, Go's faults stay Go's, and no text of a panic is sent.
// ErrUnsupported when the monitor cannot run: crashes are then stored and reported at the next start. One client of a
// process can have it; for another one, a client that a panic has left open (see Close) is closed.
//
// It gives the runtime a crash output, by which reports tell panics from fatal errors, and Close takes it back; see
// [CrashOptions]. One that the host sets later replaces it and stays.
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

// Supervise runs a child to its end, reports that as ReportExit does, and returns what [exec.Cmd.Run] would. It is for
// children without a crash handler of their own: one that has one reports itself. Whatever is wrong with telemetry, a nil
// client included, the child runs; it is logged.
//
// A child whose CommandContext ends is killed, which counts as a crash; let cmd.Cancel send SIGTERM to stop it as
// intended.
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
