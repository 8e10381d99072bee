//go:build linux && cgo

package telemetry_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/ondat/telemetry/bindings/go/internal/sink"
)

// The worker may have claimed it already when Close comes.
func TestCloseDeliversWhatTheWorkerHasBegun(t *testing.T) {
	for round := range 50 {
		server := sink.ServeHTTP(t, 200)
		config := minimal()
		config.SentryDSN = server.DSN()
		config.StateDir = stateDir(t)
		config.CloseTimeout = 10 * time.Second
		client := open(t, config)
		works(t, client.Start())
		works(t, client.ReportExit("dataplane", syscall.WaitStatus(256), ""))
		works(t, client.Close())
		if got := len(server.Bodies()); got != 1 {
			t.Errorf("round %d: %d events", round, got)
		}
	}
}
