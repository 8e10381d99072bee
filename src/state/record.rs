//! JSON that several processes of several versions share: read and written whole, under a lock. What a newer version has
//! written and this one does not know stays in it.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{StateDir, layout};
use crate::error::Error;

/// How long a lock is waited for: as long as reading and writing a file of a few kilobytes takes, fsync(2) on a busy disk
/// included. A stopped process must not stop this one.
pub const PATIENCE: Duration = Duration::from_millis(200);

/// Reads it; the default where there is none. The second value says why a damaged file was moved aside.
pub fn load<T: DeserializeOwned + Default>(dir: &StateDir, name: &str) -> Result<(T, Option<String>), Error> {
    let why = match dir.root().read(name) {
        Ok(None) => return Ok((T::default(), None)),
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(value) => return Ok((value, None)),
            Err(error) => error.to_string(),
        },
        // Too large, no regular file: nothing that the library has written. Else it may be whole, and is to be read later.
        Err(error) if !dir.root().may_be_read(name) => error.to_string(),
        Err(error) => return Err(error),
    };
    let aside = layout::damaged(name);
    dir.root().rename(name, &aside)?;
    Ok((T::default(), Some(format!("{name} was damaged ({why}) and is now {aside}"))))
}

/// Writes it.
pub fn store<T: Serialize>(dir: &StateDir, name: &str, value: &T) -> Result<(), Error> {
    dir.root().write(name, &to_bytes(dir, name, value)?)
}

/// What [`store`] would write.
pub fn to_bytes<T: Serialize>(dir: &StateDir, name: &str, value: &T) -> Result<Vec<u8>, Error> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::Internal(format!("{name}: {error}")))?;
    Ok(with_unknown(dir, name, &bytes).unwrap_or(bytes))
}

/// With what a newer version has written into the file and this one does not know; none where there is nothing like that. Of
/// bytes: code for each form would make the library larger.
fn with_unknown(dir: &StateDir, name: &str, now: &[u8]) -> Option<Vec<u8>> {
    let before = dir.root().read(name).ok()??;
    let (before, mut now) = (serde_json::from_slice(&before).ok()?, serde_json::from_slice(now).ok()?);
    keep_unknown(&mut now, before, Names::Known);
    serde_json::to_vec(&now).ok()
}

/// What the names in an object are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// Members of a form: one that is not known is a newer version's.
    Known,
    /// Keys of a map: one that is not there any more has gone.
    Keys,
}

/// The members that hold maps.
const MAPS: [&str; 2] = ["made", "kinds"];
/// What is whole as it is: the event of a crash report.
const WHOLE: &str = "event";
/// Members that tell which one of a list it is.
const TELLING: [&str; 5] = ["label", "zone", "day", "at", "report_id"];

fn keep_unknown(now: &mut Value, before: Value, names: Names) {
    match (now, before) {
        (Value::Object(now), Value::Object(before)) => {
            for (name, before) in before {
                match now.get_mut(&name) {
                    Some(_) if name == WHOLE => {}
                    Some(now) => {
                        let names = if MAPS.contains(&name.as_str()) { Names::Keys } else { Names::Known };
                        keep_unknown(now, before, names);
                    }
                    None if names == Names::Known => drop(now.insert(name, before)),
                    None => {}
                }
            }
        }
        (Value::Array(now), Value::Array(mut before)) => {
            for now in now.iter_mut().filter(|now| TELLING.iter().any(|name| now.get(name).is_some())) {
                let is_it = |before: &Value| TELLING.iter().all(|name| before.get(name) == now.get(name));
                if let Some(at) = before.iter().position(is_it) {
                    keep_unknown(now, before.swap_remove(at), Names::Known);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
    #[serde(default)]
    struct Known {
        told: Vec<Told>,
        made: std::collections::BTreeMap<String, u8>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
    #[serde(default)]
    struct Told {
        label: String,
        failures: u32,
    }

    #[test]
    fn what_a_newer_version_has_written_is_kept_and_what_an_older_one_has_not_is_absent() {
        let path = std::env::temp_dir().join(format!("ondat-telemetry-record-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        let dir = StateDir::open(&path).unwrap();
        let newer = r#"{"schema":2,"told":[{"label":"a","server":"s"},{"label":"b"}],"made":{"gone":1,"stays":2}}"#;
        dir.root().write("file", newer.as_bytes()).unwrap();
        let (mut known, damaged): (Known, _) = load(&dir, "file").unwrap();
        assert_eq!((known.told.len(), known.told[1].failures, damaged), (2, 0, None));
        known.told[0].failures = 3;
        known.made.remove("gone");
        store(&dir, "file", &known).unwrap();
        let stored: Value = serde_json::from_slice(&dir.root().read("file").unwrap().unwrap()).unwrap();
        assert_eq!((&stored["schema"], &stored["told"][0]["server"]), (&2.into(), &"s".into()));
        assert_eq!(stored["told"][0]["failures"], 3);
        assert_eq!(stored["made"], serde_json::json!({"stays": 2}), "what was taken out of a map does not come back");
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn what_is_damaged_is_moved_aside() {
        let path = std::env::temp_dir().join(format!("ondat-telemetry-record-damaged-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        let dir = StateDir::open(&path).unwrap();
        dir.root().write("file", b"{").unwrap();
        let (known, damaged): (Known, _) = load(&dir, "file").unwrap();
        assert!(known == Known::default() && damaged.unwrap().contains("file was damaged"));
        assert_eq!(dir.root().read(&layout::damaged("file")).unwrap().unwrap(), b"{");
        std::fs::remove_dir_all(&path).unwrap();
    }
}
