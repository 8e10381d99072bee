//go:build linux && cgo

package telemetry_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	telemetry "github.com/ondat/telemetry/bindings/go"
	"github.com/ondat/telemetry/bindings/go/internal/sink"
)

// watched makes a client with the crash handler.
func watched(t testing.TB, options telemetry.CrashOptions) *telemetry.Client {
	t.Helper()
	config := minimal()
	config.SentryDSN = sink.Refusal(t)
	config.MonitorPath = monitorPath(t)
	client := open(t, config)
	works(t, client.InstallCrashHandler(options))
	return client
}

// monitorPath is that of the prefix which pkg-config knows: a program that is linked statically does not look there.
func monitorPath(t testing.TB) string {
	folder, err := exec.Command("pkg-config", "--variable=prefix", "ondat_telemetry").Output()
	works(t, err)
	return filepath.Join(strings.TrimSpace(string(folder)), "libexec/ondat-telemetry-monitor")
}

// leadingTo counts the descriptors of this process that lead to a place.
func leadingTo(t testing.TB, place string) int {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	works(t, err)
	count := 0
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, place) {
			count++
		}
	}
	return count
}

func TestOneClientCanHaveTheCrashHandler(t *testing.T) {
	client := watched(t, telemetry.CrashOptions{})
	config := minimal()
	config.SentryDSN = sink.Refusal(t)
	config.MonitorPath = monitorPath(t)
	other := open(t, config)
	fails(t, other.InstallCrashHandler(telemetry.CrashOptions{}), telemetry.ErrInvalidState, "InstallCrashHandler", "another client")
	works(t, client.Close())
	works(t, other.InstallCrashHandler(telemetry.CrashOptions{}))
}

func TestTheCrashHandlerLeavesNothingBehind(t *testing.T) {
	before := leadingTo(t, "")
	for range 20 {
		works(t, watched(t, telemetry.CrashOptions{}).Close())
	}
	if after := leadingTo(t, ""); after != before {
		t.Fatalf("%d descriptors, then %d", before, after)
	}
}

// What the host gives the runtime after us is not taken from it.
func TestAHostsLaterCrashOutputStays(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "output"))
	works(t, err)
	defer debug.SetCrashOutput(nil, debug.CrashOptions{})
	client := watched(t, telemetry.CrashOptions{})
	works(t, debug.SetCrashOutput(file, debug.CrashOptions{}))
	works(t, file.Close())
	works(t, client.Close())
	if count := leadingTo(t, file.Name()); count != 1 {
		t.Fatalf("the runtime has %d descriptors of it", count)
	}
	works(t, watched(t, telemetry.CrashOptions{KeepCrashOutput: true}).Close())
	if count := leadingTo(t, file.Name()); count != 1 {
		t.Fatalf("the runtime has %d descriptors of it", count)
	}
}

// recovered has a client closed by a panic that is recovered after all.
func recovered(t *testing.T, client *telemetry.Client) {
	t.Helper()
	defer func() {
		if recover() != "here" {
			t.Fatal("the scenario did not happen")
		}
	}()
	defer client.Close()
	panic("here")
}

func TestAPanicLeavesTheClientOpen(t *testing.T) {
	before := leadingTo(t, "")
	client := watched(t, telemetry.CrashOptions{})
	for range 3 {
		recovered(t, client)
		if _, err := client.LatestVersion(); err != nil {
			t.Fatal(err)
		}
	}
	works(t, client.Close())
	recovered(t, client)
	_, err := client.LatestVersion()
	fails(t, err, telemetry.ErrClosed, "LatestVersion", "")
	if after := leadingTo(t, ""); after != before {
		t.Fatalf("%d descriptors, then %d", before, after)
	}
}

// What a panic has left open is closed for the next one, so that a part of the host can end and begin again and again.
func TestAClientLeftOpenMakesRoom(t *testing.T) {
	before := leadingTo(t, "")
	var last *telemetry.Client
	for range 20 {
		client := watched(t, telemetry.CrashOptions{})
		if last != nil {
			_, err := last.LatestVersion()
			fails(t, err, telemetry.ErrClosed, "LatestVersion", "")
		}
		recovered(t, client)
		last = client
	}
	works(t, last.Close())
	if after := leadingTo(t, ""); after != before {
		t.Fatalf("%d descriptors, then %d", before, after)
	}
}

