//go:build !(linux && cgo)

package telemetry

import (
	"os"
	"syscall"
)

// Without the library everything compiles and returns ErrUnavailable, so that telemetry breaks no build.

type (
	nativeClient struct{}
	nativeReport struct{}
	crashOutput  struct{}
)

func nativeVersion() string { return "" }

func threadID() int { return 0 }

func newNative(*Config, *hooks) (*nativeClient, error) {
	return nil, &Error{Op: "New", Code: ErrUnavailable}
}

func (*nativeClient) start() error                             { return ErrUnavailable }
func (*nativeClient) close(uint32)                             {}
func (*nativeClient) switches() Switches                       { return 0 }
func (*nativeClient) setSwitches(Switches) error               { return ErrUnavailable }
func (*nativeClient) explainSwitches() ([]byte, error)         { return nil, ErrUnavailable }
func (*nativeClient) checkVersion(uint32) (VersionInfo, error) { return VersionInfo{}, ErrUnavailable }
func (*nativeClient) latestVersion() (VersionInfo, error)      { return VersionInfo{}, ErrUnavailable }
func (*nativeClient) submitReport([]byte, uint32) error        { return ErrUnavailable }
func (*nativeClient) previewReport([]byte) ([]byte, error)     { return nil, ErrUnavailable }
func (*nativeClient) flush(uint32) error                       { return ErrUnavailable }
func (*nativeClient) installCrashHandler(bool) error           { return ErrUnavailable }
func (*nativeClient) crashOutput() (*os.File, error)           { return nil, ErrUnavailable }

func (*nativeClient) reportExit(string, syscall.WaitStatus, string) error { return ErrUnavailable }

func (*nativeReport) isPreview() bool                 { return false }
func (*nativeReport) setCluster(string, []byte) error { return ErrUnavailable }
func (*nativeReport) addNode(string, []byte) error    { return ErrUnavailable }
func (*nativeReport) addVolume(string, []byte) error  { return ErrUnavailable }

func (*crashOutput) set(*os.File) error { return ErrUnavailable }
func (*crashOutput) reset()             {}
