//! Where what is received is kept: a folder, or a bucket of an object store. Names are paths with `/` between their parts.

use std::fmt;

use async_trait::async_trait;
use object_store::PutPayload;

pub(crate) mod bucket;
pub(crate) mod folder;

/// The bytes of one thing, in pieces.
pub(crate) type Pieces = PutPayload;

/// What became of storing something under a name that nothing else may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// It is stored, durably.
    New,
    /// It is not, because the store says that the name is taken. Only a look shows whether something is there: S3 gives the
    /// same answer (409) to two writers that race, and may have stored neither.
    Refused,
}

/// What is there under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// The same bytes, durably.
    Same,
    /// Other bytes.
    Other,
}

/// Why a store did not do it, in one line for the administrator. A sender is never told.
#[derive(Debug)]
pub(crate) struct StorageFault(pub(crate) String);

impl fmt::Display for StorageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place for what is received.
#[async_trait]
pub(crate) trait Storage: Send + Sync {
    /// Stores this unless something has the name.
    async fn create(&self, name: &str, pieces: Pieces) -> Result<Created, StorageFault>;

    /// Compares what is there with this.
    async fn compare(&self, name: &str, pieces: &Pieces) -> Result<Found, StorageFault>;

    /// Whether something is there, durably.
    async fn has(&self, name: &str) -> Result<bool, StorageFault>;

    /// The bytes of something small; none where nothing is there.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageFault>;

    /// Up to so many names in this folder that begin so, sorted.
    async fn beginning(&self, folder: &str, begin: &str, most: usize) -> Result<Vec<String>, StorageFault>;

    /// Removes something, if it is there.
    async fn remove(&self, name: &str) -> Result<(), StorageFault>;

    /// Whether it would store something now.
    async fn check(&self) -> Result<(), StorageFault>;
}
