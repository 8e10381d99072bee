package telemetry

import (
	"log/slog"
	"time"
)

// Switches is a set of what can be turned on and off.
type Switches uint32

// The three things that the library does, and all of them.
const (
	VersionCheck Switches = 1 << iota // the DNS query for the latest version
	DailyReport                       // the sealed daily report over HTTPS
	CrashReports                      // crash reports to Sentry over HTTPS

	AllSwitches = VersionCheck | DailyReport | CrashReports
)

// Has tells whether all of these are in the set.
func (s Switches) Has(all Switches) bool { return s&all == all }

// Direct as Config.Proxy: no proxy, whatever the environment says.
const Direct = "direct"

// Config is what a client is made from. Component, Version, ClusterID and NodeID are required; of everything else the
// zero value is the library's default. docs/settings.md describes the settings.
type Config struct {
	// Component is the process's part in the product, [a-z0-9_.-]{1,64}, such as "controlplane".
	Component string
	// Version is the product's version, SemVer, a leading "v" allowed.
	Version string
	// ClusterID and NodeID leave the process only anonymised. 1 to 256 bytes.
	ClusterID, NodeID string
	// IdentityKey is 32 bytes shared by the cluster, from which anonymised ids are made. Default: derived from
	// ClusterID, which whoever knows that id can do as well.
	IdentityKey []byte
	// StateDir is a directory, made where it is missing. Where others may write to it, or it is another user's, the folder
	// ondat-telemetry-UID in it is used. A symlink in its place is ErrIO; where it cannot be used, New succeeds without it.
	// Default: none; then nothing survives a restart.
	StateDir string
	// Off is the host's own word on what is off. Default: nothing.
	Off Switches

	// VersionZone is the DNS zone to ask for the latest version. Default: none, no version check.
	VersionZone string
	// VersionKey is one or more Ed25519 public keys in base64, separated by commas. Once set, an unsigned answer is
	// ErrUntrusted.
	VersionKey string
	// VersionSealKey is the vendor's X25519 public key in base64, for which version queries are sealed.
	VersionSealKey string
	// Nameservers are DNS servers such as "127.0.0.1:5300,[::1]:53". Default: the system's.
	Nameservers string

	// ReportURL is the collector, https; http only for addresses of this machine. Default: none, no reports.
	ReportURL string
	// ReportKeys is the key set to seal reports for, JSON. Required with ReportURL.
	ReportKeys string
	// SentryDSN is where crash reports go. Default: none, no crash reports.
	SentryDSN string
	// Proxy is for all HTTPS requests: http, https, socks5 or socks5h, or Direct. Default: the environment's where
	// LoadEnv is set, else none.
	Proxy string
	// CAFiles are PEM files of certificates trusted besides the system's roots.
	CAFiles []string
	// Timeout is the bound of one network call, and of a method whose context has no deadline. Default: 10 s.
	Timeout time.Duration
	// CloseTimeout is how long Close delivers what is stored. Default: 1 s; negative: not at all.
	CloseTimeout time.Duration

	// MonitorPath is the program ondat-telemetry-monitor. Default: beside the library, then in libexec.
	MonitorPath string
	// CrashWait is how long a crashing process waits for its report to be sent, up to 30 s. Default: 2 s for PID 1,
	// else not at all; negative: not at all.
	CrashWait time.Duration
	// CoreFiles is how many core files of this state directory are kept. Default: all; negative: none.
	CoreFiles int
	// CoreBytes is how many bytes on disk they may take in all. Default: any number; negative: none.
	CoreBytes int64

	// ClusterSpec is a StorageOSCluster resource, YAML or JSON, whose spec.disableTelemetry is followed.
	ClusterSpec []byte
	// LoadEnv reads DISABLE_*, DO_NOT_TRACK, the proxy variables, SSL_CERT_FILE, SSL_CERT_DIR and ONDAT_TELEMETRY_*
	// (upper-case setting names), which hold over the fields above. Default: the environment is not read at all.
	LoadEnv bool

	// Logger gets the library's log and what goes wrong in callbacks. Default: silence.
	Logger *slog.Logger
	// OnVersion is called when the verdict, the latest version or the advisory changes, on a thread of the library's
	// or within CheckVersion, and once more after New where a newer version is known.
	OnVersion func(VersionInfo)
	// OnReport is called once a day, on a thread of the library's, to fill the daily report, and whenever an administrator
	// asks what would be sent (ondat-telemetry report next), never two at a time: ReportWriter.IsPreview tells which. An
	// error is logged; what was added before it is sent. Default: none; then reports are sent only by SubmitReport.
	//
	// Callbacks may call the methods that do not wait for the network; the others return ErrInvalidState. A panic in
	// one is recovered and logged.
	OnReport func(*ReportWriter) error
}
