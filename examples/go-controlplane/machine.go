package main

import (
	"bufio"
	"iter"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	telemetry "github.com/ondat/telemetry/bindings/go"
)

// stream fills the daily report: one record is in memory at a time.
func stream(w *telemetry.ReportWriter, hostname string) error {
	all := cluster()
	if err := w.SetCluster(&all); err != nil {
		return err
	}
	self := node(hostname)
	if err := w.AddNode(&self); err != nil {
		return err
	}
	return w.AddVolumes(volumes())
}

// report is the same in one piece.
func report(hostname string) telemetry.Report {
	report := telemetry.Report{Cluster: cluster(), Nodes: []telemetry.Node{node(hostname)}}
	for volume, err := range volumes() {
		if err != nil {
			break // what is known is worth reporting
		}
		report.Volumes = append(report.Volumes, *volume)
	}
	return report
}

func cluster() telemetry.Cluster {
	_, inK8s := os.LookupEnv("KUBERNETES_SERVICE_HOST")
	return telemetry.Cluster{
		APICallMetrics: map[string]map[int]uint64{"ListNodes": {200: 14}, "CreateVolume": {201: 2, 409: 1}},
		LogFormat:      telemetry.LogFormatDefault,
		LogLevel:       telemetry.LogLevelInfo,
		TLSProvided:    telemetry.Bool(false),
		K8sInK8s:       telemetry.Bool(inK8s),
	}
}

func node(hostname string) telemetry.Node {
	self := telemetry.Node{
		ID:               hostname,
		Health:           telemetry.Online,
		Status:           "alive",
		StorageOSVersion: version,
		SystemClockTime:  time.Now(),
		Labels: map[string]string{
			"kubernetes.io/arch": runtime.GOARCH,
			"kubernetes.io/os":   runtime.GOOS,
			"kernel":             kernel(),
			"memory":             memory(),
		},
	}
	var root syscall.Statfs_t
	if syscall.Statfs("/", &root) == nil {
		block := uint64(root.Frsize)
		total, free, available := root.Blocks*block, root.Bfree*block, root.Bavail*block
		self.TotalBytes, self.FreeBytes, self.AvailableBytes = &total, &free, &available
		self.Capacity = &telemetry.Capacity{Total: &total, Free: &free, Available: &available}
	}
	return self
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(release))
}

// memory is such as "16384000 kB".
func memory() string {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if total, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			return strings.TrimSpace(total)
		}
	}
	return "unknown"
}

// volumes are the file systems of this machine, each once. The record is the same every time, with other content.
func volumes() iter.Seq2[*telemetry.Volume, error] {
	return func(yield func(*telemetry.Volume, error) bool) {
		mounts, err := os.Open("/proc/self/mounts")
		if err != nil {
			yield(nil, err)
			return
		}
		defer mounts.Close()
		seen := map[string]bool{}
		lines := bufio.NewScanner(mounts)
		for lines.Scan() {
			// proc_pid_mounts(5): device, folder, type.
			words := strings.Fields(lines.Text())
			if len(words) < 3 || seen[words[0]] {
				continue
			}
			kind, ok := kinds[words[2]]
			if !ok && words[1] != "/" {
				continue
			}
			seen[words[0]] = true
			volume := telemetry.Volume{ID: words[0], FSType: kind, Replicas: telemetry.Uint64(0)}
			var stat syscall.Statfs_t
			if syscall.Statfs(words[1], &stat) == nil {
				volume.SizeBytes = telemetry.Uint64(stat.Blocks * uint64(stat.Frsize))
				volume.Metrics = map[string]float64{"free_inodes": float64(stat.Ffree)}
			}
			if !yield(&volume, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(nil, err)
		}
	}
}

var kinds = map[string]telemetry.FSType{
	"ext2": telemetry.Ext2, "ext3": telemetry.Ext3, "ext4": telemetry.Ext4, "xfs": telemetry.XFS, "btrfs": telemetry.Btrfs,
}
