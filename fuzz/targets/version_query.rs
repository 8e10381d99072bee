//! Names of version queries: read as they are, and made from 34 bytes of ids and day and the rest as a version.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry_protocol::query::{Query, SealedQuery, canonical, version_label};
use semver::Version;

const ZONE: &str = "latest.example.com";

fuzz_target!(|bytes: &[u8]| {
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Some(query) = Query::decode(name, Some(ZONE))
    {
        let asked = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase() + ".";
        assert_eq!(query.name(ZONE), asked);
    }
    if let Ok(name) = std::str::from_utf8(bytes) {
        // One name has one reading.
        assert!(Query::decode(name, None).is_none() || SealedQuery::decode(name, None).is_none());
    }
    let Some((head, rest)) = bytes.split_at_checked(34) else { return };
    let (Ok(cluster), Ok(node)) = (head[..16].try_into(), head[16..32].try_into()) else { return };
    let day = u16::from_be_bytes([head[32], head[33]]);
    let Ok(text) = std::str::from_utf8(rest) else { return };

    // The check value is no secret: a name may say anything for a version.
    let forged = Query { cluster, node, day, version: text.to_ascii_lowercase() };
    if let Some(read) = Query::decode(&forged.name(ZONE), Some(ZONE)) {
        assert_eq!(read, forged);
        let _ = read.version_text();
    }
    if let Ok(version) = Version::parse(text) {
        let query = Query { cluster, node, day, version: version_label(&version) };
        let name = query.name(ZONE);
        assert!(name.split('.').all(|label| label.len() <= 63), "{name}");
        assert_eq!(Query::decode(&name, Some(ZONE)).as_ref(), Some(&query));
        let text = canonical(&version);
        assert_eq!(query.version_text(), (text.len() <= 39).then_some(text));
    }
});
