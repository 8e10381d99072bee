//go:build !(linux && cgo)

package telemetry_test

import (
	"errors"
	"testing"

	telemetry "github.com/ondat/telemetry/bindings/go"
)

func TestWithoutCgoNothingIsAvailable(t *testing.T) {
	client, err := telemetry.New(telemetry.Config{Component: "c", Version: "1.2.3", ClusterID: "c", NodeID: "n"})
	if client != nil || !errors.Is(err, telemetry.ErrUnavailable) || telemetry.Version() != "" {
		t.Fatal(client, err, telemetry.Version())
	}
	if err := client.Start(); !errors.Is(err, telemetry.ErrUnavailable) {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
}
