//go:build linux && cgo

package telemetry_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"weak"

	telemetry "github.com/ondat/telemetry/bindings/go"
	"github.com/ondat/telemetry/bindings/go/internal/sink"
)

func TestManyGoroutinesUseAClientThatCloses(t *testing.T) {
	const goroutines = 64
	config := minimal()
	config.VersionZone = zone
	config.Nameservers, config.VersionKey = signed(t)
	config.SentryDSN = sink.Refusal(t)
	var client *telemetry.Client
	config.OnVersion = func(telemetry.VersionInfo) { client.Switches() }
	for range 5 {
		client = open(t, config)
		works(t, client.Start())
		var running, done sync.WaitGroup
		running.Add(goroutines)
		done.Add(goroutines)
		for number := range goroutines {
			go func() {
				defer done.Done()
				ctx := context.Background()
				for round := 0; ; round++ {
					var err error
					switch (number + round) % 8 {
					case 0:
						_, err = client.CheckVersion(ctx)
					case 1:
						_, err = client.LatestVersion()
					case 2:
						_, err = client.ExplainSwitches()
					case 3:
						_, err = client.PreviewReport(full)
					case 4:
						err = client.ReportExit("dataplane", syscall.WaitStatus(256), "")
					case 5:
						err = client.Flush(ctx)
					case 6:
						err = client.SetSwitches(telemetry.AllSwitches)
					case 7:
						client.Switches()
					}
					if round == 0 {
						running.Done()
					}
					if errors.Is(err, telemetry.ErrClosed) {
						return
					}
					for _, bug := range []error{telemetry.ErrInvalidArgument, telemetry.ErrInternal} {
						if errors.Is(err, bug) {
							t.Error(err)
							return
						}
					}
				}
			}()
		}
		running.Wait()
		for range 2 {
			done.Add(1)
			go func() {
				defer done.Done()
				client.Close()
			}()
		}
		works(t, client.Close())
		done.Wait()
	}
}

// A callback that calls the client while Close is waiting for the call that it belongs to.
func TestACallbackCallsAClientThatIsClosing(t *testing.T) {
	config := minimal()
	config.VersionZone = zone
	config.Nameservers, config.VersionKey = signed(t)
	inside, goOn := make(chan struct{}), make(chan struct{})
	var client *telemetry.Client
	config.OnVersion = func(telemetry.VersionInfo) {
		close(inside)
		<-goOn
		// Either is right: Close may have begun, or not yet.
		_, err := client.LatestVersion()
		if err != nil && !errors.Is(err, telemetry.ErrClosed) {
			t.Error(err)
		}
	}
	client = open(t, config)
	checked, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := client.CheckVersion(context.Background())
		checked <- err
	}()
	receive(t, "the callback", inside)
	go func() { closed <- client.Close() }()
	for { // until Close has begun
		if _, err := client.LatestVersion(); errors.Is(err, telemetry.ErrClosed) {
			break
		}
		runtime.Gosched()
	}
	select {
	case <-closed:
		t.Fatal("Close did not wait for the call")
	default:
	}
	close(goOn)
	works(t, receive(t, "the call", checked))
	works(t, receive(t, "Close", closed))
}

// footprint is what a process holds.
type footprint struct{ descriptors, threads, residentKiB int }

func measure(t testing.TB) footprint {
	count := func(folder string) int {
		entries, err := os.ReadDir(folder)
		works(t, err)
		return len(entries)
	}
	runtime.GC()
	statm, err := os.ReadFile("/proc/self/statm")
	works(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	works(t, err)
	return footprint{count("/proc/self/fd"), count("/proc/self/task"), pages * os.Getpagesize() / 1024}
}

// referred makes and closes a client and returns what its callbacks refer to.
func referred(t *testing.T, config telemetry.Config, fail bool) weak.Pointer[[64]byte] {
	held := new([64]byte)
	config.OnVersion = func(telemetry.VersionInfo) { held[0]++ }
	config.OnReport = func(*telemetry.ReportWriter) error { held[1]++; return nil }
	if fail {
		config.Version = "none"
		if _, err := telemetry.New(config); err == nil {
			t.Error("a bad version was taken")
		}
		return weak.Make(held)
	}
	client, err := telemetry.New(config)
	if err != nil {
		t.Error(err)
		return weak.Make(held)
	}
	if err := client.Start(); err != nil {
		t.Error(err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	return weak.Make(held)
}

func TestNothingOfAClosedClientIsKept(t *testing.T) {
	for _, fail := range []bool{false, true} {
		pointer := referred(t, minimal(), fail)
		for deadline := time.Now().Add(sink.Deadline * time.Second); pointer.Value() != nil; runtime.GC() {
			if time.Now().After(deadline) {
				t.Fatal("a handle keeps what a callback refers to")
			}
		}
	}
}

// As many as ONDAT_TELEMETRY_CYCLES says; `tools/test-go` lets it be more.
func TestClientsLeaveNothingBehind(t *testing.T) {
	cycles := 5000
	if text := os.Getenv("ONDAT_TELEMETRY_CYCLES"); text != "" {
		var err error
		cycles, err = strconv.Atoi(text)
		works(t, err)
	}
	config := minimal()
	config.CloseTimeout = -1
	config.OnVersion = func(telemetry.VersionInfo) {}
	config.OnReport = func(*telemetry.ReportWriter) error { return nil }
	cycle := func(number int) {
		client, err := telemetry.New(config)
		works(t, err)
		// A thread each costs more than all the rest.
		if number%100 == 0 {
			works(t, client.Start())
		}
		works(t, client.Close())
	}
	for number := range cycles / 10 {
		cycle(number)
	}
	before := measure(t)
	for number := range cycles {
		cycle(number)
	}
	after := measure(t)
	t.Logf("%d cycles: %+v, then %+v", cycles, before, after)
	// Go's own threads and heap come and go; of a million cycles 32 MiB are 33 bytes each.
	if after.descriptors > before.descriptors || after.threads > before.threads+8 || after.residentKiB > before.residentKiB+32<<10 {
		t.Fatalf("%d cycles: %+v, then %+v", cycles, before, after)
	}
}
