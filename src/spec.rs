//! The StorageOSCluster resource, YAML or JSON: the three keys of it that concern this library.
//!
//! What is read, in the words of the YAML specification (JSON is YAML):
//!
//! ```text
//! text      = document*                                  documents of a stream, each a resource, a list of them, or null
//! document  = resource | list
//! list      = { kind: "StorageOSClusterList" | other, items: [ resource* ], unknown* }
//! resource  = { kind: "StorageOSCluster" | other, spec: spec, unknown* }     no kind: it is ours, or its list's
//! spec      = null | { disableTelemetry: true | false, environment: environment, k8sDistro: scalar, unknown* }
//! environment = null | { name: scalar* }                 a name in one resource only
//! unknown   = name: anything                             no alias, no key twice, no mapping or list as a key, 64 levels
//! ```
//!
//! Each member may be missing or null. The kind may come after the spec and the list's kind after its items, so the text is walked
//! twice: once for the kinds of all resources, once for what ours say.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle};

/// The longest text that is read, in bytes: etcd's own limit for a resource is 1.5 MiB.
const LONGEST: usize = 1 << 20;
/// How deep a resource may nest.
const DEEPEST: usize = 64;

/// The content of the cluster spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterSpec {
    /// `spec.disableTelemetry`: all three switches.
    pub disable_telemetry: bool,
    /// `spec.environment`: variables for the node.
    pub environment: BTreeMap<String, String>,
    /// `spec.k8sDistro`.
    pub k8s_distro: Option<String>,
}

/// The kind that is read.
const KIND: &str = "StorageOSCluster";
/// How much of the names of other kinds an error repeats.
const REPEATED: usize = 200;

/// Reads a resource, or several in a stream or a list, as kubectl prints them. Unknown keys and everything outside `spec`
/// are ignored, and resources of other kinds, but a text of other kinds alone is refused. What names no kind is read. The
/// error names the key.
pub fn parse(text: &str) -> Result<ClusterSpec, String> {
    if text.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    // First the kinds: one may come after its spec, and a list's after all of its items.
    let mut kinds = Kinds::default();
    walk(text, &mut |resource, keys, value| kinds.note(resource, keys, value))?;
    if !kinds.others.is_empty() && !kinds.has_ours() {
        return Err(format!("no {KIND} in it; its kinds are {:.REPEATED$}", kinds.others));
    }
    let mut spec = ClusterSpec::default();
    walk(text, &mut |resource, keys, value| match kinds.of(resource) {
        Kind::Ours | Kind::Unnamed => take(&mut spec, keys, value),
        Kind::OurList | Kind::Other => Ok(()),
    })?;
    Ok(spec)
}

/// A resource of a text: a document, or an item of one.
#[derive(Clone, Copy)]
struct Resource {
    /// How many there are before it.
    number: usize,
    /// Index of its YAML document, counted the same way.
    document: usize,
}

/// The kinds of a text's resources.
#[derive(Default)]
struct Kinds {
    found: Vec<(Kind, usize)>,
    /// The kinds that are not ours.
    others: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Unnamed,
    Ours,
    OurList,
    Other,
}

impl Kinds {
    fn note(&mut self, resource: Resource, keys: &[&str], value: Value<'_>) -> Result<(), String> {
        if self.found.len() == resource.number {
            self.found.push((Kind::Unnamed, resource.document));
        }
        if let (["kind"], Value::Scalar(name, _)) = (keys, value)
            && !name.is_empty()
        {
            let kind = match name.strip_prefix(KIND) {
                Some("") => Kind::Ours,
                Some("List") => Kind::OurList,
                _ => Kind::Other,
            };
            self.found[resource.number].0 = kind;
            if kind != Kind::Ours && self.others.len() < REPEATED && !self.others.contains(name) {
                let comma = if self.others.is_empty() { "" } else { ", " };
                self.others.extend([comma, name]);
            }
        }
        Ok(())
    }

    /// The kind of a resource. An item may leave it to its list.
    fn of(&self, resource: Resource) -> Kind {
        match (self.found[resource.number].0, self.found[resource.document].0) {
            (Kind::Unnamed, Kind::OurList) => Kind::Ours,
            (Kind::Unnamed, kind) | (kind, _) => kind,
        }
    }

