//! The settings as they are given.

use std::fmt::Display;
use std::path::Path;

use data_encoding::BASE64;
use ondat_telemetry_protocol::identity::{Identity, Purpose};
use ondat_telemetry_protocol::query::{check_length, version_label};

use super::Config;
use super::setting::{Number, Setting, Settings};
use crate::callbacks::{Callbacks, LogFn, ReportFn, VersionFn};
use crate::error::Error;
use crate::schedule;
use crate::state::{Look, StateDir, layout};
use crate::switch::{Objection, Source, Switch};

/// What was said so far. Setters keep the first bad value's error for [`build`](Self::build).
#[derive(Default)]
pub struct ConfigBuilder {
    pub(super) settings: Settings,
    identity_key: Option<[u8; 32]>,
    host_switches: Option<u32>,
    objections: Vec<Objection>,
    pub(super) k8s_distribution: Option<String>,
    callbacks: Callbacks,
    first_error: Option<Error>,
}

impl ConfigBuilder {
    /// Nothing said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the first error for [`build`](Self::build).
    pub fn remember(&mut self, error: Error) {
        self.first_error.get_or_insert(error);
    }

    /// The first bad value's error.
    pub fn error(&self) -> Option<&Error> {
        self.first_error.as_ref()
    }

    /// The state directory, as far as it was said.
    pub fn state_dir(&self) -> Option<&Path> {
        self.settings.who.state_dir.as_deref()
    }

    /// Keeps a parsed value, or the error with the setting's name.
    pub(super) fn accept<T>(&mut self, setting: &dyn Display, value: Result<T, String>) -> Option<T> {
        value.map_err(|why| self.remember(Error::InvalidConfig(format!("{setting}: {why}")))).ok()
    }

    /// Sets a text setting, as in the C interface.
    pub fn set(&mut self, setting: Setting, value: &str) {
        let set = self.settings.set(setting, value);
        self.accept(&setting.name(), set);
    }

    /// Sets a number, as in the C interface.
    pub fn set_number(&mut self, number: Number, value: u64) {
        let set = self.settings.set_number(number, value);
        self.accept(&number.name(), set);
    }

    /// The key shared by the cluster from which ids are made; 32 bytes.
    pub fn set_identity_key(&mut self, key: &[u8]) {
        let length = key.len();
        self.identity_key =
            self.accept(&"identity_key", key.try_into().map_err(|_| format!("{length} bytes instead of 32")));
    }

    /// The host's own word on the switches, a mask of bits.
    pub fn set_switches(&mut self, on: u32) {
        if on & !Switch::ALL_BITS != 0 {
            self.remember(Error::InvalidArgument(format!("switches: {on:#x} has bits that are no switches")));
            return;
        }
        self.host_switches = Some(on);
    }

    /// The log callback; `level` is the most verbose priority it gets (syslog(3): 3 error to 7 debug).
    pub fn set_log(&mut self, level: i32, log: LogFn) {
        self.callbacks.log = Some((level, log));
    }

    /// The version callback.
    pub fn set_on_version(&mut self, on_version: VersionFn) {
        self.callbacks.on_version = Some(on_version);
    }

    /// The report callback.
    pub fn set_on_report(&mut self, on_report: ReportFn) {
        self.callbacks.on_report = Some(on_report);
    }

    /// Adds that somebody turns these off.
    pub(super) fn object(&mut self, switches: &[Switch], source: &Source) {
        self.objections.extend(switches.iter().map(|switch| Objection { switch: *switch, source: source.clone() }));
    }

    /// What is true, or the first thing that was wrong.
    pub fn build(&self) -> Result<Config, Error> {
        if let Some(error) = &self.first_error {
            return Err(error.clone());
        }
        let missing = |setting: Setting| {
            let setting = setting.name();
            Error::InvalidConfig(format!("{setting} is required and was not set"))
        };
        let Settings { who, given } = &self.settings;
        let component = who.component.clone().ok_or_else(|| missing(Setting::Component))?;
        let (version_text, version) = who.version.clone().ok_or_else(|| missing(Setting::Version))?;
        let cluster_id = who.cluster_id.as_deref().ok_or_else(|| missing(Setting::ClusterId))?;
        let node_id = who.node_id.as_deref().ok_or_else(|| missing(Setting::NodeId))?;
        if given.report_url.is_some() && given.report_keys.is_none() {
            return Err(Error::InvalidConfig(
                "report_url is set but report_keys is not: a report is never sent unsealed".to_owned(),
            ));
        }
        let version_label = version_label(&version);
        if let Some(zone) = &given.version_zone {
            check_length(&version_label, zone, given.version_seal_key.is_some())
                .map_err(|why| Error::InvalidConfig(format!("version_zone: {why}")))?;
        }
        let state_dir = who.state_dir.as_deref().map(StateDir::open).transpose()?;
        let key = match (self.identity_key, &state_dir) {
            (None, Some(dir)) => identity_key(dir)?,
            (key, _) => key,
        };
        let identity = key.map_or_else(|| Identity::from_cluster_id(cluster_id), Identity::from_key);
        Ok(Config {
            component,
            version_text,
            version_label,
            version,
            cluster: identity.anonymise(Purpose::Cluster, cluster_id),
            node: identity.anonymise(Purpose::Node, node_id),
            slot: schedule::slot(&identity, node_id),
            identity,
            state_dir,
            host_switches: self.host_switches.unwrap_or(Switch::ALL_BITS),
            objections: self.objections.clone(),
            k8s_distribution: self.k8s_distribution.clone(),
            callbacks: self.callbacks.clone(),
            given: given.clone(),
        })
    }
}

