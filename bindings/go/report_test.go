//go:build linux && cgo

package telemetry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	telemetry "github.com/ondat/telemetry/bindings/go"
	"github.com/ondat/telemetry/bindings/go/internal/sink"
	"github.com/ondat/telemetry/bindings/go/internal/testclock"
)

// schema is what a JSON Schema says of names.
type schema struct {
	Properties map[string]schema
	Items      *schema
}

// names are the JSON names of a struct, with those of structs in it behind a dot.
func names(of reflect.Type, prefix string) []string {
	var found []string
	for at := range of.NumField() {
		field := of.Field(at)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		found = append(found, prefix+name)
		if field.Type.Kind() == reflect.Pointer && field.Type.Elem().Kind() == reflect.Struct {
			found = append(found, names(field.Type.Elem(), prefix+name+".")...)
		}
	}
	slices.Sort(found)
	return found
}

func (s schema) names(prefix string) []string {
	var found []string
	for name, property := range s.Properties {
		if property.Items == nil {
			found = append(append(found, prefix+name), property.names(prefix+name+".")...)
		}
	}
	slices.Sort(found)
	return found
}

func TestTheFieldsAreThoseOfTheSchema(t *testing.T) {
	text, err := os.ReadFile("../../docs/report.schema.json")
	works(t, err)
	var document schema
	works(t, json.Unmarshal(text, &document))
	for _, level := range []struct {
		of   reflect.Type
		says schema
	}{
		{reflect.TypeFor[telemetry.Cluster](), document},
		{reflect.TypeFor[telemetry.Node](), *document.Properties["nodes"].Items},
		{reflect.TypeFor[telemetry.Volume](), *document.Properties["volumes"].Items},
	} {
		ours, theirs := names(level.of, ""), level.says.names("")
		if !slices.Equal(ours, theirs) {
			t.Errorf("%v has\n%v, the schema\n%v", level.of, ours, theirs)
		}
	}
}

var (
	cluster = telemetry.Cluster{
		APICallMetrics:        map[string]map[int]uint64{"ListNodes": {200: 14, 503: 1}},
		DisableCrashReporting: telemetry.Bool(false), DisableVersionCheck: telemetry.Bool(true),
		LogFormat: telemetry.LogFormatJSON, LogLevel: telemetry.LogLevelWarn, TLSProvided: telemetry.Bool(true),
		K8sDistribution: "rancher-1.2", K8sInK8s: telemetry.Bool(true), K8sSchedulerExtenderEnabled: telemetry.Bool(true),
		K8sVersion: "v1.31.2+rke2r1",
	}
	node = telemetry.Node{
		AvailableBytes: telemetry.Uint64(math.MaxUint64),
		Capacity: &telemetry.Capacity{Total: telemetry.Uint64(3), Free: telemetry.Uint64(2),
			Available: telemetry.Uint64(1)},
		CrashFilesOnDisk: telemetry.Uint64(0),
		CreatedAtTime:    time.Date(2026, 1, 31, 13, 0, 0, 0, time.FixedZone("CET", 3600)),
		EtcdConfig: &telemetry.EtcdConfig{Endpoints: telemetry.Uint64(3), Namespaced: telemetry.Bool(true),
			TLS: telemetry.Bool(false)},
		EtcdNamespacingEnabled: telemetry.Bool(true), EtcdTLSEnabled: telemetry.Bool(false),
		FreeBytes: telemetry.Uint64(2), Health: telemetry.Online, HTTPTLSEnabled: telemetry.Bool(false), ID: "node-1",
		Labels: map[string]string{"kubernetes.io/os": "linux"}, Status: "alive", StorageOSVersion: "2.8.1",
		SystemClockTime: time.Date(2026, 11, 24, 4, 0, 0, 500, time.UTC), TotalBytes: telemetry.Uint64(3), Version: "MQ",
	}
	volume = telemetry.Volume{
		FSType: telemetry.XFS, ID: "volume-1", Labels: map[string]string{"storageos.com/replicas": "2"},
		MasterAttach: telemetry.Uint64(1), MasterDeleteDeployment: telemetry.Uint64(2), MasterDetach: telemetry.Uint64(3),
		MasterFailoverDeployment: telemetry.Uint64(4), MasterPromote: telemetry.Uint64(5),
		MasterProvision: telemetry.Uint64(6), MasterRecoverReplica: telemetry.Uint64(7),
		MasterTriggerRejoin: telemetry.Uint64(8), Metrics: map[string]float64{"write_latency_seconds": 0.0021},
		PlacementStrategy: "recommended", ProvisionSourceUserAgent: "storageos-cli/2.4.2 (linux)",
		ReplicaDeleteDeployment: telemetry.Uint64(9), ReplicaFailoverDeployment: telemetry.Uint64(10),
		ReplicaPromote: telemetry.Uint64(11), ReplicaProvision: telemetry.Uint64(12), Replicas: telemetry.Uint64(5),
		ReplicaTriggerRejoin: telemetry.Uint64(13), SizeBytes: telemetry.Uint64(1 << 63),
	}
	full = telemetry.Report{Cluster: cluster, Nodes: []telemetry.Node{node}, Volumes: []telemetry.Volume{volume}}
)

