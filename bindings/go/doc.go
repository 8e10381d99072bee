// Package telemetry tells a control plane about new versions, sends one sealed report a day, and tells the vendor how the
// process died. It is a thin binding of the library ondat-telemetry. The README of the library says what leaves the
// machine and how to turn it off.
//
// # A client
//
// A client is created from a [Config], whose zero values are the library's defaults. It does nothing by itself until it is
// started. If New fails, the host continues with the nil client, whose methods return [ErrUnavailable]:
//
//	client, err := telemetry.New(telemetry.Config{
//		Component:   "controlplane",
//		Version:     "2.8.2",
//		ClusterID:   clusterID,
//		NodeID:      nodeID,
//		StateDir:    "/var/lib/storageos/telemetry",
//		VersionZone: "latest.example.com",
//		SentryDSN:   "https://key@sentry.example.com/1",
//		LoadEnv:     true,
//		Logger:      slog.Default(),
//	})
//	if err != nil {
//		slog.Warn("going on without telemetry", "error", err)
//	}
//	defer client.Close()
//
// # New versions
//
// Once started, the client asks once a day. It calls Config.OnVersion when something has changed. [Client.LatestVersion]
// returns at any time what is known. [Client.CheckVersion] asks at once.
//
//	info, err := client.CheckVersion(ctx)
//	if err == nil && info.Verdict >= telemetry.UpgradeRecommended {
//		slog.Warn("upgrade recommended", "latest", info.Latest, "advisory", info.Advisory)
//	}
//
// # The daily report
//
// Config.OnReport fills the report when it is due, record by record, so a cluster of any size needs no more memory than one
// record. A record may be reused:
//
//	OnReport: func(w *telemetry.ReportWriter) error {
//		if err := w.SetCluster(&telemetry.Cluster{K8sVersion: "v1.31.2"}); err != nil {
//			return err
//		}
//		return w.AddVolumes(func(yield func(*telemetry.Volume, error) bool) {
//			var volume telemetry.Volume
//			for rows.Next() {
//				err := rows.Scan(&volume.ID, &volume.FSType)
//				if !yield(&volume, err) {
//					return
//				}
//			}
//		})
//	}
//
// [Client.PreviewReport] shows what would be sent, and [Client.SubmitReport] sends a report in one piece.
//
// # Crashes
//
// After [Client.InstallCrashHandler] a monitor, a small separate process, reports every abnormal end of the process:
//
//	client.InstallCrashHandler(telemetry.CrashOptions{})
//
// Reports say "controlplane exited with code 2 (Go panic)" or "(Go fatal error)", "killed by SIGKILL (memory limit)" and
// the like. Panic messages, stacks and paths are never sent. Recovered panics are not reported. The runtime's signal
// handling, [os/signal] and profiling are not changed. To tell panics from fatal errors the binding calls
// [runtime/debug.SetCrashOutput]; a host with a crash output of its own sets CrashOptions.KeepCrashOutput.
//
// A deferred Close does not prevent the report: while a panic unwinds, [Client.Close] delivers what is stored and leaves the
// monitor watching. Otherwise it ends the watch: an exit with code 3 after it is not reported.
//
// A control plane that runs dataplanes can report how they end, too:
//
//	err := client.Supervise("dataplane", exec.Command("/usr/sbin/dataplane"))
//
// or, if something else waits for the child, with [Client.ReportExit] and the status of [os.ProcessState.Sys].
//
// # Errors and contexts
//
// Errors are of type [*Error], with a line that says why, and unwrap to a [Code] such as [ErrDisabled] or [ErrQueued].
// Methods that wait for the network take a context. Its deadline bounds the use of the network; without a deadline
// Config.Timeout does. If the context is already done, the method returns at once. Cancelling it later does not interrupt
// the call.
//
// # Building
//
// The package links the shared library by pkg-config, or the archive with the build tag ondat_telemetry_static. Without cgo,
// or on systems other than Linux, it compiles as well, and New returns [ErrUnavailable].
package telemetry
