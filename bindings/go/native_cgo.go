//go:build linux && cgo

package telemetry

// #include "callback.h"
// #include <stdlib.h>
import "C"

import (
	"fmt"
	"math"
	"os"
	"runtime/cgo"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// The messages of the library are shorter, unless they contain long paths.
const messageBytes = 512

type nativeClient struct {
	pointer *C.ondat_telemetry
}

type nativeReport struct {
	pointer *C.ondat_telemetry_report
	message [messageBytes]C.char
}

func nativeVersion() string { return C.GoString(C.ondat_telemetry_version()) }

func threadID() int { return syscall.Gettid() }

// message is the buffer for the line in which a call says why it failed.
type message [messageBytes]C.char

func (m *message) at() *C.char { return &m[0] }

// failure is nil for OK.
func failure(op string, status C.ondat_telemetry_status, why *C.char) error {
	if status == C.ONDAT_TELEMETRY_OK {
		return nil
	}
	detail := ""
	if why != nil {
		detail = C.GoString(why)
	}
	return &Error{Op: op, Code: Code(status), Detail: detail}
}

// pointerTo is valid for one call: C copies its arguments.
func pointerTo(bytes []byte) *C.char {
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(bytes)))
}

// checkLibrary refuses a library that is older than the header of this build. A newer library has everything that the
// header declares, or another SONAME.
func checkLibrary() error {
	library := nativeVersion()
	if olderThan(library, C.ONDAT_TELEMETRY_VERSION_MAJOR, C.ONDAT_TELEMETRY_VERSION_MINOR, C.ONDAT_TELEMETRY_VERSION_PATCH) {
		return &Error{Op: "New", Code: ErrUnsupported, Detail: fmt.Sprintf(
			"the library is version %s, this program was built with the header of %d.%d.%d", library,
			C.ONDAT_TELEMETRY_VERSION_MAJOR, C.ONDAT_TELEMETRY_VERSION_MINOR, C.ONDAT_TELEMETRY_VERSION_PATCH)}
	}
	return nil
}

// olderThan compares the cores of SemVer versions. A string that is no version is older than anything.
func olderThan(version string, wanted ...int) bool {
	core, _, _ := strings.Cut(version, "+")
	core, _, _ = strings.Cut(core, "-")
	for at, part := range strings.SplitN(core, ".", len(wanted)) {
		number, err := strconv.Atoi(part)
		if err != nil || number < wanted[at] {
			return true
		}
		if number > wanted[at] {
			return false
		}
	}
	return strings.Count(core, ".")+1 < len(wanted)
}

func newNative(config *Config, hooks *hooks) (*nativeClient, error) {
	if err := checkLibrary(); err != nil {
		return nil, err
	}
	settings := C.ondat_telemetry_config_new()
	if settings == nil {
		return nil, &Error{Op: "New", Code: ErrInternal, Detail: "out of memory"}
	}
	defer C.ondat_telemetry_config_free(settings)
	if err := set(settings, config); err != nil {
		return nil, err
	}
	// The library deletes each handle when it can make no more calls: with settings and client.
	C.ondat_telemetry_go_set_log(settings, 7, handleOf(hooks))
	if hooks.onVersion != nil {
		C.ondat_telemetry_go_set_version(settings, handleOf(hooks))
	}
	if hooks.onReport != nil {
		C.ondat_telemetry_go_set_report(settings, handleOf(hooks))
	}
	var why message
	native := &nativeClient{}
	status := C.ondat_telemetry_init(settings, &native.pointer, why.at(), messageBytes)
	if err := failure("New", status, why.at()); err != nil {
		return nil, err
	}
	return native, nil
}

func handleOf(value any) C.uintptr_t { return C.uintptr_t(cgo.NewHandle(value)) }

