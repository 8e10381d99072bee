//go:build linux && cgo

package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	telemetry "github.com/ondat/telemetry/bindings/go"
)

// A client that is told to do nothing but show what it would send.
func Example() {
	client, err := telemetry.New(telemetry.Config{
		Component: "controlplane",
		Version:   "2.8.1",
		ClusterID: "6b1f2a52-8a3c-4d57-9d0c-2f1f6d7a9e10",
		NodeID:    "storage-1",
		Off:       telemetry.AllSwitches,
	})
	if err != nil {
		fmt.Println("going on without telemetry:", err)
	}
	defer client.Close()

	preview, err := client.PreviewReport(telemetry.Report{
		Nodes: []telemetry.Node{{ID: "storage-1", Health: telemetry.Online, TotalBytes: telemetry.Uint64(1 << 40)}},
	})
	fmt.Println(len(preview) > 0, err)
	fmt.Println(client.Start())

	// Output:
	// true <nil>
	// <nil>
}

func ExampleClient_CheckVersion() {
	client, err := telemetry.New(telemetry.Config{
		Component: "controlplane", Version: "2.8.1", ClusterID: "cluster", NodeID: "storage-1",
		VersionZone: "latest.example.com",
		Off:         telemetry.VersionCheck,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	info, err := client.CheckVersion(ctx)
	switch {
	case errors.Is(err, telemetry.ErrDisabled):
		fmt.Println("nobody is asked")
	case err != nil:
		fmt.Println(err)
	case info.Verdict >= telemetry.UpgradeRecommended:
		fmt.Println("please upgrade to", info.Latest)
	}

	// Output: nobody is asked
}

func ExampleClient_Supervise() {
	// A nil client: telemetry is off, and the child runs all the same.
	var client *telemetry.Client
	err := client.Supervise("dataplane", exec.Command("sh", "-c", "exit 3"))
	fmt.Println(err)

	// Output: exit status 3
}

// Where something else waits for the child.
func ExampleClient_ReportExit() {
	client, err := telemetry.New(telemetry.Config{
		Component: "controlplane", Version: "2.8.1", ClusterID: "cluster", NodeID: "storage-1",
		SentryDSN: "https://key@sentry.example.com/1",
		Off:       telemetry.CrashReports,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	child := exec.Command("sh", "-c", "kill -SEGV $$")
	_ = child.Run()
	status := child.ProcessState.Sys().(syscall.WaitStatus)
	fmt.Println(status.Signal())
	err = client.ReportExit("dataplane", status, "while attaching a volume")
	fmt.Println(errors.Is(err, telemetry.ErrDisabled))

	// Output:
	// segmentation fault
	// true
}
