//! What must hold for every version, id, day and zone, and not only for those that somebody thought of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use data_encoding::BASE64;
use ondat_telemetry::config::setting::zone as accepted_zone;
use ondat_telemetry::version::verdict::{Verdict, is_development_build};
use ondat_telemetry_protocol::answer::Answer;
use ondat_telemetry_protocol::keys::{Kem, generate_key};
use ondat_telemetry_protocol::message::{MessageKey, MessageSecret};
use ondat_telemetry_protocol::query::{Query, SealedQuery, check_length, version_label};
use proptest::prelude::*;
use semver::{BuildMetadata, Prerelease, Version};

/// The longest canonical version that is sent as it is.
const LABEL_BYTES: usize = 39;

/// Nothing is written beside the sources: a failure prints its smallest case.
fn config() -> ProptestConfig {
    ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() }
}

/// The numbers of a version: mostly small, so that two of them are close, and now and then as large as they get.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..4_u64, 2 => 0..100_000_u64, 1 => any::<u64>()]
}

/// SemVer with pre-release and build parts of up to some hundred bytes.
fn version() -> impl Strategy<Value = Version> {
    let parts = |most| {
        let part = "0|[1-9][0-9]{0,18}|[0-9]{0,4}[a-zA-Z-][0-9a-zA-Z-]{0,24}";
        prop::collection::vec(part, 1..=most).prop_map(|parts| parts.join("."))
    };
    let pre = prop_oneof![3 => "(rc|beta|dev)\\.[1-9]", 2 => parts(3), 1 => parts(12)];
    (number(), number(), number(), prop::option::of(pre), prop::option::of(parts(3))).prop_map(
        |(major, minor, patch, pre, build)| {
            let pre = pre.map(|pre| format!("-{pre}")).unwrap_or_default();
            let build = build.map(|build| format!("+{build}")).unwrap_or_default();
            Version::parse(&format!("{major}.{minor}.{patch}{pre}{build}")).unwrap()
        },
    )
}

/// Two versions: any, or close to each other.
fn two_versions() -> impl Strategy<Value = (Version, Version)> {
    version().prop_flat_map(|one| {
        let unbuilt = Version { build: BuildMetadata::EMPTY, ..one.clone() };
        let released = Version { pre: Prerelease::EMPTY, ..one.clone() };
        let next = Version { patch: one.patch.saturating_add(1), ..one.clone() };
        (Just(one), prop_oneof![version(), Just(unbuilt), Just(released), Just(next)])
    })
}

/// A zone as the settings hold it.
fn zone() -> impl Strategy<Value = String> {
    let label = "[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,12}[a-zA-Z0-9_])?";
    prop::collection::vec(label, 1..=8).prop_map(|labels| accepted_zone(&labels.join(".")).unwrap())
}

fn query() -> impl Strategy<Value = Query> {
    (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<u16>(), version()).prop_map(|(cluster, node, day, version)| Query {
        cluster,
        node,
        day,
        version: version_label(&version),
    })
}

/// A name in which the letters chosen by the bits are upper case.
fn in_mixed_case(name: &str, bits: &[bool]) -> String {
    let is_upper = bits.iter().copied().cycle();
    name.chars().zip(is_upper).map(|(c, is_upper)| if is_upper { c.to_ascii_uppercase() } else { c }).collect()
}

/// An answer with bounds and without an override.
fn answer() -> impl Strategy<Value = Answer> {
    (version(), prop::option::of(version()), prop::option::of(version())).prop_map(|(latest, recommended, required)| {
        Answer {
            latest,
            recommended,
            required,
            status: None,
            advisory: None,
            issued: 0,
            expires: 1,
            authenticated: true,
        }
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_query_reads_back(query in query(), zone in zone(), bits in prop::collection::vec(any::<bool>(), 1..300)) {
        let name = query.name(&zone);
        prop_assert!(name.len() <= 254, "{} bytes", name.len());
        prop_assert!(name.split('.').all(|label| label.len() <= 63), "{name}");
        prop_assert_eq!(Query::decode(&name, Some(&zone)), Some(query.clone()));
        // Resolvers may change the case of letters, and software leaves the last dot out.
        let changed = in_mixed_case(name.trim_end_matches('.'), &bits);
        prop_assert_eq!(Query::decode(&changed, None), Some(query.clone()));
        prop_assert_eq!(Query::decode(&changed, Some(&zone)), Some(query));
    }

    #[test]
    fn a_sealed_query_reads_back(query in query(), zone in zone(), bits in prop::collection::vec(any::<bool>(), 1..300)) {
        prop_assume!(check_length(&query.version, &zone, true).is_ok());
        let (private, public) = generate_key(Kem::X25519);
        let key = MessageKey::parse(&BASE64.encode(&public)).unwrap();
        let secret = MessageSecret::parse(&BASE64.encode(&private)).unwrap();
        let name = query.sealed_name(&zone, &key).unwrap();
        prop_assert!(name.len() <= 254, "{} bytes", name.len());
        let changed = in_mixed_case(name.trim_end_matches('.'), &bits);
        for zone in [None, Some(zone.as_str())] {
            prop_assert_eq!(Query::decode(&changed, zone), None);
            let sealed = SealedQuery::decode(&changed, zone);
            prop_assert_eq!(sealed.and_then(|sealed| sealed.open(&secret)), Some(query.clone()));
        }
    }

    #[test]
    fn a_changed_character_is_seen(
        query in query(),
        zone in zone(),
        place in any::<prop::sample::Index>(),
        other in prop_oneof!["[a-zA-Z0-9._-]", "\\PC"],
    ) {
        let name = query.name(&zone);
        let at = place.index(name.len());
        let changed = format!("{}{other}{}", &name[..at], &name[at + 1..]);
        let read = Query::decode(&changed, Some(&zone));
        if changed.eq_ignore_ascii_case(&name) {
            prop_assert_eq!(read, Some(query));
        } else {
            prop_assert_eq!(read, None, "{} became {}", name, changed);
        }
    }

    #[test]
    fn versions_that_are_sent_as_they_are_do_not_share_a_label((one, two) in two_versions()) {
        let without_build = |version: &Version| version.to_string().split('+').next().unwrap().to_owned();
        let (one_text, two_text) = (without_build(&one), without_build(&two));
        let (one, two) = (version_label(&one), version_label(&two));
        prop_assert_eq!(one == two, one_text == two_text, "{} {}", one_text, two_text);
        for (text, label) in [(one_text, one), (two_text, two)] {
            prop_assert!((1..=63).contains(&label.len()), "{}", label);
            prop_assert_eq!(label.starts_with('x'), text.len() > LABEL_BYTES, "{} is {}", text, label);
            let query = Query { cluster: [0; 16], node: [0; 16], day: 0, version: label };
            prop_assert_eq!(query.version_text(), (text.len() <= LABEL_BYTES).then_some(text));
        }
    }

    #[test]
    fn a_higher_version_stands_no_worse((one, two) in two_versions(), answer in answer()) {
        prop_assume!(!is_development_build(&one) && !is_development_build(&two));
        let (lower, higher) = if one.cmp_precedence(&two).is_le() { (one, two) } else { (two, one) };
        let (of_lower, of_higher) = (Verdict::at(0, &lower, &answer), Verdict::at(0, &higher, &answer));
        prop_assert!(of_higher >= Verdict::Current, "{} has no verdict", higher);
        prop_assert!(of_higher <= of_lower, "{lower}: {of_lower:?}, {higher}: {of_higher:?}");
        if lower.cmp_precedence(&higher).is_eq() {
            prop_assert_eq!(of_lower, of_higher);
        }
    }
}
