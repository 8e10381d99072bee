//go:build linux && cgo

package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	telemetry "github.com/ondat/telemetry/bindings/go"
	"github.com/ondat/telemetry/bindings/go/internal/sink"
)

func TestTheLinkedLibraryIsTheOneOfThisRepository(t *testing.T) {
	manifest, err := os.ReadFile("../../Cargo.toml")
	works(t, err)
	_, rest, _ := strings.Cut(string(manifest), "[workspace.package]")
	_, rest, _ = strings.Cut(rest, "version = \"")
	version, _, _ := strings.Cut(rest, "\"")
	if telemetry.Version() != version {
		t.Fatalf("linked with %q, Cargo.toml says %q", telemetry.Version(), version)
	}
}

func TestRequiredSettingsAreNamed(t *testing.T) {
	for name, change := range map[string]func(*telemetry.Config){
		"component":  func(c *telemetry.Config) { c.Component = "" },
		"version":    func(c *telemetry.Config) { c.Version = "" },
		"cluster_id": func(c *telemetry.Config) { c.ClusterID = "" },
		"node_id":    func(c *telemetry.Config) { c.NodeID = "" },
	} {
		config := minimal()
		change(&config)
		client, err := telemetry.New(config)
		fails(t, err, telemetry.ErrInvalidConfig, "New", name)
		if client != nil {
			t.Fatalf("%s: a client all the same", name)
		}
	}
}

