//! The daily report.

use std::ffi::{c_char, c_void};
use std::time::Duration;

use ondat_telemetry_protocol::fields::Level;

use super::client::give_text;
use super::types::{Status, TextFn};
use super::{guard_client, guard_report, not_null, read_bytes};
use crate::callbacks::Report;
use crate::client::Core;
use crate::error::Error;

/// The longest report document in bytes.
const LONGEST_REPORT: usize = 1 << 30;

/// A document or record. One that is too long is a bad report, not a bad argument.
///
/// # Safety
/// As for [`read_bytes`].
unsafe fn read_json<'a>(json: *const c_char, length: usize) -> Result<&'a [u8], Error> {
    if !json.is_null() && length > LONGEST_REPORT {
        return Err(Error::InvalidReport(format!(
            "{length} bytes of JSON, more than the {LONGEST_REPORT} that are read"
        )));
    }
    // SAFETY: the caller's promise.
    unsafe { read_bytes("json", json.cast(), length, LONGEST_REPORT) }
}

/// Sends the report of the current UTC day: {cluster fields..., "nodes": [...], "volumes": [...]}. Returns QUEUED if
/// the report is stored but not delivered, and INVALID_STATE if the report of this day was already delivered or stored.
///
/// timeout_ms starts with the call and bounds the delivery. Before the delivery the report is read, sealed and stored.
/// timeout_ms does not cut that short, and a large report takes seconds. If no time is left, the report stays stored.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_submit_report(
    telemetry: *const Core,
    json: *const c_char,
    json_len: usize,
    timeout_ms: u32,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| {
        // SAFETY: CONVENTIONS: `json_len` bytes or NULL.
        let json = unsafe { read_json(json, json_len) }?;
        client.submit_report(json, Duration::from_millis(timeout_ms.into()))
    })
}

/// Passes to the callback, byte for byte, what would be sealed for this document. Sends and stores nothing.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_preview_report(
    telemetry: *const Core,
    json: *const c_char,
    json_len: usize,
    callback: TextFn,
    userdata: *mut c_void,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_client(telemetry, errbuf, errbuf_len, |client| {
        let callback = not_null("callback", callback)?;
        // SAFETY: CONVENTIONS: `json_len` bytes or NULL.
        let json = unsafe { read_json(json, json_len) }?;
        let text = client.preview_report(json)?;
        give_text(&client, text, callback, userdata);
        Ok(())
    })
}

/// Inside a report callback, on any thread: whether an administrator only asks what would be sent. Nothing is sent or
/// stored then, and the report of the day is still to come. Returns false for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_report_is_preview(report: *const Report) -> bool {
    // SAFETY: CONVENTIONS: NULL or what a report callback was given, which has not returned yet.
    unsafe { report.as_ref() }.is_some_and(|report| report.is_preview())
}

/// Inside a report callback, on any thread: sets the cluster fields from one JSON object. Call it once, before the
/// first 1024 records are added. A refused object changes nothing.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_report_set_cluster(
    report: *mut Report,
    json: *const c_char,
    json_len: usize,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_report(report, errbuf, errbuf_len, |report| {
        // SAFETY: CONVENTIONS: `json_len` bytes or NULL.
        let json = unsafe { read_json(json, json_len) }?;
        report.set_cluster_json(json)
    })
}

/// Inside a report callback, on any thread: adds one node, a JSON object of node_ fields. A refused record changes
/// nothing. errbuf names it by its position among all nodes given so far, counted from 0: nodes[3].node_health:
/// expected ...
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_report_add_node(
    report: *mut Report,
    json: *const c_char,
    json_len: usize,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    add(report, Level::Node, json, json_len, errbuf, errbuf_len)
}

/// Inside a report callback, on any thread: adds one volume, a JSON object of volume_ fields. Otherwise as
/// ondat_telemetry_report_add_node.
#[unsafe(no_mangle)]
pub extern "C" fn ondat_telemetry_report_add_volume(
    report: *mut Report,
    json: *const c_char,
    json_len: usize,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    add(report, Level::Volume, json, json_len, errbuf, errbuf_len)
}

fn add(
    report: *mut Report,
    level: Level,
    json: *const c_char,
    json_len: usize,
    errbuf: *mut c_char,
    errbuf_len: usize,
) -> Status {
    guard_report(report, errbuf, errbuf_len, |report| {
        // SAFETY: CONVENTIONS: `json_len` bytes or NULL.
        let json = unsafe { read_json(json, json_len) }?;
        report.add_json(level, json)
    })
}
