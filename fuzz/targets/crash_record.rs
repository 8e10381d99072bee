//! A crash record as it may come from a host whose memory is damaged, a wait status, and the event made of both.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::crash::record::{Kind, RECORD_BYTES, Record};
use ondat_telemetry_protocol::ending::{CoreDump, Ending};
use ondat_telemetry_protocol::event::{Crash, Subject, event};
use ondat_telemetry_protocol::signals;

const SUBJECT: Subject<'_> = Subject { component: "dataplane", version: "2.8.2", cluster_id: "c", node_id: "n" };

fuzz_target!(|bytes: &[u8]| {
    let (bytes, status) = bytes.split_at(bytes.len().min(RECORD_BYTES));
    let Some(record) = Record::from_bytes(bytes) else { return };
    assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
    assert_eq!(record.to_bytes(), bytes);

    let killed = Ending::Killed { signal: record.signal, core_dump: CoreDump::Unknown };
    let ending = match status.first_chunk() {
        Some(status) => Ending::from_wait_status(i32::from_ne_bytes(*status)),
        None if record.kind == Kind::Crash => Some(killed),
        None => Some(record.ending(|| true)),
    };
    let Some(ending) = ending else { return };
    let class = signals::cause(record.signal, record.code);
    let made = event(&SUBJECT, &Crash { event_id: "e", at: record.at, ending, class, text: None, is_child: false });
    // Integers only: nothing of a record can lengthen what is sent.
    assert!(made.to_string().len() < 1024, "{made}");
    assert_eq!(made["timestamp"].as_str().map(str::len), Some("2026-11-24T04:00:00Z".len()), "{made}");
    let kind = made["exception"]["values"][0]["type"].as_str().unwrap_or_default();
    assert!(kind.starts_with("SIG") || ["ExitCode", "UncleanExit"].contains(&kind), "{made}");
});
