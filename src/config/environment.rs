//! The settings as environment and cluster spec give them.

use std::path::PathBuf;

use data_encoding::BASE64;

use super::builder::ConfigBuilder;
use super::setting::{Number, Setting, variable as variable_of};
use crate::spec;
use crate::switch::{Kind, Source, Switch, objects};
use crate::sys::privilege;
use crate::transport::roots::CaFile;

/// The setting of the key that anonymises, in bytes: base64 in the environment.
const IDENTITY_KEY: &str = "identity_key";

impl ConfigBuilder {
    /// Reads the variables of docs/settings.md from the process's environment.
    pub fn load_env(&mut self) {
        self.load_environment(privilege::is_secure());
    }

    /// In a privileged program a user with fewer rights sets the environment. That user may turn switches off, but must not name
    /// a file to read, a program to start or a server to ask.
    fn load_environment(&mut self, is_secure: bool) {
        let variable = |name: &str| match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err("not UTF-8".to_owned()),
        };
        let environment = |variable: &str| Source::new(Kind::Environment, variable);
        if is_secure {
            self.load_switch_variables(&environment, variable);
        } else {
            self.load_variables(&environment, variable);
        }
    }

    /// Reads a StorageOSCluster resource.
    pub fn load_cluster_spec(&mut self, text: &str) {
        let Some(spec) = self.accept(&"cluster spec", spec::parse(text)) else { return };
        if spec.disable_telemetry {
            self.object(&Switch::ALL, &Source::new(Kind::ClusterSpec, "disableTelemetry"));
        }
        let environment = |variable: &str| Source::new(Kind::ClusterSpec, format!("environment {variable}"));
        self.load_variables(&environment, |name| Ok(spec.environment.get(name).cloned()));
        if let Some(distro) = spec.k8s_distro.filter(|distro| !distro.is_empty()) {
            self.k8s_distribution = Some(distro);
        }
    }

    fn load_switch_variables(
        &mut self,
        origin: &dyn Fn(&str) -> Source,
        variable: impl Fn(&str) -> Result<Option<String>, String>,
    ) {
        for name in Switch::variables() {
            // A variable that is not valid UTF-8 turns the switch off: a privacy switch fails closed, and this is no reason to
            // refuse to start.
            if variable(name).unwrap_or_else(|_| Some("not UTF-8".to_owned())).is_some_and(|value| objects(&value)) {
                self.object(Switch::of_variable(name), &origin(name));
            }
        }
    }

    /// Reads the variables of docs/settings.md from wherever `variable` has them. `origin` names one to people.
    pub fn load_variables(
        &mut self,
        origin: &dyn Fn(&str) -> Source,
        variable: impl Fn(&str) -> Result<Option<String>, String>,
    ) {
        self.load_switch_variables(origin, &variable);
        let read = |builder: &mut Self, name: &str| {
            let value = builder.accept(&origin(name), variable(name)).flatten();
            value.filter(|value| !value.is_empty())
        };
        let mut first_of = |names: [&str; 2]| names.into_iter().find_map(|name| read(self, name));
        let (http, https, no_proxy) = (
            first_of(["HTTP_PROXY", "http_proxy"]),
            first_of(["HTTPS_PROXY", "https_proxy"]),
            first_of(["NO_PROXY", "no_proxy"]),
        );
        let proxy = &mut self.settings.given.https.proxy;
        proxy.http = http.unwrap_or_else(|| std::mem::take(&mut proxy.http));
        proxy.https = https.unwrap_or_else(|| std::mem::take(&mut proxy.https));
        proxy.no_proxy = no_proxy.unwrap_or_else(|| std::mem::take(&mut proxy.no_proxy));
        // A variable that is not valid UTF-8 counts as set.
        proxy.cgi |= variable("REQUEST_METHOD").map_or(true, |method| method.is_some_and(|method| !method.is_empty()));
        if let Some(file) = read(self, "SSL_CERT_FILE") {
            let file = PathBuf::from(file);
            // It is meant for every program of the host, so a bad value must not stop this one.
            let given = &mut self.settings.given;
            match CaFile::read(&file) {
                Ok(read) => given.notes.extend(read.notes),
                Err(why) => {
                    let named = origin("SSL_CERT_FILE");
                    given.notes.push(format!("{named} {} is passed over: {why}", file.display()));
                }
            }
            given.https.ca_files.push(file);
        }
        let dirs = read(self, "SSL_CERT_DIR").unwrap_or_default();
        self.settings.given.https.ca_dirs.extend(dirs.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from));
        for setting in Setting::ALL {
            if let Some(value) = read(self, &variable_of(setting.name())) {
                self.set(*setting, &value);
            }
        }
        if let Some(key) = read(self, &variable_of(IDENTITY_KEY)) {
            let decoded = BASE64.decode(key.trim().as_bytes()).map_err(|_| "not base64".to_owned());
            if let Some(key) = self.accept(&IDENTITY_KEY, decoded) {
                self.set_identity_key(&key);
            }
        }
        for number in Number::ALL {
            if let Some(text) = read(self, &variable_of(number.name())) {
                let parsed = text.parse().map_err(|_| format!("not a number of {}", number.unit()));
                if let Some(value) = self.accept(&number.name(), parsed) {
                    self.set_number(*number, value);
                }
            }
        }
    }
}