// Without a crash handler there is nobody whom it would tell something else.
func TestAPanicClosesAClientWithoutACrashHandler(t *testing.T) {
	client := open(t, minimal())
	recovered(t, client)
	_, err := client.LatestVersion()
	fails(t, err, telemetry.ErrClosed, "LatestVersion", "")
}

func TestAPanicDeliversWhatIsStored(t *testing.T) {
	server := sink.ServeHTTP(t, 200)
	config := minimal()
	config.SentryDSN = server.DSN()
	config.MonitorPath = monitorPath(t)
	config.CloseTimeout = time.Minute
	client := open(t, config)
	works(t, client.InstallCrashHandler(telemetry.CrashOptions{}))
	works(t, client.ReportExit("dataplane", syscall.WaitStatus(256), ""))
	recovered(t, client)
	if events := server.Events(t); len(events) != 1 || events[0].What() != "dataplane exited with code 1" {
		t.Fatalf("%+v", events)
	}
}

// hang is a logger that waits for a lock.
type hang struct {
	mu    sync.Mutex
	lines atomic.Int32
}

func (h *hang) Write(line []byte) (int, error) {
	h.lines.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(line), nil
}

// A panic while the logger's lock is held, with something to log, does not wait for ever.
func TestAPanicWaitsForNoLogger(t *testing.T) {
	server := sink.ServeHTTP(t, 200)
	var logger hang
	config := minimal()
	config.SentryDSN = server.DSN()
	config.MonitorPath = monitorPath(t)
	config.CloseTimeout = time.Minute
	config.Logger = slog.New(slog.NewTextHandler(&logger, nil))
	client := open(t, config)
	works(t, client.InstallCrashHandler(telemetry.CrashOptions{}))
	deliver := func(deliver func()) (lines int32) {
		bodies := len(server.Bodies())
		works(t, client.ReportExit("dataplane", syscall.WaitStatus(256), ""))
		logger.lines.Store(0)
		deliver()
		if len(server.Bodies()) != bodies+1 {
			t.Fatal("nothing was delivered")
		}
		return logger.lines.Load()
	}
	flush := func() { works(t, client.Flush(context.Background())) }
	panics := func() {
		logger.mu.Lock()
		defer logger.mu.Unlock()
		recovered(t, client)
	}
	if before, meanwhile, after := deliver(flush), deliver(panics), deliver(flush); before == 0 || meanwhile != 0 || after == 0 {
		t.Fatalf("lines: %d, while it is locked %d, then %d", before, meanwhile, after)
	}
}

// A call under way holds no panic up: it may wait for what the panic has left undone.
func TestAPanicWaitsForNoCall(t *testing.T) {
	config := minimal()
	config.SentryDSN = sink.Refusal(t)
	config.MonitorPath = monitorPath(t)
	config.VersionZone = zone
	config.Nameservers, config.VersionKey = signed(t)
	inside, goOn := make(chan struct{}), make(chan struct{})
	config.OnVersion = func(telemetry.VersionInfo) {
		close(inside)
		<-goOn
	}
	client := open(t, config)
	works(t, client.InstallCrashHandler(telemetry.CrashOptions{}))
	checked := make(chan error, 1)
	go func() {
		_, err := client.CheckVersion(context.Background())
		checked <- err
	}()
	receive(t, "the callback", inside)
	recovered(t, client)
	select {
	case <-checked:
		t.Fatal("the call did not wait")
	default:
	}
	close(goOn)
	works(t, receive(t, "the call", checked))
}

// Without cgo the runtime notices that nothing can go on any more; such a program has no monitor.
func TestSuperviseAProgramThatIsAsleep(t *testing.T) {
	program := filepath.Join(t.TempDir(), "asleep")
	build := exec.Command("go", "build", "-o", program, "./internal/asleep")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	server := sink.ServeHTTP(t, 200)
	config := minimal()
	config.SentryDSN = server.DSN()
	config.CloseTimeout = time.Minute
	client := open(t, config)
	child := exec.Command(program)
	var said strings.Builder
	child.Stderr = &said
	if err := client.Supervise("asleep", child); err == nil || !strings.Contains(said.String(), "all goroutines are asleep") {
		t.Fatalf("the scenario did not happen: %v\n%s", err, &said)
	}
	works(t, client.Close())
	events := server.Events(t)
	if len(events) != 1 || events[0].What() != "asleep exited with code 2" {
		t.Fatalf("%+v", events)
	}
}