// columns are a report's plaintext, field by field.
func columns(t *testing.T, plaintext []byte) map[string]any {
	t.Helper()
	found := map[string]any{}
	for line := range strings.Lines(string(plaintext)) {
		var group map[string]any
		works(t, json.Unmarshal([]byte(line), &group))
		for _, level := range []string{"nodes", "volumes"} {
			if columns, ok := group[level].(map[string]any); ok {
				maps.Copy(found, columns)
				delete(group, level)
			}
		}
		maps.Copy(found, group)
	}
	return found
}

func TestAFullReportHasNothingUnknown(t *testing.T) {
	preview, err := open(t, minimal()).PreviewReport(full)
	works(t, err)
	found := columns(t, preview)
	for _, name := range slices.Concat(names(reflect.TypeFor[telemetry.Cluster](), ""),
		names(reflect.TypeFor[telemetry.Node](), ""), names(reflect.TypeFor[telemetry.Volume](), "")) {
		if value, ok := found[name]; !strings.Contains(name, ".") && (!ok || strings.Contains(fmt.Sprint(value), "nil")) {
			t.Errorf("%s is %v", name, value)
		}
	}
	if at := fmt.Sprint(found["node_created_at_time"]); at != "[2026-01-31T12:00:00Z]" {
		t.Error("a time is not in UTC:", at)
	}
	if !strings.Contains(string(preview), "18446744073709551615") {
		t.Error("the largest number is not exact")
	}
	for _, raw := range []string{"volume-1", "node-1", "cluster-1"} {
		if strings.Contains(string(preview), raw) {
			t.Errorf("%s is not anonymised", raw)
		}
	}
}

func TestAnEmptyReportIsAllUnknown(t *testing.T) {
	preview, err := open(t, minimal()).PreviewReport(telemetry.Report{Nodes: make([]telemetry.Node, 1)})
	works(t, err)
	found := columns(t, preview)
	if found["k8s_version"] != nil || fmt.Sprint(found["node_created_at_time"], found["node_total_bytes"]) != "[<nil>] [<nil>]" {
		t.Fatal(string(preview))
	}
}

func TestABadReportIsNamed(t *testing.T) {
	client := open(t, minimal())
	bad := full
	bad.Volumes = []telemetry.Volume{volume, {Replicas: telemetry.Uint64(6)}}
	_, err := client.PreviewReport(bad)
	fails(t, err, telemetry.ErrInvalidReport, "PreviewReport", "volumes[1].volume_replicas")
	bad.Volumes = []telemetry.Volume{{Metrics: map[string]float64{"x": math.NaN()}}}
	_, err = client.PreviewReport(bad)
	fails(t, err, telemetry.ErrInvalidReport, "PreviewReport", "NaN")
}

func TestSubmitReport(t *testing.T) {
	server := sink.ServeHTTP(t, 200)
	config := minimal()
	config.ReportURL, config.ReportKeys = server.URL, reportKeys
	config.StateDir = stateDir(t)
	client := open(t, config)
	works(t, client.SubmitReport(context.Background(), full))
	bodies := server.Bodies()
	if len(bodies) != 1 || !strings.HasPrefix(string(bodies[0]), "OTR1") {
		t.Fatalf("%q", bodies)
	}
	fails(t, client.SubmitReport(context.Background(), full), telemetry.ErrInvalidState, "SubmitReport", "day")
}

// due makes a client whose daily report is due as soon as it is started.
func due(t testing.TB, config telemetry.Config) *telemetry.Client {
	testclock.AtMidnight()
	client := open(t, config)
	testclock.Pass(testclock.Day - 1)
	return client
}

func TestTheDailyReportIsStreamed(t *testing.T) {
	const volumes = 3000
	server := sink.ServeHTTP(t, 200)
	config := minimal()
	config.ReportURL, config.ReportKeys = server.URL, reportKeys
	config.StateDir = stateDir(t)
	var escaped *telemetry.ReportWriter
	var refused, waited, iterated error
	done := make(chan struct{})
	var client *telemetry.Client
	config.OnReport = func(w *telemetry.ReportWriter) error {
		defer close(done)
		escaped = w
		waited = client.Flush(context.Background())
		refused = w.AddVolume(&telemetry.Volume{FSType: "fat"})
		// One that the host's database breaks off.
		iterated = w.AddVolumes(func(yield func(*telemetry.Volume, error) bool) {
			_ = yield(&telemetry.Volume{ID: "first"}, nil) && yield(nil, os.ErrDeadlineExceeded)
		})
		return errors.Join(w.SetCluster(&cluster), w.AddNodes(telemetry.Each([]telemetry.Node{node})),
			w.AddVolumes(numbered(volumes)))
	}
	client = due(t, config)
	works(t, client.Start())
	receive(t, "the report callback", done)
	server.Wait(t, 1)
	works(t, client.Close())
	if len(server.Bodies()) != 1 {
		t.Fatal(len(server.Bodies()), "reports")
	}
	copies, err := filepath.Glob(filepath.Join(config.StateDir, "sent/*"))
	works(t, err)
	if len(copies) != 1 {
		t.Fatal(copies)
	}
	plaintext, err := os.ReadFile(copies[0])
	works(t, err)
	if !strings.HasSuffix(strings.TrimSpace(string(plaintext)), fmt.Sprintf(`{"end":{"nodes":1,"volumes":%d}}`, volumes+1)) {
		t.Fatal("not all volumes are there")
	}
	fails(t, refused, telemetry.ErrInvalidReport, "AddVolume", "volumes[0].volume_fs_type")
	fails(t, waited, telemetry.ErrInvalidState, "Flush", "callback")
	if !errors.Is(iterated, os.ErrDeadlineExceeded) {
		t.Fatal(iterated)
	}
	fails(t, escaped.AddNode(&node), telemetry.ErrInvalidState, "AddNode", "returned")
}

