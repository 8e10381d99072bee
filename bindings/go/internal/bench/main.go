//go:build linux && cgo

// Bench prints what the binding costs over the library:
//
//	bench FOLDER SECONDS
//
// SECONDS are the CPU time of benches/report.c for its report of 100 000 volumes, of which this one makes the like.
package main

import (
	"fmt"
	"iter"
	"log"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	telemetry "github.com/ondat/telemetry/bindings/go"
	"github.com/ondat/telemetry/bindings/go/internal/empty"
	"github.com/ondat/telemetry/bindings/go/internal/testclock"
)

// X25519, RFC 7748, 6.1: Alice's.
const reportKeys = `{"keys":[{"id":"300c9c9603b92a4b","kem":"X25519",` +
	`"public":"hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=","not_before":0,"not_after":253402300799}]}`

const count = 100_000

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: bench FOLDER SECONDS")
	}
	theirs, err := strconv.ParseFloat(os.Args[2], 64)
	must(err)
	calls()
	ours, size := report(os.Args[1])
	fmt.Printf("Go: daily report of %d volumes %17s %6.2f s of CPU   %4.2f times C's   %d bytes sealed\n", count, "", ours,
		ours/theirs, size)
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func config() telemetry.Config {
	return telemetry.Config{Component: "bench", Version: "1.2.3", ClusterID: "cluster-1", NodeID: "node-1"}
}

// calls compares a call that does nothing in the library with one that does nothing in C. The better of several: others
// use this machine, too.
func calls() {
	client, err := telemetry.New(config())
	must(err)
	defer client.Close()
	nothing, switches := math.Inf(1), math.Inf(1)
	for range 5 {
		nothing = min(nothing, nanoseconds(empty.Call))
		switches = min(switches, nanoseconds(func() { client.Switches() }))
	}
	fmt.Printf("Go: Switches %32s %6.1f ns   an empty cgo call %.1f ns   difference %.1f ns\n", "", switches, nothing,
		switches-nothing)
}

func nanoseconds(f func()) float64 {
	result := testing.Benchmark(func(b *testing.B) {
		for range b.N {
			f()
		}
	})
	return float64(result.T.Nanoseconds()) / float64(result.N)
}

// report is what benches/report.c does: from the first record until the sealed report is stored.
func report(folder string) (cpuSeconds float64, bytes int64) {
	state := filepath.Join(folder, "state-go")
	spool := filepath.Join(state, "spool/reports")
	for _, each := range []string{state, filepath.Dir(spool), spool} {
		must(os.Mkdir(each, 0o700))
	}
	watch, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
	must(err)
	_, err = syscall.InotifyAddWatch(watch, spool, syscall.IN_MOVED_TO)
	must(err)

	settings := config()
	settings.StateDir = state
	// Nobody is there: what is measured ends when the report is stored.
	settings.ReportURL, settings.ReportKeys = "http://127.0.0.1:9", reportKeys
	var before time.Duration
	settings.OnReport = func(w *telemetry.ReportWriter) error {
		before = cpu()
		must(w.SetCluster(&cluster))
		must(w.AddNodes(telemetry.Each(nodes())))
		must(w.AddVolumes(volumes()))
		return nil
	}
	settings.CloseTimeout = -1
	testclock.AtMidnight()
	client, err := telemetry.New(settings)
	must(err)
	testclock.Pass(testclock.Day - 1)
	must(client.Start())
	_, err = syscall.Read(watch, make([]byte, 4096))
	must(err)
	after := cpu()
	stored, err := filepath.Glob(filepath.Join(spool, "*"))
	must(err)
	info, err := os.Stat(stored[0])
	must(err)
	must(client.Close())
	return (after - before).Seconds(), info.Size()
}