    fn has_ours(&self) -> bool {
        let mut resources =
            self.found.iter().enumerate().map(|(number, (_, document))| Resource { number, document: *document });
        resources.any(|resource| self.of(resource) == Kind::Ours)
    }
}

/// A value, or where one begins.
#[derive(Clone, Copy)]
enum Value<'a> {
    Null,
    /// Its text, and whether that stands there without quotes.
    Scalar(&'a str, bool),
    Mapping,
    List,
}

/// Where the parser stands: in a mapping, with or without its current key, or in a sequence.
enum Level {
    Mapping { key: Option<String>, seen: BTreeSet<String> },
    Sequence,
}

/// Takes a value, its resource and its keys there.
type See<'a> = dyn FnMut(Resource, &[&str], Value<'_>) -> Result<(), String> + 'a;

/// Shows every value of a text.
fn walk(text: &str, see: &mut See<'_>) -> Result<(), String> {
    let mut walker = Walker { place: Vec::new(), begun: 0, document: 0, item: None };
    for event in Parser::new_from_str(text) {
        let (event, at) = event.map_err(|error| format!("not YAML: {error}"))?;
        walker.step(event, see).map_err(|why| format!("line {}: {why}", at.start.line()))?;
    }
    Ok(())
}

struct Walker {
    place: Vec<Level>,
    /// Resources so far.
    begun: usize,
    document: usize,
    item: Option<usize>,
}

