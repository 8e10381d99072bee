package telemetry_test

import (
	"context"
	"errors"
	"testing"

	telemetry "github.com/ondat/telemetry/bindings/go"
)

func TestErrors(t *testing.T) {
	var err error = &telemetry.Error{Op: "Start", Code: telemetry.ErrInvalidState, Detail: "started twice"}
	if !errors.Is(err, telemetry.ErrInvalidState) || errors.Is(err, telemetry.ErrQueued) ||
		errors.Is(err, context.Canceled) || err.Error() != "telemetry: Start: started twice" {
		t.Fatal(err)
	}
	var code telemetry.Code
	if !errors.As(err, &code) || code != 3 {
		t.Fatal(code)
	}
	err = &telemetry.Error{Op: "Flush", Code: telemetry.ErrClosed}
	if err.Error() != "telemetry: Flush: client is closed" {
		t.Fatal(err)
	}
	if telemetry.Code(99).Error() != "telemetry: unknown status 99" {
		t.Fatal(telemetry.Code(99))
	}
	if telemetry.UpgradeRequired.String() != "upgrade required" || telemetry.Verdict(9).String() != "verdict 9" {
		t.Fatal("verdicts")
	}
	if !telemetry.AllSwitches.Has(telemetry.DailyReport) || telemetry.VersionCheck.Has(telemetry.AllSwitches) {
		t.Fatal("switches")
	}
}