// cpu is what this process has used, user and kernel together.
func cpu() time.Duration {
	var used syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

var (
	yes, no = telemetry.Bool(true), telemetry.Bool(false)
	cluster = telemetry.Cluster{
		APICallMetrics: map[string]map[int]uint64{
			"ListNodes": {200: 1440}, "CreateVolume": {201: 5, 409: 1}, "AttachVolume": {200: 9},
		},
		DisableCrashReporting: no, DisableVersionCheck: no, LogFormat: telemetry.LogFormatJSON,
		LogLevel: telemetry.LogLevelInfo, TLSProvided: yes, K8sDistribution: "rancher-1.2", K8sInK8s: yes,
		K8sSchedulerExtenderEnabled: yes, K8sVersion: "v1.31.2+rke2r1",
	}
)

func nodes() []telemetry.Node {
	total, free, available := uint64(109951162777600), uint64(76965813944320), uint64(70368744177664)
	all := make([]telemetry.Node, 3)
	for at := range all {
		all[at] = telemetry.Node{
			AvailableBytes:   &available,
			Capacity:         &telemetry.Capacity{Total: &total, Free: &free, Available: &available},
			CrashFilesOnDisk: new(uint64), CreatedAtTime: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC),
			EtcdConfig:             &telemetry.EtcdConfig{Endpoints: telemetry.Uint64(3), Namespaced: yes, TLS: yes},
			EtcdNamespacingEnabled: yes, EtcdTLSEnabled: yes, FreeBytes: &free, Health: telemetry.Online,
			HTTPTLSEnabled: no, ID: fmt.Sprintf("storage-%d.rack-3.corp.internal", at),
			Labels: map[string]string{
				"kubernetes.io/arch": "amd64", "kubernetes.io/hostname": fmt.Sprintf("storage-%d", at),
				"topology.kubernetes.io/zone": "b",
			},
			Status: "alive", StorageOSVersion: "2.8.1",
			SystemClockTime: time.Date(2026, 11, 24, 4, 0, 0, 0, time.UTC), TotalBytes: &total, Version: "MQ",
		}
	}
	return all
}

// draws is SplitMix64: the same volumes in every run.
type draws uint64

func (d *draws) next() uint64 {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

func (d *draws) below(bound uint64) uint64 { return d.next() % bound }

// volumes are all 22 fields, three labels of which two are not on the public list.
func volumes() iter.Seq2[*telemetry.Volume, error] {
	return func(yield func(*telemetry.Volume, error) bool) {
		state := draws(1)
		var numbers [14]uint64
		labels, metrics := map[string]string{}, map[string]float64{}
		volume := telemetry.Volume{
			Labels: labels, Metrics: metrics, PlacementStrategy: "recommended",
			MasterAttach: &numbers[0], MasterDeleteDeployment: &numbers[1], MasterDetach: &numbers[2],
			MasterFailoverDeployment: &numbers[3], MasterPromote: &numbers[4], MasterProvision: telemetry.Uint64(1),
			MasterRecoverReplica: &numbers[5], MasterTriggerRejoin: &numbers[6], ReplicaDeleteDeployment: &numbers[7],
			ReplicaFailoverDeployment: &numbers[8], ReplicaPromote: &numbers[9], ReplicaProvision: &numbers[10],
			Replicas: &numbers[11], ReplicaTriggerRejoin: &numbers[12], SizeBytes: &numbers[13],
		}
		below := state.below
		for range count {
			volume.FSType = telemetry.XFS
			if below(10) > 0 {
				volume.FSType = telemetry.Ext4
			}
			high, low := state.next(), state.next()
			volume.ID = fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", high>>32, high>>16&0xffff, high&0xfff,
				0x8000|(low>>48&0x3fff), low&0xffffffffffff)
			labels["storageos.com/replicas"] = strconv.FormatUint(below(3), 10)
			labels["app.kubernetes.io/name"] = "service-" + strconv.FormatUint(below(100), 10)
			labels["team"] = "payments-" + strconv.FormatUint(below(40), 10)
			for at, bound := range []uint64{20, 2, 20, 3, 4, 5, 2} {
				numbers[at] = below(bound)
			}
			metrics["read_iops"], metrics["write_iops"] = float64(below(5000)), float64(below(5000))
			volume.ProvisionSourceUserAgent = "storageos-cli/2.4." + strconv.FormatUint(below(5), 10) + " (linux/amd64)"
			for at, bound := range []uint64{2, 3, 3, 3, 3, 4} {
				numbers[7+at] = below(bound)
			}
			numbers[13] = (1 + below(500)) << 30
			if !yield(&volume, nil) {
				return
			}
		}
	}
}
