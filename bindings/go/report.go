package telemetry

import (
	"encoding/json"
	"iter"
	"time"
)

// Report is a daily report in one piece. It consists of the fields of Cluster, Node and Volume, and nothing else. A
// field with its zero value is sent as unknown. The JSON of a Report is the document of docs/report.schema.json.
type Report struct {
	Cluster
	Nodes   []Node   `json:"nodes,omitempty"`
	Volumes []Volume `json:"volumes,omitempty"`
}

// LogFormat is a value of Cluster.LogFormat.
type LogFormat string

// The log formats.
const (
	LogFormatDefault LogFormat = "default"
	LogFormatJSON    LogFormat = "json"
)

// LogLevel is a value of Cluster.LogLevel.
type LogLevel string

// The log levels.
const (
	LogLevelDebug LogLevel = "debug"
	LogLevelInfo  LogLevel = "info"
	LogLevelWarn  LogLevel = "warn"
	LogLevelError LogLevel = "error"
)

// Health is a value of Node.Health.
type Health string

// The states of a node.
const (
	Online        Health = "online"
	Offline       Health = "offline"
	HealthUnknown Health = "unknown"
)

// FSType is a value of Volume.FSType.
type FSType string

// The file systems of volumes.
const (
	Ext2  FSType = "ext2"
	Ext3  FSType = "ext3"
	Ext4  FSType = "ext4"
	XFS   FSType = "xfs"
	Btrfs FSType = "btrfs"
	Block FSType = "block"
)

// Cluster contains the fields that occur once in a report.
type Cluster struct {
	// APICallMetrics counts calls by operation and HTTP status.
	APICallMetrics              map[string]map[int]uint64 `json:"api_call_metrics,omitempty"`
	DisableCrashReporting       *bool                     `json:"cluster_disable_crash_reporting,omitempty"`
	DisableVersionCheck         *bool                     `json:"cluster_disable_version_check,omitempty"`
	LogFormat                   LogFormat                 `json:"cluster_log_format,omitempty"`
	LogLevel                    LogLevel                  `json:"cluster_log_level,omitempty"`
	TLSProvided                 *bool                     `json:"cluster_tls_provided,omitempty"`
	K8sDistribution             string                    `json:"k8s_distribution,omitempty"`
	K8sInK8s                    *bool                     `json:"k8s_in_k8s,omitempty"`
	K8sSchedulerExtenderEnabled *bool                     `json:"k8s_scheduler_extender_enabled,omitempty"`
	K8sVersion                  string                    `json:"k8s_version,omitempty"`
}

// Node is a node of the cluster. Its id and labels leave the process only in anonymised form.
type Node struct {
	AvailableBytes         *uint64           `json:"node_available_bytes,omitempty"`
	Capacity               *Capacity         `json:"node_capacity,omitempty"`
	CrashFilesOnDisk       *uint64           `json:"node_crash_files_on_disk,omitempty"`
	CreatedAtTime          time.Time         `json:"node_created_at_time,omitzero"`
	EtcdConfig             *EtcdConfig       `json:"node_etcd_config,omitempty"`
	EtcdNamespacingEnabled *bool             `json:"node_etcd_namespacing_enabled,omitempty"`
	EtcdTLSEnabled         *bool             `json:"node_etcd_tls_enabled,omitempty"`
	FreeBytes              *uint64           `json:"node_free_bytes,omitempty"`
	Health                 Health            `json:"node_health,omitempty"`
	HTTPTLSEnabled         *bool             `json:"node_http_tls_enabled,omitempty"`
	ID                     string            `json:"node_id,omitempty"`
	Labels                 map[string]string `json:"node_labels,omitempty"`
	Status                 string            `json:"node_status,omitempty"`
	StorageOSVersion       string            `json:"node_storageos_version,omitempty"`
	SystemClockTime        time.Time         `json:"node_system_clock_time,omitzero"`
	TotalBytes             *uint64           `json:"node_total_bytes,omitempty"`
	Version                string            `json:"node_version,omitempty"`
}

// MarshalJSON writes times in UTC.
func (n Node) MarshalJSON() ([]byte, error) {
	type plain Node
	n.CreatedAtTime = n.CreatedAtTime.UTC()
	n.SystemClockTime = n.SystemClockTime.UTC()
	return json.Marshal(plain(n))
}

// Capacity is the value of Node.Capacity, in bytes.
type Capacity struct {
	Total     *uint64 `json:"total,omitempty"`
	Free      *uint64 `json:"free,omitempty"`
	Available *uint64 `json:"available,omitempty"`
}

// EtcdConfig is the value of Node.EtcdConfig. Endpoints is the number of endpoints.
type EtcdConfig struct {
	Endpoints  *uint64 `json:"endpoints,omitempty"`
	Namespaced *bool   `json:"namespaced,omitempty"`
	TLS        *bool   `json:"tls,omitempty"`
}

// Volume is a volume of the cluster. Its id and labels leave the process only in anonymised form; of the user agent only
// product and version do.
type Volume struct {
	FSType                    FSType             `json:"volume_fs_type,omitempty"`
	ID                        string             `json:"volume_id,omitempty"`
	Labels                    map[string]string  `json:"volume_labels,omitempty"`
	MasterAttach              *uint64            `json:"volume_master_attach,omitempty"`
	MasterDeleteDeployment    *uint64            `json:"volume_master_delete_deployment,omitempty"`
	MasterDetach              *uint64            `json:"volume_master_detach,omitempty"`
	MasterFailoverDeployment  *uint64            `json:"volume_master_failover_deployment,omitempty"`
	MasterPromote             *uint64            `json:"volume_master_promote,omitempty"`
	MasterProvision           *uint64            `json:"volume_master_provision,omitempty"`
	MasterRecoverReplica      *uint64            `json:"volume_master_recover_replica,omitempty"`
	MasterTriggerRejoin       *uint64            `json:"volume_master_trigger_rejoin,omitempty"`
	Metrics                   map[string]float64 `json:"volume_metrics,omitempty"`
	PlacementStrategy         string             `json:"volume_placement_strategy,omitempty"`
	ProvisionSourceUserAgent  string             `json:"volume_provision_source_user_agent,omitempty"`
	ReplicaDeleteDeployment   *uint64            `json:"volume_replica_delete_deployment,omitempty"`
	ReplicaFailoverDeployment *uint64            `json:"volume_replica_failover_deployment,omitempty"`
	ReplicaPromote            *uint64            `json:"volume_replica_promote,omitempty"`
	ReplicaProvision          *uint64            `json:"volume_replica_provision,omitempty"`
	Replicas                  *uint64            `json:"volume_replicas,omitempty"`
	ReplicaTriggerRejoin      *uint64            `json:"volume_replica_trigger_rejoin,omitempty"`
	SizeBytes                 *uint64            `json:"volume_size_bytes,omitempty"`
}

// Uint64 returns a pointer to a number, for a field whose value is known.
func Uint64(n uint64) *uint64 { return &n }

// Bool returns a pointer to a truth value, for a field whose value is known.
func Bool(b bool) *bool { return &b }

// Each iterates over a slice, for [ReportWriter.AddNodes] and [ReportWriter.AddVolumes].
func Each[T any](records []T) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for i := range records {
			if !yield(&records[i], nil) {
				return
			}
		}
	}
}