// set passes the settings to C.
func set(settings *C.ondat_telemetry_config, config *Config) error {
	invalid := func(name, why string) error {
		return &Error{Op: "New", Code: ErrInvalidConfig, Detail: name + ": " + why}
	}
	texts := []struct {
		name, value string
		set         func(*C.char)
	}{
		{"Component", config.Component, func(text *C.char) { C.ondat_telemetry_config_set_component(settings, text) }},
		{"Version", config.Version, func(text *C.char) { C.ondat_telemetry_config_set_version(settings, text) }},
		{"ClusterID", config.ClusterID, func(text *C.char) { C.ondat_telemetry_config_set_cluster_id(settings, text) }},
		{"NodeID", config.NodeID, func(text *C.char) { C.ondat_telemetry_config_set_node_id(settings, text) }},
		{"StateDir", config.StateDir, func(text *C.char) { C.ondat_telemetry_config_set_state_dir(settings, text) }},
		{"VersionZone", config.VersionZone, func(text *C.char) { C.ondat_telemetry_config_set_version_zone(settings, text) }},
		{"VersionKey", config.VersionKey, func(text *C.char) { C.ondat_telemetry_config_set_version_key(settings, text) }},
		{"VersionSealKey", config.VersionSealKey, func(text *C.char) { C.ondat_telemetry_config_set_version_seal_key(settings, text) }},
		{"Nameservers", config.Nameservers, func(text *C.char) { C.ondat_telemetry_config_set_nameservers(settings, text) }},
		{"ReportURL", config.ReportURL, func(text *C.char) { C.ondat_telemetry_config_set_report_url(settings, text) }},
		{"ReportKeys", config.ReportKeys, func(text *C.char) { C.ondat_telemetry_config_set_report_keys(settings, text) }},
		{"SentryDSN", config.SentryDSN, func(text *C.char) { C.ondat_telemetry_config_set_sentry_dsn(settings, text) }},
		{"MonitorPath", config.MonitorPath, func(text *C.char) { C.ondat_telemetry_config_set_monitor_path(settings, text) }},
	}
	for _, file := range config.CAFiles {
		texts = append(texts, struct {
			name, value string
			set         func(*C.char)
		}{"CAFiles", file, func(text *C.char) { C.ondat_telemetry_config_set_ca_file(settings, text) }})
	}
	for _, text := range texts {
		if strings.ContainsRune(text.value, 0) {
			return invalid(text.name, "it contains a zero byte")
		}
		if text.value != "" {
			value := C.CString(text.value)
			text.set(value)
			C.free(unsafe.Pointer(value))
		}
	}
	if config.IdentityKey != nil {
		key := (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(config.IdentityKey)))
		C.ondat_telemetry_config_set_identity_key(settings, key, C.size_t(len(config.IdentityKey)))
	}
	if config.Off&^AllSwitches != 0 {
		return invalid("Off", fmt.Sprintf("%#x has bits that are no switches", uint32(config.Off)))
	}
	C.ondat_telemetry_config_set_switches(settings, C.uint32_t(AllSwitches&^config.Off))
	if config.Timeout < 0 {
		return invalid("Timeout", "it is negative")
	}
	if config.Timeout > 0 {
		C.ondat_telemetry_config_set_timeout_ms(settings, C.uint32_t(milliseconds(config.Timeout)))
	}
	if config.CrashWait != 0 {
		C.ondat_telemetry_config_set_crash_wait_ms(settings, C.uint32_t(milliseconds(config.CrashWait)))
	}
	if config.CoreFiles != 0 {
		C.ondat_telemetry_config_set_core_files(settings, C.uint32_t(min(max(config.CoreFiles, 0), math.MaxUint32)))
	}
	if config.CoreBytes != 0 {
		C.ondat_telemetry_config_set_core_bytes(settings, C.uint64_t(max(config.CoreBytes, 0)))
	}
	if config.ClusterSpec != nil {
		C.ondat_telemetry_config_load_cluster_spec(settings, pointerTo(config.ClusterSpec), C.size_t(len(config.ClusterSpec)))
	}
	if proxy := config.Proxy; proxy != "" {
		if proxy == Direct {
			proxy = ""
		}
		value := C.CString(proxy)
		C.ondat_telemetry_config_set_proxy(settings, value)
		C.free(unsafe.Pointer(value))
	}
	if config.LoadEnv {
		C.ondat_telemetry_config_load_env(settings)
	}
	return nil
}

func (n *nativeClient) start() error {
	var why message
	return failure("Start", C.ondat_telemetry_start(n.pointer, why.at(), messageBytes), why.at())
}

func (n *nativeClient) close(timeout uint32) {
	C.ondat_telemetry_close(n.pointer, C.uint32_t(timeout))
	n.pointer = nil
}

func (n *nativeClient) switches() Switches {
	return Switches(C.ondat_telemetry_switches(n.pointer))
}

func (n *nativeClient) setSwitches(on Switches) error {
	var why message
	status := C.ondat_telemetry_set_switches(n.pointer, C.uint32_t(on), why.at(), messageBytes)
	return failure("SetSwitches", status, why.at())
}