/// The key that `ondat-telemetry reset-identity` has made. One that cannot be read does not bring the old ids back. A new
/// one is advised only where this one is none: what keeps a file from being opened may pass.
fn identity_key(dir: &StateDir) -> Result<Option<[u8; 32]>, Error> {
    let text = match dir.root().look(layout::IDENTITY_KEY) {
        Look::Bytes(text) => text,
        Look::NoFile => return Ok(None),
        Look::Unreadable(why) => return Err(Error::Io(why)),
        // Where there is one after all, nothing is sent under the ids of before.
        Look::NoFolder | Look::Denied(_) | Look::Unknown(_) => {
            dir.await_identity();
            return Ok(None);
        }
    };
    let key = BASE64.decode(text.strip_suffix(b"\n").unwrap_or(&text)).ok().and_then(|key| key.try_into().ok());
    let no_key = || {
        let file = dir.path().join(layout::IDENTITY_KEY);
        Error::InvalidConfig(format!("{}: not 32 bytes in base64: run ondat-telemetry reset-identity", file.display()))
    };
    key.map(Some).ok_or_else(no_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::Kind;
    use ondat_telemetry_protocol::keys::{Kem, generate_key};

    fn environment(variable: &str) -> Source {
        Source::new(Kind::Environment, variable)
    }

    fn complete() -> ConfigBuilder {
        let mut builder = ConfigBuilder::new();
        builder.set(Setting::Component, "dataplane");
        builder.set(Setting::Version, "2.8.2");
        builder.set(Setting::ClusterId, "c");
        builder.set(Setting::NodeId, "n");
        builder
    }

    #[test]
    fn the_first_bad_value_is_reported() {
        let mut builder = complete();
        builder.set(Setting::VersionZone, "bad zone");
        builder.set(Setting::SentryDsn, "nonsense");
        let error = builder.build().err().unwrap();
        assert!(error.to_string().starts_with("version_zone:"), "{error}");
        assert_eq!(error.status(), crate::error::Status::InvalidConfig);
    }

    #[test]
    fn a_missing_setting_is_named() {
        let error = ConfigBuilder::new().build().err().unwrap();
        assert_eq!(error.to_string(), "component is required and was not set");
    }

    #[test]
    fn malformed_settings_are_refused() {
        for (setting, value) in [
            (Setting::Component, "Data Plane"),
            (Setting::Version, "2.8"),
            (Setting::VersionZone, "a..b"),
            (Setting::VersionKey, "AAAA"),
            (Setting::VersionSealKey, "AAAA"),
            (Setting::Nameservers, "localhost"),
            (Setting::ReportUrl, "http://collector.example.com/"),
            (Setting::ReportUrl, "https://user@host/"),
            (Setting::ReportUrl, "https://host:84433/"),
            (Setting::ReportUrl, "https://host:https/"),
            (Setting::ReportUrl, "https://[::1]8443/"),
            (Setting::ReportUrl, "https://[host]/"),
            (Setting::ReportUrl, "https://host/#telemetry"),
            (Setting::ReportUrl, "https://host/\u{85}telemetry"),
            (Setting::ReportKeys, "{}"),
            (Setting::SentryDsn, "https://x@/1"),
            (Setting::Proxy, "ftp://proxy"),
            (Setting::CaFile, "/nonexistent.pem"),
        ] {
            let mut builder = complete();
            builder.set(setting, value);
            let error = builder.build().err().unwrap().to_string();
            assert!(error.starts_with(setting.name()), "{setting:?}: {error}");
        }
    }

    #[test]
    fn the_environment_and_the_spec_object_by_name() {
        let mut builder = complete();
        builder.load_variables(&environment, |name| Ok((name == "DISABLE_ERROR_REPORTING").then(|| "true".to_owned())));
        builder.load_cluster_spec("spec: {disableTelemetry: true, k8sDistro: rancher}");
        let config = builder.build().unwrap();
        assert_eq!(config.objections.len(), 4);
        assert_eq!(config.objections[0].source.to_string(), "environment DISABLE_ERROR_REPORTING");
        assert_eq!(config.objections[3].source.to_string(), "cluster spec disableTelemetry");
        assert_eq!(config.k8s_distribution.as_deref(), Some("rancher"));
    }

    #[test]
    fn the_state_directorys_key_makes_the_ids_unless_one_is_set() {
        use std::os::unix::fs::DirBuilderExt;
        let dir = std::env::temp_dir().join(format!("ondat-telemetry-identity-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        let mut builder = complete();
        builder.set(Setting::StateDir, dir.to_str().unwrap());
        let id = |builder: &ConfigBuilder| builder.build().map(|config| (config.cluster, config.node, config.slot));
        let ids_of = |key: [u8; 32]| {
            let identity = Identity::from_key(key);
            let (cluster, node) = (identity.anonymise(Purpose::Cluster, "c"), identity.anonymise(Purpose::Node, "n"));
            (cluster, node, schedule::slot(&identity, "n"))
        };
        let derived = id(&builder).unwrap();
        assert_eq!(Ok(derived), id(&complete()), "without the file");

        let file = dir.join("identity.key");
        for (key, newline) in [(7, ""), (8, "\n")] {
            std::fs::write(&file, BASE64.encode(&[key; 32]) + newline).unwrap();
            assert_eq!(id(&builder), Ok(ids_of([key; 32])));
            assert_ne!(id(&builder), Ok(derived));
        }

        let mut explicit = complete();
        explicit.set(Setting::StateDir, dir.to_str().unwrap());
        explicit.set_identity_key(&[9; 32]);
        let mut from_variable = complete();
        from_variable.set(Setting::StateDir, dir.to_str().unwrap());
        let key = BASE64.encode(&[9; 32]);
        from_variable
            .load_variables(&environment, |name| Ok((name == "ONDAT_TELEMETRY_IDENTITY_KEY").then(|| key.clone())));
        for contents in [BASE64.encode(&[8; 32]), "damaged".to_owned()] {
            std::fs::write(&file, contents).unwrap();
            assert_eq!(id(&explicit), Ok(ids_of([9; 32])));
            assert_eq!(id(&from_variable), Ok(ids_of([9; 32])));
        }

        let whole = BASE64.encode(&[8; 32]);
        let shown = file.display();
        for damaged in ["", "\n", &whole[..43], &format!("{whole}\n\n"), &BASE64.encode(&[8; 33]), "\u{e4}"] {
            std::fs::write(&file, damaged).unwrap();
            let why = format!("{shown}: not 32 bytes in base64: run ondat-telemetry reset-identity");
            assert_eq!(id(&builder), Err(Error::InvalidConfig(why)));
        }
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("elsewhere", &file).unwrap();
        let why = format!("state_dir {shown}: a symlink, which is not followed");
        assert_eq!(id(&builder), Err(Error::Io(why)));
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert_eq!(id(&builder), Err(Error::Io(format!("state_dir {shown}: not a regular file"))));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_request_method_makes_a_cgi_program() {
        for (value, is_cgi) in [
            (Ok(None), false),
            (Ok(Some(String::new())), false),
            (Ok(Some("GET".to_owned())), true),
            (Err("not UTF-8".to_owned()), true),
        ] {
            let mut builder = complete();
            builder
                .load_variables(&environment, |name| if name == "REQUEST_METHOD" { value.clone() } else { Ok(None) });
            assert_eq!(builder.build().unwrap().given.https.proxy.cgi, is_cgi, "{value:?}");
        }
    }

    #[test]
    fn a_zone_that_leaves_no_room_for_the_query_is_refused() {
        let mut builder = complete();
        builder.set(Setting::VersionZone, &format!("{0}.{0}.example", "z".repeat(45)));
        assert!(builder.build().is_ok());
        builder.set(Setting::VersionSealKey, &BASE64.encode(&generate_key(Kem::X25519).1));
        let error = builder.build().err().unwrap().to_string();
        assert!(error.starts_with("version_zone: the sealed query's name would have"), "{error}");
    }

    #[test]
    fn a_report_url_without_keys_is_a_contradiction() {
        let mut builder = complete();
        builder.set(Setting::ReportUrl, "https://collector.example.com");
        assert!(builder.build().err().unwrap().to_string().contains("report_keys"));
    }
}
