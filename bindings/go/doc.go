// Package telemetry tells a control plane about new versions, sends one sealed report a day, and tells the vendor how the
// process died. It is a thin binding of the library ondat-telemetry, whose README says what leaves the machine and how to
// turn it off.
//
// # A client
//
// A client is made from a [Config], whose zero values are the library's defaults, and does nothing by itself until it is
// started. A host whose New fails goes on with the nil client, whose methods return [ErrUnavailable]:
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
// Once started the client asks once a day. Config.OnVersion is called when there is news, and [Client.LatestVersion] says
// at any time what is known. [Client.CheckVersion] asks at once.
//
//	info, err := client.CheckVersion(ctx)
//	if err == nil && info.Verdict >= telemetry.UpgradeRecommended {
//		slog.Warn("upgrade recommended", "latest", info.Latest, "advisory", info.Advisory)
//	}
//
// # The daily report
//
// Config.OnReport fills it when it is due, record by record, so that a cluster of any size needs no more memory than one
// record. A record may be used again and again:
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
// [Client.InstallCrashHandler] has every abnormal end of the process reported by a monitor, a small process beside it:
//
//	client.InstallCrashHandler(telemetry.CrashOptions{})
//
// Reports say "controlplane exited with code 2 (Go panic)" or "(Go fatal error)", "killed by SIGKILL (memory limit)" and
// the like. What a panic says, stacks and paths are never sent. Panics that are recovered are nobody's business, and the
// runtime's signal handling, [os/signal] and profiling stay as they are. For this the binding calls
// [runtime/debug.SetCrashOutput]; a host that has a crash output of its own says so: CrashOptions.KeepCrashOutput.
//
// A deferred Close takes nothing from that: while a panic unwinds, [Client.Close] delivers what is stored and leaves the
// monitor on watch. Called otherwise it ends the watch: an exit with code 3 behind it is not reported.
//
// A control plane that runs dataplanes reports how they end, too:
//
//	err := client.Supervise("dataplane", exec.Command("/usr/sbin/dataplane"))
//
// or, where something else waits for the child, with [Client.ReportExit] and the status of [os.ProcessState.Sys].
//
// # Errors and contexts
//
// Errors are [*Error], with a line that says why, and unwrap to a [Code] such as [ErrDisabled] or [ErrQueued]. Methods
// that wait for the network take a context: its deadline bounds them, without one Config.Timeout does, and a context that
// is done prevents them. One that is cancelled later does not cut a call off.
//
// # Building
//
// The package links the shared library by pkg-config, the archive with the build tag ondat_telemetry_static. Without cgo,
// or on other systems than Linux, it compiles all the same, and New returns [ErrUnavailable].
package telemetry
