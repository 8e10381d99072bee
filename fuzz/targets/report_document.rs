//! A report's document as a host gives it, what is made of it, and what a reader makes of that.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ondat_telemetry_protocol::document::read_document;
use ondat_telemetry_protocol::fields::Level;
use ondat_telemetry_protocol::header::Header;
use ondat_telemetry_protocol::identity::Identity;
use ondat_telemetry_protocol::json::read_object;
use ondat_telemetry_protocol::keys::Kem;
use ondat_telemetry_protocol::plaintext::reader::read;
use ondat_telemetry_protocol::plaintext::writer::{Heading, OwnNode, Writer};
use serde_json::{Map, Value};

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| Identity::from_key([7; 32]));

fuzz_target!(|json: &[u8]| {
    let _ = read_object(json);
    let header = Header { key_id: [1; 8], kem: Kem::X25519, report_id: [3; 16], day: 20_781, is_single: true };
    let heading = Heading { id: header.report_id, day: header.date() };
    let mut document = Writer::new(Vec::new(), &IDENTITY, heading, Map::new(), OwnNode::default());
    if read_document(json, &mut document).is_err() {
        return;
    }
    let plaintext = document.finish().expect("an accepted document is refused");
    assert!(plaintext.len() <= 4096 + 64 * json.len(), "{} bytes became {}", json.len(), plaintext.len());

    // The reader checks each value in the form in which it is sent.
    let (mut nodes, mut volumes) = (0, 0);
    let report = read(&*plaintext, &header, |level, record| {
        let total = if level == Level::Node { &mut nodes } else { &mut volumes };
        *total += 1;
        // Of a user agent, product and version.
        if let Some(agent) = record.get("volume_provision_source_user_agent").as_str() {
            let is_plain = agent.chars().all(|c| c.is_ascii_alphanumeric() || "._+~-/".contains(c));
            assert!(is_plain && agent.matches('/').count() <= 1, "{agent:?}");
        }
    });
    let report = report.expect("what was written is not read");
    assert_eq!(report.cluster.0.len(), Level::Cluster.fields().count());
    assert_eq!((report.nodes.count, report.volumes.count), (nodes, volumes));
    let given: Value = serde_json::from_slice(json).expect("accepted and not JSON");
    let count = |name: &str| given[name].as_array().map_or(0, Vec::len);
    assert_eq!((nodes, volumes), (count("nodes"), count("volumes")), "records were lost or made up");
});
