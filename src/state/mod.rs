//! The state directory: which directory it is, and its files, which are never read half-written and never followed
//! through a symlink.

mod dir;
mod file;
pub mod layout;
pub mod lock;
pub mod record;
mod socket;

pub use dir::StateDir;
pub use file::{Entry, Folder, Look, NewFile, oldest_first};
