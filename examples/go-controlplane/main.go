// Go-controlplane is a small control plane: it says when there is a newer version, reports once a day what it knows of this
// machine, runs a dataplane and reports how that ends.
//
//	go-controlplane [-report-now] [-restarts N] DATAPLANE [ARGUMENT...]
//
// Where to ask and whom to tell comes from the environment, as do the switches that turn it off: see docs/settings.md.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	telemetry "github.com/ondat/telemetry/bindings/go"
)

const version = "2.8.1"

func main() {
	reportNow := flag.Bool("report-now", false, "report at once, not only in this node's slot of the day")
	restarts := flag.Int("restarts", -1, "how often a dataplane that ends is started again, -1 for always")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	hostname, err := os.Hostname()
	if err != nil {
		hostname = "node"
	}
	client, err := telemetry.New(telemetry.Config{
		Component: "controlplane",
		Version:   version,
		ClusterID: "6b1f2a52-8a3c-4d57-9d0c-2f1f6d7a9e10",
		NodeID:    hostname,
		LoadEnv:   true,
		Logger:    log,
		OnVersion: func(info telemetry.VersionInfo) { notice(log, info) },
		OnReport:  func(w *telemetry.ReportWriter) error { return stream(w, hostname) },
	})
	if err != nil {
		// The client is nil then: every call below says so and does nothing.
		log.Warn("going on without telemetry", "error", err)
	}
	// A dataplane's last words are worth a second. In a panic it leaves the monitor on watch.
	defer client.Close()
	quietly(log, "crash handler", client.InstallCrashHandler(telemetry.CrashOptions{}))

	soon, cancel := context.WithTimeout(ctx, 10*time.Second)
	_, err = client.CheckVersion(soon)
	quietly(log, "version check", err)
	if *reportNow {
		quietly(log, "daily report", client.SubmitReport(soon, report(hostname)))
	}
	cancel()
	quietly(log, "schedule", client.Start())

	supervise(ctx, log, client, *restarts, flag.Args())
}

// notice is where a real control plane would light a lamp in its user interface.
func notice(log *slog.Logger, info telemetry.VersionInfo) {
	if info.Verdict >= telemetry.Outdated {
		log.Warn("a newer version is available", "latest", info.Latest, "running", info.Running, "verdict", info.Verdict,
			"advisory", info.Advisory)
	}
}

// quietly logs what went wrong, unless somebody wanted it so.
func quietly(log *slog.Logger, what string, err error) {
	if err != nil && !errors.Is(err, telemetry.ErrDisabled) {
		log.Warn("telemetry", "what", what, "error", err)
	}
}

// supervise runs the dataplane until it ends well or is stopped, and starts it again, later and later, when it crashes.
func supervise(ctx context.Context, log *slog.Logger, client *telemetry.Client, restarts int, command []string) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		child := exec.CommandContext(ctx, command[0], command[1:]...)
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		// Stopped, not killed: a kill is a crash.
		child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
		// One of the two reports its death, and this one sees every kind of it.
		child.Env = append(os.Environ(), "DO_NOT_TRACK=1")
		started := time.Now()
		err := client.Supervise("dataplane", child)
		if err == nil || ctx.Err() != nil {
			log.Info("the dataplane has ended")
			return
		}
		log.Error("the dataplane has died", "error", err)
		if restarts == 0 {
			return
		}
		restarts--
		if time.Since(started) > time.Minute {
			pause = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
