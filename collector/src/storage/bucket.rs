//! A bucket of S3, Google or Azure, or of a server that speaks the protocol of one of them.

use std::error::Error as _;
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use futures_util::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreExt, ObjectStoreScheme, PutMode, PutPayload, RetryConfig};
use ondat_telemetry::error::Error;
use url::Url;

use crate::storage::{Created, Found, Pieces, Storage, StorageFault};

/// For one request, its answer included. A sender waits for two or three of them.
const REQUEST_TIME: &str = "20 s";
const CONNECT_TIME: &str = "5 s";
/// Where providers give credentials to machines of theirs. The library asks there where the environment has none.
const METADATA: &str = "169.254.169.254";
/// The longest text that a store says why.
const REASON_CHARS: usize = 300;
/// What may stand before `://`.
const SCHEMES: [&str; 4] = ["s3", "gs", "az", "abfss"];

/// The bucket.
pub(crate) struct Bucket {
    store: Box<dyn ObjectStore>,
    prefix: Path,
    /// How it is called in messages.
    address: String,
}

impl Bucket {
    /// What stands at this address, `s3://bucket/prefix` or the like. Credentials, region and endpoint are those of the
    /// environment, under the names that the provider's own tools use.
    pub(crate) fn new(address: &str) -> Result<Self, Error> {
        let shown = without_credentials(address);
        let refused = |why: &str| Error::InvalidArgument(format!("--store {shown}: {why}"));
        let url = Url::parse(address).map_err(|why| refused(&format!("{why}; expected s3://BUCKET/PREFIX")))?;
        if !SCHEMES.contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) {
            return Err(refused("expected s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"));
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(refused("only a bucket and a prefix belong here; credentials belong into the environment"));
        }
        let (scheme, prefix) =
            ObjectStoreScheme::parse(&url).map_err(|why| refused(&reason(&object_store::Error::from(why))))?;
        let store = build(&scheme, address).map_err(|why| refused(&reason(&why)))?;
        Ok(Self { store, prefix, address: address.trim_end_matches('/').to_owned() })
    }

    /// Sees that the store keeps what it is told to keep: of two under one name the second is refused, and the first stays.
    pub(crate) async fn probe(&self) -> Result<(), Error> {
        let failed = |why: String| Error::Io(format!("cannot use the store {}: {why}", self.address));
        // It names the place.
        let fault = |why: StorageFault| Error::Io(format!("cannot use the store: {why}"));
        let mut number = [0; 8];
        getrandom::fill(&mut number).map_err(|why| failed(why.to_string()))?;
        let name = format!("probe/{}", HEXLOWER.encode(&number));
        let create = async |bytes: &'static str| self.create(&name, PutPayload::from(bytes)).await.map_err(fault);
        if create("first").await? == Created::Refused {
            return Err(failed("it refuses a new name as taken".to_owned()));
        }
        let second = create("second").await?;
        let there = self.read(&name).await.map_err(fault)?;
        // Who may not delete leaves a few bytes behind at each start.
        let _ = self.remove(&name).await;
        match (second, there.as_deref()) {
            (Created::Refused, Some(b"first")) => Ok(()),
            (_, None) => Err(failed("what was stored is not there".to_owned())),
            _ => Err(failed(
                "it ignores If-None-Match, so that one report could overwrite another: use a store with conditional writes"
                    .to_owned(),
            )),
        }
    }

    /// Where a name is. It goes into the bucket as it is: by other ways `~` would become `%7E`.
    fn path(&self, name: &str) -> Result<Path, StorageFault> {
        let name = if self.prefix.as_ref().is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(&name).map_err(|why| StorageFault(why.to_string()))
    }

    fn fault(&self, name: &str, why: &object_store::Error) -> StorageFault {
        StorageFault(format!("{}/{name}: {}", self.address, reason(why)))
    }
}