impl Walker {
    fn step(&mut self, event: Event<'_>, see: &mut See<'_>) -> Result<(), String> {
        let place = &mut self.place;
        let scalar;
        let value = match event {
            Event::Alias(_) => return Err("aliases are not read".to_owned()),
            Event::DocumentStart(..) => {
                self.document = self.begun;
                self.begun += 1;
                return Ok(());
            }
            Event::MappingStart(..) => Value::Mapping,
            Event::SequenceStart(..) => Value::List,
            Event::MappingEnd | Event::SequenceEnd => {
                place.pop();
                if place.len() == ITEM.len() {
                    self.item = None;
                }
                end_value(place);
                return Ok(());
            }
            Event::Scalar(text, style, ..) => {
                if let Some(Level::Mapping { key: key @ None, seen }) = place.last_mut() {
                    if !seen.insert(text.to_string()) {
                        let name: String = text.chars().take(64).collect();
                        return Err(format!("the key {name:?} stands twice in one mapping"));
                    }
                    *key = Some(text.into_owned());
                    return Ok(());
                }
                scalar = text;
                match (&*scalar, style == ScalarStyle::Plain) {
                    ("" | "~" | "null" | "Null" | "NULL", true) => Value::Null,
                    (text, is_plain) => Value::Scalar(text, is_plain),
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => return Ok(()),
        };
        if let Some(Level::Mapping { key: None, .. }) = place.last() {
            return Err("a mapping or list as a key is not read".to_owned());
        }
        let keys: Vec<&str> = place
            .iter()
            .map(|level| match level {
                Level::Mapping { key, .. } => key.as_deref().unwrap_or_default(),
                Level::Sequence => "[]",
            })
            .collect();
        if matches!(value, Value::Mapping) && keys == ITEM {
            self.item = Some(self.begun);
            self.begun += 1;
        }
        let (number, keys) = self.item.map_or((self.document, &keys[..]), |item| (item, &keys[ITEM.len()..]));
        see(Resource { number, document: self.document }, keys, value)?;
        match value {
            Value::Mapping => place.push(Level::Mapping { key: None, seen: BTreeSet::new() }),
            Value::List => place.push(Level::Sequence),
            Value::Null | Value::Scalar(..) => end_value(place),
        }
        if place.len() > DEEPEST {
            return Err(format!("nested deeper than {DEEPEST}"));
        }
        Ok(())
    }
}

/// Where the items of a list are.
const ITEM: [&str; 2] = ["items", "[]"];

fn end_value(place: &mut [Level]) {
    if let Some(Level::Mapping { key, .. }) = place.last_mut() {
        *key = None;
    }
}

/// Takes a value that is read, and refuses one that is not what belongs there.
fn take(spec: &mut ClusterSpec, keys: &[&str], value: Value<'_>) -> Result<(), String> {
    let is_not = |expected: &str| Err(format!("{} is not {expected}", keys.join(".")));
    match (keys, value) {
        (_, Value::Null) | ([] | ["spec"] | ["spec", "environment"], Value::Mapping) => {}
        ([], _) => return Err("not a resource".to_owned()),
        (["spec"] | ["spec", "environment"], _) => return is_not("a mapping"),
        // Off wins, also where there are several resources.
        (["spec", "disableTelemetry"], Value::Scalar("true" | "True" | "TRUE", true)) => spec.disable_telemetry = true,
        (["spec", "disableTelemetry"], Value::Scalar("false" | "False" | "FALSE", true)) => {}
        (["spec", "disableTelemetry"], _) => return is_not("true or false"),
        (["spec", "k8sDistro"], Value::Scalar(text, _)) => spec.k8s_distro = Some(text.to_owned()),
        (["spec", "environment", key], Value::Scalar(text, _)) => {
            let before = spec.environment.insert((*key).to_owned(), text.to_owned());
            return before.map_or(Ok(()), |_| Err(format!("spec.environment.{key} stands in two resources")));
        }
        (["kind"] | ["spec", "k8sDistro"] | ["spec", "environment", _], Value::Mapping | Value::List) => {
            return is_not("a plain value");
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = "apiVersion: storageos.com/v1\nkind: StorageOSCluster\nspec:\n  disableTelemetry: true\n  images: {node: x}\n  \
                    tolerations:\n  - key: a\n  environment:\n    DISABLE_VERSION_CHECK: \"true\"\n  k8sDistro: rancher-1.2\n";
        let json = r#"{"spec":{"disableTelemetry":true,"environment":{"DISABLE_VERSION_CHECK":"true"},"k8sDistro":"rancher-1.2"}}"#;
        let read = parse(yaml).unwrap();
        assert!(read.disable_telemetry);
        assert_eq!(read.environment.get("DISABLE_VERSION_CHECK").map(String::as_str), Some("true"));
        assert_eq!(read.k8s_distro.as_deref(), Some("rancher-1.2"));
        assert_eq!(parse(json).unwrap(), read);
    }

    /// As `kubectl get storageoscluster storageos -o yaml` prints it.
    const YAML: &str = "\
apiVersion: storageos.com/v1
kind: StorageOSCluster
metadata:
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: |
      {\"apiVersion\":\"storageos.com/v1\",\"kind\":\"StorageOSCluster\",\"spec\":{\"disableTelemetry\":false}}
  creationTimestamp: \"2022-03-01T09:30:00Z\"
  finalizers:
  - storageos.com/finalizer
  generation: 3
  name: storageos
  namespace: storageos
spec:
  debug: false
  disableTelemetry: true
  environment:
    DISABLE_VERSION_CHECK: \"true\"
    HTTPS_PROXY: http://proxy.example.com:3128
  images:
    nodeContainer: storageos/node:v2.8.1
  k8sDistro: openshift-4.10
  kvBackend:
    address: storageos-etcd.storageos-etcd:2379
  resources:
    limits: {memory: 1Gi}
  secretRefName: storageos-api
  tolerations:
  - key: node.kubernetes.io/disk-pressure
    operator: Exists
status:
  phase: Running
  ready: 3/3
";

    /// The same of `-o json`.
    const JSON: &str = r#"{
    "apiVersion": "storageos.com/v1",
    "kind": "StorageOSCluster",
    "metadata": {"generation": 3, "name": "storageos", "namespace": "storageos"},
    "spec": {
        "debug": false,
        "disableTelemetry": true,
        "environment": {"DISABLE_VERSION_CHECK": "true", "HTTPS_PROXY": "http://proxy.example.com:3128"},
        "images": {"nodeContainer": "storageos/node:v2.8.1"},
        "k8sDistro": "openshift-4.10",
        "tolerations": [{"key": "node.kubernetes.io/disk-pressure", "operator": "Exists"}]
    },
    "status": {"phase": "Running", "ready": "3/3"}
}
"#;

    fn off() -> ClusterSpec {
        ClusterSpec { disable_telemetry: true, ..ClusterSpec::default() }
    }

    #[test]
    fn a_resource_of_either_version_is_read_as_kubectl_prints_it() {
        let variables = [("DISABLE_VERSION_CHECK", "true"), ("HTTPS_PROXY", "http://proxy.example.com:3128")];
        let expected = ClusterSpec {
            disable_telemetry: true,
            environment: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            k8s_distro: Some("openshift-4.10".to_owned()),
        };
        for version in ["v1", "v1alpha1"] {
            for text in [YAML, JSON] {
                let text = text.replacen("storageos.com/v1", &format!("storageos.com/{version}"), 1);
                assert!(text.contains(&format!("storageos.com/{version}")));
                assert_eq!(parse(&text).as_ref(), Ok(&expected), "{text}");
                let on = text.replace("disableTelemetry: true", "disableTelemetry: false");
                let on = on.replace("\"disableTelemetry\": true", "\"disableTelemetry\": false");
                assert!(!parse(&on).unwrap().disable_telemetry, "{on}");
            }
        }
    }

    /// Lists as kubectl prints them: their kind comes after their items.
    #[test]
    fn the_items_of_a_list_are_read() {
        let item = YAML.trim_end().replace('\n', "\n  ");
        let on = "apiVersion: storageos.com/v1\n  kind: StorageOSCluster\n  spec: {disableTelemetry: false}";
        for items in [&[item.as_str()][..], &[&item, on], &[on, &item]] {
            let items: String = items.iter().map(|item| format!("- {item}\n")).collect();
            let list = format!("apiVersion: v1\nitems:\n{items}kind: List\nmetadata:\n  resourceVersion: \"\"\n");
            assert_eq!(parse(&list), parse(YAML), "{list}");
        }
        let list =
            format!(r#"{{"apiVersion":"v1","items":[{JSON}],"kind":"List","metadata":{{"resourceVersion":""}}}}"#);
        assert_eq!(parse(&list), parse(YAML));
        // Of the API itself: its items may leave out what the list's kind says.
        for item in [r#""kind":"StorageOSCluster","#, ""] {
            let list = format!(
                r#"{{"kind":"StorageOSClusterList","apiVersion":"storageos.com/v1","metadata":{{}},
                    "items":[{{{item}"spec":{{}}}},{{{item}"spec":{{"disableTelemetry":true}}}}]}}"#
            );
            assert_eq!(parse(&list), Ok(off()), "{list}");
        }
        // A list in a stream, and without a kind.
        assert_eq!(parse(&format!("{on}\n---\n{list}", on = on.replace("  ", ""))), parse(YAML));
        assert_eq!(parse("items: [{spec: {disableTelemetry: true}}, {spec: {disableTelemetry: false}}]"), Ok(off()));
    }

    #[test]
    fn other_kinds_are_ignored_beside_ours_and_refused_alone() {
        let deployment = "spec:\n  disableTelemetry: true\n  environment: [a]\nkind: Deployment\n";
        let secret = "{kind: Secret, items: [{kind: Pod}], spec: text}\n";
        let ours = "kind: StorageOSCluster\nspec: {k8sDistro: x}\n";
        let read = ClusterSpec { k8s_distro: Some("x".to_owned()), ..ClusterSpec::default() };
        for texts in [[deployment, ours, secret], [ours, secret, deployment], [secret, deployment, ours]] {
            assert_eq!(parse(&texts.join("---\n")).as_ref(), Ok(&read), "{texts:?}");
        }
        let mixed = "items: [{kind: Pod, spec: {disableTelemetry: true}}, {kind: StorageOSCluster}]\nkind: List";
        assert_eq!(parse(mixed), Ok(ClusterSpec::default()));

        let alone = |kinds: &str| Err(format!("no StorageOSCluster in it; its kinds are {kinds}"));
        assert_eq!(parse(deployment), alone("Deployment"));
        assert_eq!(parse(&format!("{secret}---\n{deployment}")), alone("Secret, Pod, Deployment"));
        assert_eq!(parse("kind: List\nitems: []"), alone("List"));
        assert_eq!(parse("kind: List\nitems: [{kind: Pod}, {kind: Pod}]"), alone("List, Pod"));
        assert_eq!(parse("kind: PodList\nitems: [{spec: {disableTelemetry: true}}]"), alone("PodList"));
        assert_eq!(parse("kind: List\nitems: [{spec: {disableTelemetry: true}}]"), alone("List"));
        assert_eq!(parse("kind: StorageOSClusterList"), alone("StorageOSClusterList"));
        assert_eq!(parse("kind: storageoscluster\nspec: {disableTelemetry: true}"), alone("storageoscluster"));
        assert_eq!(parse("spec: {}\n---\nkind: Pod"), alone("Pod"));
        let many: String = (0..500).map(|kind| format!("---\nkind: Kind{kind}\n")).collect();
        assert!(parse(&many).unwrap_err().len() < 300);
        // Nothing is named.
        for text in ["kind:\nspec: {disableTelemetry: true}", "kind: ''\nspec: {disableTelemetry: true}"] {
            assert_eq!(parse(text), Ok(off()), "{text}");
        }
        for text in ["", "# empty\n", "---\n---\n", "null", "{}", "items: []", "items:\n"] {
            assert_eq!(parse(text), Ok(ClusterSpec::default()), "{text:?}");
        }
        for text in ["StorageOSCluster", "- kind: StorageOSCluster\n", "[]", "kind: StorageOSCluster\n---\ntext"] {
            assert!(parse(text).unwrap_err().ends_with("not a resource"), "{text:?}");
        }
    }

    #[test]
    fn a_wrong_type_is_named() {
        assert!(parse("spec:\n  disableTelemetry: \"true\"\n").unwrap_err().contains("spec.disableTelemetry"));
        assert!(parse("spec:\n  disableTelemetry: [1]\n").unwrap_err().contains("spec.disableTelemetry"));
        assert!(parse("spec:\n  environment: 7\n").unwrap_err().contains("spec.environment"));
        for (spec, line, wrong) in [
            ("disableTelemetry: 1", 2, "disableTelemetry is not true or false"),
            ("disableTelemetry: {}", 2, "disableTelemetry is not true or false"),
            ("k8sDistro: {a: b}", 2, "k8sDistro is not a plain value"),
            ("environment:\n    A: b\n    C: [d]", 4, "environment.C is not a plain value"),
            ("environment: [a]", 2, "environment is not a mapping"),
        ] {
            let text = format!("spec:\n  {spec}\nkind: StorageOSCluster\n");
            assert_eq!(parse(&text), Err(format!("line {line}: spec.{wrong}")), "{text}");
            let list = format!("items:\n-\n  {}\nkind: List\n", text.trim_end().replace('\n', "\n  "));
            assert_eq!(parse(&list), Err(format!("line {}: spec.{wrong}", line + 2)), "{list}");
        }
        assert_eq!(parse("kind: [StorageOSCluster]"), Err("line 1: kind is not a plain value".to_owned()));
        assert!(parse("a: &x [1]\nb: *x\n").unwrap_err().contains("aliases"));
        assert!(parse("spec: [disableTelemetry]\n").unwrap_err().contains("spec is not a mapping"));
        let list = "spec:\n  environment:\n  - DISABLE_TELEMETRY=true\n";
        assert!(parse(list).unwrap_err().contains("spec.environment is not a mapping"));
        assert!(parse("{{{{").is_err());
        assert!(parse(&"[".repeat(10_000)).is_err());
        assert_eq!(parse(""), Ok(ClusterSpec::default()));
    }

    #[test]
    fn nothing_takes_an_objection_back_or_hides_it() {
        let twice = "spec:\n  disableTelemetry: true\n  disableTelemetry: false\n";
        assert!(parse(twice).unwrap_err().contains("\"disableTelemetry\" stands twice"));
        let two = "spec: {disableTelemetry: true}\n---\nspec: {disableTelemetry: false}\n";
        assert!(parse(two).unwrap().disable_telemetry);
        let two = "spec: {environment: {DO_NOT_TRACK: \"1\"}}\n---\nspec: {environment: {DO_NOT_TRACK: \"0\"}}\n";
        assert!(parse(two).unwrap_err().contains("DO_NOT_TRACK stands in two resources"));
        // Not read as a key, the list would make values of keys and keys of values from there on.
        let after_a_list = "? [a]\n: b\nspec: {disableTelemetry: true}\n";
        assert!(parse(after_a_list).unwrap_err().contains("as a key"), "{:?}", parse(after_a_list));
    }
}