func (n *nativeClient) explainSwitches() (text []byte, err error) {
	handle := cgo.NewHandle(&text)
	defer handle.Delete()
	status := C.ondat_telemetry_go_explain_switches(n.pointer, C.uintptr_t(handle))
	return text, failure("ExplainSwitches", status, nil)
}

func (n *nativeClient) checkVersion(timeout uint32) (info VersionInfo, err error) {
	handle := cgo.NewHandle(&info)
	defer handle.Delete()
	var why message
	status := C.ondat_telemetry_go_check_version(n.pointer, C.uint32_t(timeout), C.uintptr_t(handle), why.at(), messageBytes)
	return info, failure("CheckVersion", status, why.at())
}

func (n *nativeClient) latestVersion() (info VersionInfo, err error) {
	handle := cgo.NewHandle(&info)
	defer handle.Delete()
	status := C.ondat_telemetry_go_latest_version(n.pointer, C.uintptr_t(handle))
	return info, failure("LatestVersion", status, nil)
}

func (n *nativeClient) submitReport(json []byte, timeout uint32) error {
	var why message
	status := C.ondat_telemetry_submit_report(n.pointer, pointerTo(json), C.size_t(len(json)), C.uint32_t(timeout),
		why.at(), messageBytes)
	return failure("SubmitReport", status, why.at())
}

func (n *nativeClient) previewReport(json []byte) (text []byte, err error) {
	handle := cgo.NewHandle(&text)
	defer handle.Delete()
	var why message
	status := C.ondat_telemetry_go_preview_report(n.pointer, pointerTo(json), C.size_t(len(json)), C.uintptr_t(handle),
		why.at(), messageBytes)
	return text, failure("PreviewReport", status, why.at())
}

func (n *nativeClient) flush(timeout uint32) error {
	var why message
	return failure("Flush", C.ondat_telemetry_flush(n.pointer, C.uint32_t(timeout), why.at(), messageBytes), why.at())
}

func (n *nativeClient) installCrashHandler(coreDumps bool) error {
	flags := C.uint32_t(C.ONDAT_TELEMETRY_CRASH_GO_HOST)
	if coreDumps {
		flags |= C.ONDAT_TELEMETRY_CRASH_CORE_DUMPS
	}
	var why message
	status := C.ondat_telemetry_install_crash_handler(n.pointer, flags, why.at(), messageBytes)
	return failure("InstallCrashHandler", status, why.at())
}

func (n *nativeClient) crashOutput() (*os.File, error) {
	var why message
	var descriptor C.int
	status := C.ondat_telemetry_crash_output(n.pointer, &descriptor, why.at(), messageBytes)
	if err := failure("InstallCrashHandler", status, why.at()); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(descriptor), "crash output"), nil
}

func (n *nativeClient) reportExit(component string, status syscall.WaitStatus, description string) error {
	if strings.ContainsRune(component+description, 0) {
		return &Error{Op: "ReportExit", Code: ErrInvalidArgument, Detail: "a zero byte in component or description"}
	}
	name := C.CString(component)
	defer C.free(unsafe.Pointer(name))
	var text *C.char
	if description != "" {
		text = C.CString(description)
		defer C.free(unsafe.Pointer(text))
	}
	var why message
	failed := C.ondat_telemetry_report_exit(n.pointer, name, C.int(status), text, why.at(), messageBytes)
	return failure("ReportExit", failed, why.at())
}

func (r *nativeReport) isPreview() bool { return bool(C.ondat_telemetry_report_is_preview(r.pointer)) }

func (r *nativeReport) setCluster(op string, json []byte) error {
	why := &r.message[0]
	status := C.ondat_telemetry_report_set_cluster(r.pointer, pointerTo(json), C.size_t(len(json)), why, messageBytes)
	return failure(op, status, why)
}

func (r *nativeReport) addNode(op string, json []byte) error {
	why := &r.message[0]
	status := C.ondat_telemetry_report_add_node(r.pointer, pointerTo(json), C.size_t(len(json)), why, messageBytes)
	return failure(op, status, why)
}

func (r *nativeReport) addVolume(op string, json []byte) error {
	why := &r.message[0]
	status := C.ondat_telemetry_report_add_volume(r.pointer, pointerTo(json), C.size_t(len(json)), why, messageBytes)
	return failure(op, status, why)
}
