//! What became of the last try to send each of the three, for `status`.

use serde_json::{Value, json};

use crate::state::{StateDir, layout};
use crate::switch::Switch;

/// Remembers why something could not be sent, for `status`: when, in which words, and when it is tried again, where that is
/// known. In a file of its own for each switch: it is written whole, and takes no lock.
pub fn note_failure(dir: &StateDir, switch: Switch, at: i64, text: &str, next: Option<i64>) {
    let failure = json!({ "at": at, "text": text, "next": next });
    // It only informs: the log has said it. After a power cut it is nothing new.
    let _ = dir.folder(layout::FAILURES).write_unsynced(switch.name(), failure.to_string().as_bytes());
}

/// Forgets it: it was sent.
pub fn note_success(dir: &StateDir, switch: Switch) {
    let _ = dir.folder(layout::FAILURES).remove_unsynced(switch.name());
}

/// What [`note_failure`] has written; null where there is nothing, or something else.
pub fn failure(dir: &StateDir, switch: Switch) -> Value {
    let bytes = dir.folder(layout::FAILURES).read(switch.name()).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}