#[async_trait]
impl Storage for Bucket {
    async fn create(&self, name: &str, pieces: Pieces) -> Result<Created, StorageFault> {
        match self.store.put_opts(&self.path(name)?, pieces, PutMode::Create.into()).await {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Created::Refused)
            }
            Err(why) => Err(self.fault(name, &why)),
        }
    }

    async fn compare(&self, name: &str, pieces: &Pieces) -> Result<Found, StorageFault> {
        let path = self.path(name)?;
        let about = match self.store.head(&path).await {
            Ok(about) => about,
            Err(object_store::Error::NotFound { .. }) => return Ok(Found::Nothing),
            Err(why) => return Err(self.fault(name, &why)),
        };
        if about.size != pieces.content_length() as u64 {
            return Ok(Found::Other);
        }
        let mut there = match self.store.get(&path).await {
            Ok(there) => there.into_stream(),
            Err(object_store::Error::NotFound { .. }) => return Ok(Found::Nothing),
            Err(why) => return Err(self.fault(name, &why)),
        };
        let mut expected = pieces.iter().flat_map(|piece| piece.iter());
        while let Some(part) = there.next().await {
            let part = part.map_err(|why| self.fault(name, &why))?;
            if !part.iter().all(|byte| expected.next() == Some(byte)) {
                return Ok(Found::Other);
            }
        }
        Ok(if expected.next().is_none() { Found::Same } else { Found::Other })
    }

    async fn has(&self, name: &str) -> Result<bool, StorageFault> {
        match self.store.head(&self.path(name)?).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(why) => Err(self.fault(name, &why)),
        }
    }

    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StorageFault> {
        let path = self.path(name)?;
        let read = async { self.store.get(&path).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(why) => Err(self.fault(name, &why)),
        }
    }

    async fn beginning(&self, folder: &str, begin: &str, most: usize) -> Result<Vec<String>, StorageFault> {
        let path = self.path(folder)?;
        // Lists are sorted, and begin after what is given: with a whole name before the first that begins so.
        let before = self.path(&format!("{folder}/{begin}"))?;
        let mut names = Vec::new();
        let mut found = if begin.is_empty() {
            self.store.list(Some(&path))
        } else {
            self.store.list_with_offset(Some(&path), &before)
        };
        while let Some(one) = found.next().await {
            let one = one.map_err(|why| self.fault(folder, &why))?;
            let name = one.location.filename().unwrap_or_default();
            if !name.starts_with(begin) || names.len() == most {
                break;
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }

    async fn remove(&self, name: &str) -> Result<(), StorageFault> {
        match self.store.delete(&self.path(name)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(why) => Err(self.fault(name, &why)),
        }
    }

    async fn check(&self) -> Result<(), StorageFault> {
        self.has("probe/ready").await.map(drop)
    }
}

/// An address as it may be said: what stands before an `@` is nobody's business.
fn without_credentials(address: &str) -> String {
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => address.to_owned(),
    }
}

fn build(scheme: &ObjectStoreScheme, address: &str) -> object_store::Result<Box<dyn ObjectStore>> {
    let retry =
        RetryConfig { backoff: BackoffConfig::default(), max_retries: 2, retry_timeout: Duration::from_secs(20) };
    let limits = [(ClientConfigKey::Timeout, REQUEST_TIME), (ClientConfigKey::ConnectTimeout, CONNECT_TIME)];
    Ok(match scheme {
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(address).with_retry(retry);
            let builder = limits
                .into_iter()
                .fold(builder, |builder, (key, value)| builder.with_config(GoogleConfigKey::Client(key), value));
            Box::new(builder.build()?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(address).with_retry(retry);
            let builder = limits
                .into_iter()
                .fold(builder, |builder, (key, value)| builder.with_config(AzureConfigKey::Client(key), value));
            Box::new(builder.build()?)
        }
        _ => {
            let builder = AmazonS3Builder::from_env().with_url(address).with_retry(retry);
            let builder = limits
                .into_iter()
                .fold(builder, |builder, (key, value)| builder.with_config(AmazonS3ConfigKey::Client(key), value));
            Box::new(builder.build()?)
        }
    })
}

/// What a store or the way to it says, in one line: the code and the message of its own where it gives them, else the innermost
/// cause, which names what is wrong.
fn reason(error: &object_store::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        texts.push(inner.to_string());
        cause = inner.source();
    }
    let said =
        texts.iter().find_map(|text| Some((element(text, "Code")?, element(text, "Message").unwrap_or_default())));
    let text = match said {
        _ if texts.iter().any(|text| text.contains(METADATA)) => {
            "there are no credentials: set those of the provider in the environment, such as AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, or run on a machine of the provider that has a role"
                .to_owned()
        }
        Some((code, message)) => format!("it says {code}: {message}"),
        None => {
            // Each repeats what is within it: the first says where, the last says why.
            let first = texts.first().cloned().unwrap_or_default();
            let last = texts.last().filter(|last| !first.contains(*last));
            last.map_or_else(|| first.clone(), |last| format!("{first}: {last}"))
        }
    };
    text.chars().take(REASON_CHARS).collect()
}

/// What stands in an element of XML, as it is.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        reason(&object_store::Error::Generic { store: "S3", source: text.to_owned().into() })
    }

    #[test]
    fn reasons_are_those_of_the_store() {
        assert_eq!(
            said("403: <Error><Code>AccessDenied</Code><Message>No.</Message></Error>"),
            "it says AccessDenied: No."
        );
        assert!(
            said("error performing GET http://169.254.169.254/latest").starts_with("there are no credentials: set")
        );
        assert!(said("Connection refused").contains("Connection refused"));
        assert_eq!(said(&"x".repeat(1000)).chars().count(), REASON_CHARS);
    }

    #[test]
    fn credentials_in_an_address_are_not_said() {
        assert_eq!(without_credentials("s3://key:secret@bucket/x"), "s3://…@bucket/x");
        assert_eq!(without_credentials("s3://bucket/x"), "s3://bucket/x");
    }

    #[test]
    fn names_go_into_the_bucket_as_they_are() {
        let prefix = |prefix: &str| Bucket {
            store: Box::new(object_store::memory::InMemory::new()),
            prefix: Path::from(prefix),
            address: String::new(),
        };
        assert_eq!(prefix("a/b").path("sealed/x~01.otr").unwrap().as_ref(), "a/b/sealed/x~01.otr");
        assert_eq!(prefix("").path("sealed/x~01.otr").unwrap().as_ref(), "sealed/x~01.otr");
    }
}
