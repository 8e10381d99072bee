//! `GET /v1/keys` answers with the signed key set, byte for byte as it was signed elsewhere. The signing key is never here.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;
use ondat_telemetry::error::Error;
use ondat_telemetry_protocol::answer::VersionKey;
use ondat_telemetry_protocol::signed_keys::{LONGEST, SignedKeys};
use ondat_telemetry_service::refusal::Refusal;

use crate::fault::unusable;
use crate::store::Store;

/// The file with the time of issue of the newest key set that was ever published here.
const ISSUED: &str = "keys-issued";
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The file, and its content when it was last read.
pub(crate) struct Published {
    path: PathBuf,
    signers: Vec<VersionKey>,
    store: Arc<Store>,
    text: RwLock<Bytes>,
}

impl Published {
    /// Reads the file, which must be signed by one of these keys.
    pub(crate) fn read(path: PathBuf, signers: Vec<VersionKey>, store: Arc<Store>) -> Result<Arc<Self>, Error> {
        let published = Self { path, signers, store, text: RwLock::default() };
        published.renew()?;
        Ok(Arc::new(published))
    }

    /// Reads the file anew. If it cannot be used, everything stays as it is.
    pub(crate) fn renew(&self) -> Result<(), Error> {
        let refused = |why: String| unusable("publish the signed keys in", &self.path, why);
        let mut text = String::new();
        let file = File::open(&self.path).map_err(|why| refused(why.to_string()))?;
        file.take(LONGEST as u64 + 1).read_to_string(&mut text).map_err(|why| refused(why.to_string()))?;
        let signed = SignedKeys::parse(&text, &self.signers).map_err(refused)?;
        let before = self.store.read(ISSUED)?.and_then(|text| text.trim().parse::<i64>().ok());
        match before {
            // A client that has accepted the newer one would refuse this one.
            Some(before) if before > signed.issued => {
                let why = format!("it was issued at {}, and one issued at {before} was given out", signed.issued);
                return Err(refused(why));
            }
            Some(before) if before == signed.issued => {}
            _ => self.store.write(ISSUED, format!("{}\n", signed.issued).as_bytes())?,
        }
        *self.text.write().unwrap_or_else(PoisonError::into_inner) = text.into();
        Ok(())
    }
}

/// The route below `/v1`.
pub(crate) fn routes(published: Arc<Published>) -> Router {
    let no_other = async || Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "keys are fetched with GET").line();
    Router::new().route("/keys", get(keys).fallback(no_other)).with_state(published)
}

async fn keys(State(published): State<Arc<Published>>) -> Response {
    let text = published.text.read().unwrap_or_else(PoisonError::into_inner).clone();
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, MEDIA_TYPE);
    response
}
