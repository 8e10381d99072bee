//go:build linux && cgo && !victim_late

package main

import (
	telemetry "github.com/ondat/telemetry/bindings/go"
)

type linked struct{ client *telemetry.Client }

func install(scenario string) (installation, error) {
	client, err := telemetry.New(telemetry.Config{
		Component: "victim",
		Version:   "1.2.3",
		ClusterID: "cluster-1",
		NodeID:    "node-1",
		LoadEnv:   true,
	})
	if err != nil {
		return nil, err
	}
	options := telemetry.CrashOptions{
		CoreDumps:       scenario == "core",
		KeepCrashOutput: scenario == "own_output",
	}
	if err := client.InstallCrashHandler(options); err != nil {
		return nil, err
	}
	return linked{client}, client.Start()
}

func (l linked) close() { l.client.Close() }
