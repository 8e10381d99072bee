//go:build linux && cgo

package telemetry_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
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
