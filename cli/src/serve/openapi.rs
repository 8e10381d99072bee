//! The description of all calls, and that of the product's calls alone, as the product provides it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use ondat_telemetry::switch::Switch;
use serde_json::{Map, Value, json};

/// [`SWITCH`] in it stands for each of the switches.
const WRITTEN: &str = include_str!("openapi.json");
const SWITCH: &str = "{switch}";
/// What comes before the names of the product's calls in it.
const PREFIX: &str = "/v2";
/// Where one part of it names another one.
const REFERENCE: &str = "$ref";

static ALL: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", written()));
static PRODUCT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", product(written())));

fn written() -> Value {
    with_switches(serde_json::from_str(WRITTEN).unwrap_or_default())
}

/// `GET /v1/openapi.json`.
pub(super) async fn all() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], ALL.as_str())
}

/// `GET /v2/openapi`: the product says it in YAML, without a login. JSON is YAML (YAML 1.2, 1.3).
pub(super) async fn of_product() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/yaml")], PRODUCT.as_str())
}

/// Puts the switches' names where [`SWITCH`] stands: for a member of an object, and for an item of a list.
fn with_switches(part: Value) -> Value {
    let names = |name: &str| match name {
        SWITCH => Switch::ALL.map(|switch| switch.name().to_owned()).to_vec(),
        other => vec![other.to_owned()],
    };
    match part {
        Value::Array(parts) => {
            let items = parts.into_iter().flat_map(|part| match part.as_str() {
                Some(text) => names(text).into_iter().map(Value::from).collect(),
                None => vec![with_switches(part)],
            });
            items.collect()
        }
        Value::Object(parts) => {
            let members = parts.into_iter().flat_map(|(name, part)| {
                let part = with_switches(part);
                names(&name).into_iter().map(move |name| (name, part.clone()))
            });
            Value::Object(members.collect())
        }
        other => other,
    }
}

/// The product's calls, relative to its server `/v2`, and what they refer to.
fn product(mut all: Value) -> Value {
    let paths = all["paths"].take();
    let paths = paths.as_object().into_iter().flatten();
    let paths = paths.filter_map(|(path, calls)| Some((path.strip_prefix(PREFIX)?.to_owned(), calls.clone())));
    all["paths"] = Value::Object(paths.collect());
    all["servers"] = json!([{ "url": PREFIX }]);
    all["tags"] = json!([{ "name": "v2", "description": "The product's" }]);
    let components = all["components"].take();
    let mut needed = BTreeSet::new();
    let mut looked_at = vec![&all["paths"]];
    while let Some(part) = looked_at.pop() {
        for name in references(part) {
            if needed.insert(name.to_owned()) {
                looked_at.extend(components.pointer(name));
            }
        }
    }
    let mut kept = Map::new();
    for (kind, parts) in components.as_object().into_iter().flatten() {
        let is_needed = |name: &str| kind == "securitySchemes" || needed.contains(&format!("/{kind}/{name}"));
        let parts = parts.as_object().into_iter().flatten().filter(|(name, _)| is_needed(name));
        kept.insert(kind.clone(), Value::Object(parts.map(|(name, part)| (name.clone(), part.clone())).collect()));
    }
    all["components"] = Value::Object(kept);
    all
}

/// What a part refers to, as pointers into the components.
fn references(part: &Value) -> Vec<&str> {
    match part {
        Value::Array(parts) => parts.iter().flat_map(references).collect(),
        Value::Object(parts) => {
            let own = parts.get(REFERENCE).and_then(Value::as_str);
            let own = own.and_then(|name| name.strip_prefix("#/components"));
            own.into_iter().chain(parts.values().flat_map(references)).collect()
        }
        _ => Vec::new(),
    }
}