func TestAnAdministratorAsksForTheNextReport(t *testing.T) {
	server := sink.ServeHTTP(t, 200)
	config := minimal()
	config.ReportURL, config.ReportKeys = server.URL, reportKeys
	// The address of a socket has room for 107 bytes.
	dir, err := os.MkdirTemp("", "next")
	works(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	config.StateDir = dir
	previews := make(chan bool, 2)
	var escaped *telemetry.ReportWriter
	config.OnReport = func(w *telemetry.ReportWriter) error {
		escaped = w
		previews <- w.IsPreview()
		return errors.Join(w.SetCluster(&cluster), w.AddVolumes(numbered(3000)))
	}
	testclock.AtMidnight()
	client := open(t, config)
	works(t, client.Start())
	door := filepath.Join(dir, "processes", fmt.Sprintf("controlplane-%d.ask", os.Getpid()))
	asked, err := net.Dial("unix", door)
	works(t, err)
	_, err = asked.Write([]byte("next"))
	works(t, err)
	answer, err := io.ReadAll(asked)
	works(t, err)
	text, end := pieces(t, answer)
	if !receive(t, "the report callback", previews) || escaped.IsPreview() {
		t.Fatal("it is a preview, while the callback runs")
	}
	if end[0] != 0 || len(server.Bodies()) != 0 {
		t.Fatalf("%q, %d reports", end, len(server.Bodies()))
	}
	testclock.Pass(testclock.Day - 600)
	works(t, client.SetSwitches(telemetry.AllSwitches))
	if receive(t, "the report callback", previews) {
		t.Fatal("it is the report of the day")
	}
	server.Wait(t, 1)
	works(t, client.Close())
	copies, err := filepath.Glob(filepath.Join(dir, "sent/*"))
	works(t, err)
	sent, err := os.ReadFile(copies[0])
	works(t, err)
	if string(sent) != text {
		t.Fatalf("not the bytes that were sent:\n%.200s\n%.200s", sent, text)
	}
	size, _, _ := strings.Cut(string(end[1:]), " ")
	if size != fmt.Sprint(len(server.Bodies()[0])) {
		t.Fatal(size, len(server.Bodies()[0]))
	}
	if _, err := os.Stat(door); !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// pieces are the text of an answer of src/ask.rs, and its end.
func pieces(t *testing.T, answer []byte) (text string, end []byte) {
	t.Helper()
	packed, rest := []byte(nil), answer[4:]
	for {
		length := binary.BigEndian.Uint32(rest)
		rest = rest[4:]
		if length == 0 {
			break
		}
		packed, rest = append(packed, rest[:length]...), rest[length:]
	}
	if len(packed) > 0 {
		unpacked, err := gzip.NewReader(bytes.NewReader(packed))
		works(t, err)
		all, err := io.ReadAll(unpacked)
		works(t, err)
		text = string(all)
	}
	return text, rest
}

// numbered gives one volume again and again, with another id.
func numbered(count int) iter.Seq2[*telemetry.Volume, error] {
	return func(yield func(*telemetry.Volume, error) bool) {
		again := volume
		for number := range count {
			again.ID = fmt.Sprint("volume-", number)
			if !yield(&again, nil) {
				return
			}
		}
	}
}

func TestAReportCallbackThatFailsIsLogged(t *testing.T) {
	for name, fail := range map[string]func() error{
		"an error": func() error { return errors.New("no database") },
		"a panic":  func() error { panic("no database") },
	} {
		t.Run(name, func(t *testing.T) {
			log := &lines{}
			config := minimal()
			config.ReportURL, config.ReportKeys = sink.ServeHTTP(t, 200).URL, reportKeys
			config.Logger = log.logger(slog.LevelInfo)
			called := make(chan struct{}, 1)
			var escaped *telemetry.ReportWriter
			config.OnReport = func(w *telemetry.ReportWriter) error {
				escaped = w
				called <- struct{}{}
				return fail()
			}
			client := due(t, config)
			works(t, client.Start())
			receive(t, "the report callback", called)
			works(t, client.Close())
			if !strings.Contains(log.String(), "no database") {
				t.Fatal(log)
			}
			fails(t, escaped.AddNode(&node), telemetry.ErrInvalidState, "AddNode", "returned")
		})
	}
}
