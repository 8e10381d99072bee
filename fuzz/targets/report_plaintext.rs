//! What is inside a seal: anybody can seal anything for the vendor's key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry_protocol::fields::{FIELDS, Level, is_field_name};
use ondat_telemetry_protocol::header::Header;
use ondat_telemetry_protocol::keys::Kem;
use ondat_telemetry_protocol::limits::GROUP_RECORDS;
use ondat_telemetry_protocol::plaintext::reader::read;

fuzz_target!(|lines: &[u8]| {
    let header = Header { key_id: [1; 8], kem: Kem::X25519, report_id: [3; 16], day: 20_781, is_single: true };
    let mut given = [0; 2];
    let report = read(lines, &header, |level, record| {
        given[usize::from(level == Level::Volume)] += 1;
        // The fields of the list come first, each in the form in which it is sent.
        for (field, (name, value)) in level.fields().zip(&record.0) {
            assert_eq!(field.name, name);
            field.check_sent(value).expect(field.name);
        }
        assert!(record.0.iter().all(|(name, _)| is_field_name(name)));
    });
    let Ok(report) = report else { return };
    assert_eq!((report.nodes.count, report.volumes.count), (given[0], given[1]));
    assert!(report.fields >= FIELDS.len() && report.day == "2026-11-24");
    for (level, records) in [(Level::Node, &report.nodes), (Level::Volume, &report.volumes)] {
        assert!(records.first.len() <= GROUP_RECORDS && records.first.len() <= records.count);
        assert!(records.first.iter().all(|record| record.0.len() >= level.fields().count()));
    }
});