// Every field reaches the library: a bad value of it is refused under its name.
func TestEverySettingIsSet(t *testing.T) {
	for name, change := range map[string]func(*telemetry.Config){
		"component":        func(c *telemetry.Config) { c.Component = "UPPER" },
		"version":          func(c *telemetry.Config) { c.Version = "x" },
		"cluster_id":       func(c *telemetry.Config) { c.ClusterID = strings.Repeat("c", 257) },
		"node_id":          func(c *telemetry.Config) { c.NodeID = strings.Repeat("c", 257) },
		"identity_key":     func(c *telemetry.Config) { c.IdentityKey = []byte{1} },
		"state_dir":        func(c *telemetry.Config) { c.StateDir = "/dev/null" },
		"version_zone":     func(c *telemetry.Config) { c.VersionZone = ".." },
		"version_key":      func(c *telemetry.Config) { c.VersionKey = "x" },
		"version_seal_key": func(c *telemetry.Config) { c.VersionSealKey = "x" },
		"nameservers":      func(c *telemetry.Config) { c.Nameservers = "x" },
		"report_url":       func(c *telemetry.Config) { c.ReportURL = "x" },
		"report_keys":      func(c *telemetry.Config) { c.ReportKeys = "x" },
		"sentry_dsn":       func(c *telemetry.Config) { c.SentryDSN = "x" },
		"proxy":            func(c *telemetry.Config) { c.Proxy = "ftp://x" },
		"ca_file":          func(c *telemetry.Config) { c.CAFiles = []string{"/nowhere"} },
		"crash_wait_ms":    func(c *telemetry.Config) { c.CrashWait = time.Hour },
		"Timeout":          func(c *telemetry.Config) { c.Timeout = -1 },
		"Off":              func(c *telemetry.Config) { c.Off = 8 },
		"a zero byte":      func(c *telemetry.Config) { c.MonitorPath = "a\x00b" },
		"spec":             func(c *telemetry.Config) { c.ClusterSpec = []byte("\xff") },
	} {
		config := minimal()
		change(&config)
		client, err := telemetry.New(config)
		if err == nil {
			client.Close()
			t.Errorf("%s: a bad value is not refused", name)
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGoodSettingsAreTaken(t *testing.T) {
	config := minimal()
	config.IdentityKey = bytes.Repeat([]byte{7}, 32)
	config.StateDir = stateDir(t)
	config.Proxy = telemetry.Direct
	config.Timeout = 250 * time.Millisecond
	config.CrashWait = -1
	config.CoreFiles, config.CoreBytes = 3, 1<<40
	config.MonitorPath, config.SentryDSN = "/nowhere", sink.Refusal(t)
	config.VersionZone, config.Nameservers = zone, sink.Silence(t)
	client := open(t, config)
	_, err := client.CheckVersion(context.Background())
	if !errors.Is(err, telemetry.ErrTimedOut) && !errors.Is(err, telemetry.ErrNetwork) {
		t.Fatal(err)
	}
	// The monitor's path is the one given.
	fails(t, client.InstallCrashHandler(telemetry.CrashOptions{}), telemetry.ErrUnsupported, "InstallCrashHandler", "/nowhere")
}

func TestSwitches(t *testing.T) {
	t.Setenv("DISABLE_TELEMETRY", "true")
	config := minimal()
	client := open(t, config)
	if on := client.Switches(); on != telemetry.AllSwitches {
		t.Fatalf("the environment was read: %b", on)
	}
	config.LoadEnv = true
	config.Off = telemetry.CrashReports
	client = open(t, config)
	if on := client.Switches(); on != telemetry.VersionCheck {
		t.Fatalf("%b", on)
	}
	explanation, err := client.ExplainSwitches()
	works(t, err)
	if !explanation.VersionCheck.On || explanation.DailyReport.On || explanation.CrashReports.On ||
		!strings.Contains(strings.Join(explanation.DailyReport.OffBy, ""), "DISABLE_TELEMETRY") ||
		strings.Join(explanation.CrashReports.OffBy, "") != "the host program" {
		t.Fatalf("%+v", explanation)
	}
	works(t, client.SetSwitches(telemetry.CrashReports))
	if on := client.Switches(); on != telemetry.CrashReports {
		t.Fatalf("%b", on)
	}
	fails(t, client.SetSwitches(8), telemetry.ErrInvalidArgument, "SetSwitches", "0x8")

	config = minimal()
	config.ClusterSpec = []byte("spec: {disableTelemetry: true}")
	if on := open(t, config).Switches(); on != 0 {
		t.Fatalf("%b", on)
	}
}

func TestVersionCheck(t *testing.T) {
	config := minimal()
	config.VersionZone = zone
	config.Nameservers, config.VersionKey = signed(t)
	changes := make(chan telemetry.VersionInfo, 1)
	var client *telemetry.Client
	var inside []error
	config.OnVersion = func(info telemetry.VersionInfo) {
		changes <- info
		_, err := client.CheckVersion(context.Background())
		inside = []error{err, client.Close(), client.SetSwitches(telemetry.AllSwitches)}
	}
	client = open(t, config)
	before, err := client.LatestVersion()
	works(t, err)
	if before.Verdict != telemetry.Unknown || before.Latest != "" || !before.CheckedAt.IsZero() || before.Running != "2.8.1" {
		t.Fatalf("%+v", before)
	}
	info, err := client.CheckVersion(context.Background())
	works(t, err)
	if age := time.Since(info.CheckedAt); age < -time.Minute || age > sink.Deadline*time.Second {
		t.Fatalf("checked %v ago", age)
	}
	after, err := client.LatestVersion()
	works(t, err)
	want := telemetry.VersionInfo{Running: "2.8.1", Latest: "2.9.0", Advisory: "ODT-2026-014",
		Verdict: telemetry.UpgradeRecommended, Authenticated: true, CheckedAt: info.CheckedAt}
	if info != want || after != want || <-changes != want {
		t.Fatalf("got %+v and %+v, want %+v", info, after, want)
	}
	// What waits refuses to do so in a callback; the rest works.
	fails(t, inside[0], telemetry.ErrInvalidState, "CheckVersion", "callback")
	fails(t, inside[1], telemetry.ErrInvalidState, "Close", "callback")
	works(t, inside[2])
}

func TestAnAnswerOfAnotherKeyIsUntrusted(t *testing.T) {
	config := minimal()
	config.VersionZone = zone
	config.Nameservers, _ = signed(t)
	_, config.VersionKey = signed(t)
	_, err := open(t, config).CheckVersion(context.Background())
	fails(t, err, telemetry.ErrUntrusted, "CheckVersion", "")
}

func TestContexts(t *testing.T) {
	config := minimal()
	config.VersionZone, config.Nameservers = zone, sink.Silence(t)
	client := open(t, config)

	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := client.CheckVersion(cancelled)
	fails(t, err, telemetry.ErrTimedOut, "CheckVersion", "canceled")
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	fails(t, client.Flush(cancelled), telemetry.ErrTimedOut, "Flush", "")
	fails(t, client.SubmitReport(cancelled, telemetry.Report{}), telemetry.ErrTimedOut, "SubmitReport", "")

	brief, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	_, err = client.CheckVersion(brief)
	if !errors.Is(err, telemetry.ErrTimedOut) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestAClosedClient(t *testing.T) {
	client := open(t, minimal())
	works(t, client.Close())
	works(t, client.Close())
	everyCallFails(t, client, telemetry.ErrClosed)
}

func TestANilClient(t *testing.T) {
	var client *telemetry.Client
	works(t, client.Close())
	everyCallFails(t, client, telemetry.ErrUnavailable)
	// Supervise runs its child all the same.
	var ended *exec.ExitError
	if err := client.Supervise("child", exec.Command("sh", "-c", "exit 7")); !errors.As(err, &ended) || ended.ExitCode() != 7 {
		t.Fatal(err)
	}
}

func everyCallFails(t *testing.T, client *telemetry.Client, code telemetry.Code) {
	t.Helper()
	ctx := context.Background()
	_, explained := client.ExplainSwitches()
	_, checked := client.CheckVersion(ctx)
	_, latest := client.LatestVersion()
	_, preview := client.PreviewReport(telemetry.Report{})
	for at, err := range []error{
		explained, checked, latest, preview, client.Start(), client.SetSwitches(0), client.Flush(ctx),
		client.SubmitReport(ctx, telemetry.Report{}), client.InstallCrashHandler(telemetry.CrashOptions{}),
		client.ReportExit("child", 256, ""),
	} {
		if !errors.Is(err, code) {
			t.Errorf("call %d: %v", at, err)
		}
	}
	if client.Switches() != 0 {
		t.Error("a switch is on")
	}
}

func TestStartedTwice(t *testing.T) {
	client := open(t, minimal())
	works(t, client.Start())
	fails(t, client.Start(), telemetry.ErrInvalidState, "Start", "")
}

func TestTheLogGoesToSlog(t *testing.T) {
	log := &lines{}
	config := minimal()
	config.Logger = log.logger(slog.LevelInfo)
	open(t, config)
	if !strings.Contains(log.String(), `level=INFO msg="no state_dir is set`) {
		t.Fatal(log)
	}
	quiet := &lines{}
	config.Logger = quiet.logger(slog.LevelError)
	open(t, config)
	if quiet.String() != "" {
		t.Fatal(quiet)
	}
}

type panicking struct{ slog.Handler }

func (panicking) Handle(context.Context, slog.Record) error { panic("the logger panics") }

func TestPanicsInCallbacksAreRecoveredAndLogged(t *testing.T) {
	log := &lines{}
	config := minimal()
	config.Logger = log.logger(slog.LevelInfo)
	config.VersionZone = zone
	config.Nameservers, config.VersionKey = signed(t)
	config.OnVersion = func(telemetry.VersionInfo) { panic("oh dear") }
	client := open(t, config)
	info, err := client.CheckVersion(context.Background())
	works(t, err)
	if info.Latest != "2.9.0" {
		t.Fatalf("%+v", info)
	}
	if !strings.Contains(log.String(), "callback=OnVersion") || !strings.Contains(log.String(), "oh dear") {
		t.Fatal(log)
	}
	// Of a logger that panics nobody hears.
	config.Logger = slog.New(panicking{slog.NewTextHandler(log, nil)})
	works(t, open(t, config).Start())
}

func TestReportExit(t *testing.T) {
	server := sink.ServeHTTP(t, 200)
	config := minimal()
	config.SentryDSN = server.DSN()
	config.StateDir = stateDir(t)
	client := open(t, config)
	works(t, client.ReportExit("dataplane", syscall.WaitStatus(syscall.SIGSEGV|0x80), "on volume 7"))
	works(t, client.ReportExit("dataplane", syscall.WaitStatus(0), ""))
	fails(t, client.ReportExit("Data Plane", syscall.WaitStatus(256), ""), telemetry.ErrInvalidArgument, "ReportExit", "component")
	fails(t, client.ReportExit("a\x00b", syscall.WaitStatus(256), ""), telemetry.ErrInvalidArgument, "ReportExit", "zero byte")
	works(t, client.Flush(context.Background()))
	events := server.Events(t)
	if len(events) != 1 || events[0].What() != "dataplane killed by SIGSEGV: on volume 7" || events[0].Tags["core_dump"] != "true" {
		t.Fatalf("%+v", events)
	}
	works(t, client.SetSwitches(0))
	fails(t, client.ReportExit("dataplane", syscall.WaitStatus(256), ""), telemetry.ErrDisabled, "ReportExit", "")
}

func TestSupervise(t *testing.T) {
	server := sink.ServeHTTP(t, 200)
	log := &lines{}
	config := minimal()
	config.SentryDSN = server.DSN()
	config.Logger = log.logger(slog.LevelWarn)
	client := open(t, config)
	for script, code := range map[string]int{"exit 0": 0, "exit 3": 3, "kill -KILL $$": -1, "kill -TERM $$": -1} {
		err := client.Supervise("dataplane", exec.Command("sh", "-c", script))
		var ended *exec.ExitError
		if got := errors.As(err, &ended); got != (code != 0) || got && ended.ExitCode() != code {
			t.Fatalf("%s: %v", script, err)
		}
	}
	if err := client.Supervise("dataplane", exec.Command("/nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	works(t, client.Flush(context.Background()))
	said := map[string]int{}
	for _, event := range server.Events(t) {
		said[event.What()]++
	}
	if len(said) != 2 || said["dataplane exited with code 3"] != 1 || said["dataplane killed by SIGKILL"] != 1 {
		t.Fatal(said)
	}
	// What is wrong with the report does not become the child's.
	works(t, client.Supervise("dataplane", exec.Command("true")))
	if err := client.Supervise("Data Plane", exec.Command("false")); err == nil || !strings.Contains(log.String(), "Data Plane") {
		t.Fatal(err, log)
	}
	works(t, client.SetSwitches(0))
	before := log.String()
	if err := client.Supervise("dataplane", exec.Command("false")); err == nil || log.String() != before {
		t.Fatal(err, log)
	}
}

func TestWhatIsStoredIsDeliveredLater(t *testing.T) {
	config := minimal()
	config.SentryDSN = sink.Refusal(t)
	config.StateDir = stateDir(t)
	config.CloseTimeout = -1
	client := open(t, config)
	works(t, client.ReportExit("dataplane", syscall.WaitStatus(256), ""))
	err := client.Flush(context.Background())
	fails(t, err, telemetry.ErrQueued, "Flush", "")
	works(t, client.Close())
	stored, err := filepath.Glob(filepath.Join(config.StateDir, "spool/crashes/*"))
	works(t, err)
	if len(stored) != 1 {
		t.Fatal(stored)
	}
}
