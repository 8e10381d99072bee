/*
 * The layer between C's callbacks and Go's. userdata is the number of a cgo.Handle, which must not pass through a Go
 * pointer. The library's structs are read here, within the size that they state.
 */
#ifndef ONDAT_TELEMETRY_GO_CALLBACK_H
#define ONDAT_TELEMETRY_GO_CALLBACK_H

#include <ondat_telemetry.h>
#include <stdint.h>

#if ONDAT_TELEMETRY_VERSION_MAJOR != 0 || ONDAT_TELEMETRY_VERSION_MINOR < 1
#error "this binding needs the header of ondat-telemetry 0.1 or a later 0.x: install that version of the library"
#endif

void ondat_telemetry_go_set_log(ondat_telemetry_config *config, int level, uintptr_t handle);
void ondat_telemetry_go_set_version(ondat_telemetry_config *config, uintptr_t handle);
void ondat_telemetry_go_set_report(ondat_telemetry_config *config, uintptr_t handle);

ondat_telemetry_status ondat_telemetry_go_explain_switches(const ondat_telemetry *telemetry, uintptr_t handle);
ondat_telemetry_status ondat_telemetry_go_check_version(const ondat_telemetry *telemetry, uint32_t timeout_ms,
                                                        uintptr_t handle, char *errbuf, size_t errbuf_len);
ondat_telemetry_status ondat_telemetry_go_latest_version(const ondat_telemetry *telemetry, uintptr_t handle);
ondat_telemetry_status ondat_telemetry_go_preview_report(const ondat_telemetry *telemetry, const char *json,
                                                         size_t json_len, uintptr_t handle, char *errbuf,
                                                         size_t errbuf_len);

#endif
