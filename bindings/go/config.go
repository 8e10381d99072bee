package telemetry

import (
	"log/slog"
	"time"
)

// Switches is a set of the functions that can be turned on and off.
type Switches uint32

// The three functions of the library, and all of them.
const (
	VersionCheck Switches = 1 << iota // the DNS query for the latest version
	DailyReport                       // the sealed daily report over HTTPS
	CrashReports                      // crash reports to Sentry over HTTPS

	AllSwitches = VersionCheck | DailyReport | CrashReports
)

// Has reports whether all of these are in the set.
func (s Switches) Has(all Switches) bool { return s&all == all }

// Direct as Config.Proxy means no proxy, whatever the environment says.
const Direct = "direct"

// Config contains the settings of a client. Component, Version, ClusterID and NodeID are required. The zero value of
// every other field is the library's default. docs/settings.md describes the settings.
type Config struct {
	// Component is the name of this process within the product, [a-z0-9_.-]{1,64}, such as "controlplane".
	Component string
	// Version is the version of the product, as SemVer. A leading "v" is allowed.
	Version string
	// ClusterID and NodeID have 1 to 256 bytes. They leave the process only in anonymised form.
	ClusterID, NodeID string
	// IdentityKey is the key with which ids are anonymised: 32 bytes, the same on all nodes of the cluster. Default:
	// derived from ClusterID, so anybody who knows that id can derive the key.
	IdentityKey []byte
	// StateDir is the state directory. It is created if it is missing. If others may write to it, or if it belongs to
	// another user, the folder ondat-telemetry-UID in it is used. A symlink in its place is ErrIO. If it cannot be used,
	// New succeeds and the client runs without it. Default: none; nothing then survives a restart.
	StateDir string
	// Off is the host's own choice of what is off. Default: nothing.
	Off Switches

	// VersionZone is the DNS zone that is asked for the latest version. Default: none, which means no version check.
	VersionZone string
	// VersionKey is one or more Ed25519 public keys in base64, separated by commas. Once a key is set, an unsigned
	// answer is ErrUntrusted.
	VersionKey string
	// VersionSealKey is the vendor's X25519 public key in base64, to which the ids in version queries are encrypted.
	VersionSealKey string
	// Nameservers are the DNS servers, such as "127.0.0.1:5300,[::1]:53". Default: those of the system.
	Nameservers string

	// ReportURL is the URL of the collector: https, or http for addresses of this machine. Default: none, which means no
	// reports.
	ReportURL string
	// ReportKeys is the key set for which reports are sealed, as JSON. Required with ReportURL.
	ReportKeys string
	// SentryDSN is the DSN to which crash reports are sent. Default: none, which means no crash reports.
	SentryDSN string
	// Proxy is the proxy for all HTTPS requests: http, https, socks5 or socks5h, or Direct. Default: the proxy of the
	// environment if LoadEnv is set, else none.
	Proxy string
	// CAFiles are PEM files of certificates that are trusted in addition to the system's roots.
	CAFiles []string
	// Timeout is the timeout of one network call, and of a method whose context has no deadline. Default: 10 s.
	Timeout time.Duration
	// CloseTimeout is how long Close delivers what is stored. Default: 1 s. If it is negative, Close delivers nothing.
	CloseTimeout time.Duration

	// MonitorPath is the path of the program ondat-telemetry-monitor. Default: next to the library, then in libexec.
	MonitorPath string
	// CrashWait is how long a crashing process waits for its report to be sent, up to 30 s. Default: 2 s for PID 1,
	// otherwise it does not wait. If it is negative, PID 1 does not wait either.
	CrashWait time.Duration
	// CoreFiles is how many core files of this state directory are kept. Default: all. If it is negative, none is kept.
	CoreFiles int
	// CoreBytes is how many bytes on disk these core files may take in total. Default: unlimited. If it is negative,
	// none is kept.
	CoreBytes int64

	// ClusterSpec is a StorageOSCluster resource in YAML or JSON. Its spec.disableTelemetry is followed.
	ClusterSpec []byte
	// LoadEnv reads DISABLE_*, DO_NOT_TRACK, the proxy variables, SSL_CERT_FILE, SSL_CERT_DIR and ONDAT_TELEMETRY_*
	// (setting names in upper case). They override the fields above. Default: the environment is not read.
	LoadEnv bool

	// Logger receives the library's log and errors of callbacks. Default: none.
	Logger *slog.Logger
	// OnVersion is called when the verdict, the latest version or the advisory changes, on a thread of the library or
	// within CheckVersion. It is called once more after Start if a newer version is already known.
	OnVersion func(VersionInfo)
	// OnReport is called once a day, on a thread of the library, to fill the daily report. It is also called when an
	// administrator asks what would be sent (ondat-telemetry report next). Two calls never overlap.
	// ReportWriter.IsPreview tells which of the two it is. An error is logged; what was added before it is sent.
	// Default: none; reports are then sent only by SubmitReport.
	//
	// Callbacks may call the methods that do not wait for the network. The others return ErrInvalidState. A panic in a
	// callback is recovered and logged.
	OnReport func(*ReportWriter) error
}
