//go:build linux && cgo && ondat_telemetry_static

package telemetry

// #cgo pkg-config: ondat_telemetry-static
import "C"
