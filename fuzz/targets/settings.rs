//! The settings that are one text and need no file. The first byte chooses the setting.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ondat_telemetry::config::builder::ConfigBuilder;
use ondat_telemetry::config::setting::{Setting, zone};
use ondat_telemetry_protocol::query::Query;

const SETTINGS: [Setting; 8] = [
    Setting::Component,
    Setting::Version,
    Setting::ClusterId,
    Setting::NodeId,
    Setting::VersionZone,
    Setting::VersionKey,
    Setting::Nameservers,
    Setting::Proxy,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, text)) = bytes.split_first() else { return };
    let (setting, Ok(text)) = (SETTINGS[usize::from(*choice) % SETTINGS.len()], std::str::from_utf8(text)) else {
        return;
    };
    let mut builder = ConfigBuilder::new();
    for (setting, value) in [
        (Setting::Component, "dataplane"),
        (Setting::Version, "2.8.2"),
        (Setting::ClusterId, "cluster"),
        (Setting::NodeId, "node"),
        (setting, text),
    ] {
        builder.set(setting, value);
    }
    let config = match builder.build() {
        Ok(config) => config,
        Err(error) => {
            let line = error.to_string();
            assert!(line.starts_with(&format!("{}: ", setting.name())), "{line:?}");
            assert!(!line.contains(char::is_control), "{line:?}");
            return;
        }
    };
    if let Some(name) = config.given.version_zone {
        assert_eq!(zone(&name).as_ref(), Ok(&name));
        let longest = "x".repeat(63);
        let query = Query { cluster: config.cluster, node: config.node, day: u16::MAX, version: longest };
        // A name's length counts the root's empty label and one octet for each label's length (RFC 1035, 3.1).
        assert!(query.name(&name).len() < 255, "a query name of this zone is too long: {name}");
    }
    assert!(config.given.https.nameservers.is_none_or(|servers| !servers.is_empty()));
    assert!(!config.version_label.is_empty() && config.version_label.len() <= 63);
    assert!((0..86_400).contains(&config.slot));
});
