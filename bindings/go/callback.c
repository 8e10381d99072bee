//go:build linux && cgo

#include "callback.h"

#include "_cgo_export.h"

static void on_log(int level, const char *message, void *userdata)
{
    ondatTelemetryGoLog((uintptr_t)userdata, level, (char *)message);
}

static void on_version(const ondat_telemetry_version_info *info, void *userdata)
{
    if (info->struct_size < offsetof(ondat_telemetry_version_info, checked_at) + sizeof info->checked_at)
        return;
    ondatTelemetryGoVersion((uintptr_t)userdata, (char *)info->running, (char *)info->latest, (char *)info->advisory,
                            info->verdict, info->authenticated, info->checked_at);
}

static void on_report(ondat_telemetry_report *report, void *userdata)
{
    ondatTelemetryGoReport((uintptr_t)userdata, report);
}

static void on_text(const char *text, size_t len, void *userdata)
{
    ondatTelemetryGoText((uintptr_t)userdata, (char *)text, len);
}

static void on_free(void *userdata)
{
    ondatTelemetryGoFree((uintptr_t)userdata);
}

void ondat_telemetry_go_set_log(ondat_telemetry_config *config, int level, uintptr_t handle)
{
    ondat_telemetry_config_set_log_callback(config, level, on_log, (void *)handle, on_free);
}

void ondat_telemetry_go_set_version(ondat_telemetry_config *config, uintptr_t handle)
{
    ondat_telemetry_config_set_version_callback(config, on_version, (void *)handle, on_free);
}

void ondat_telemetry_go_set_report(ondat_telemetry_config *config, uintptr_t handle)
{
    ondat_telemetry_config_set_report_callback(config, on_report, (void *)handle, on_free);
}

ondat_telemetry_status ondat_telemetry_go_explain_switches(const ondat_telemetry *telemetry, uintptr_t handle)
{
    return ondat_telemetry_explain_switches(telemetry, on_text, (void *)handle);
}

ondat_telemetry_status ondat_telemetry_go_check_version(const ondat_telemetry *telemetry, uint32_t timeout_ms,
                                                        uintptr_t handle, char *errbuf, size_t errbuf_len)
{
    return ondat_telemetry_check_version(telemetry, timeout_ms, on_version, (void *)handle, errbuf, errbuf_len);
}

ondat_telemetry_status ondat_telemetry_go_latest_version(const ondat_telemetry *telemetry, uintptr_t handle)
{
    return ondat_telemetry_latest_version(telemetry, on_version, (void *)handle);
}

ondat_telemetry_status ondat_telemetry_go_preview_report(const ondat_telemetry *telemetry, const char *json,
                                                         size_t json_len, uintptr_t handle, char *errbuf,
                                                         size_t errbuf_len)
{
    return ondat_telemetry_preview_report(telemetry, json, json_len, on_text, (void *)handle, errbuf, errbuf_len);
}
