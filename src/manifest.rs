//! A file of manifests, read as an API server would read it: `SessionBackend` and `Secret` documents, nothing else.
//! Reports everything that is wrong in all documents at once, each thing once, and never a value.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize as _;
use serde_json::Value;

use crate::api::admission::{Violation, admit, ordered, unknown_in_status};
use crate::api::{API_VERSION, KIND, SessionBackend};
use crate::desired::{Desired, parse};
use crate::error::presentable;

mod secret;

pub use secret::{NOT_FOUND, Reference, Secret, external_url, references, variable};

/// What an API server's store takes: etcd refuses requests above 1.5 MiB.
pub const MAX_BYTES: usize = 1_400 * 1024;
/// Deeper than anything the definition has; what is deeper is no manifest of ours.
const MAX_DEPTH: usize = 32;
/// The namespace of what names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What a file says.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The objects, in the order of the file.
    pub objects: Vec<Entry>,
    /// The Secrets, by namespace and name.
    pub secrets: BTreeMap<(String, String), Secret>,
}

/// One object.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As written.
    pub object: SessionBackend,
    /// As understood.
    pub desired: Desired,
}

/// What is wrong in one document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistake {
    /// Which document, such as `document 2 (SessionBackend web)`.
    pub document: String,
    /// What is wrong.
    pub violation: Violation,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.document)?;
        if self.violation.field.is_empty() {
            write!(f, "{}; {}", self.violation.problem, self.violation.remedy)
        } else {
            write!(f, "{}", self.violation)
        }
    }
}

/// Reads a file.
///
/// # Errors
/// Everything that is wrong, in the order of the documents.
pub fn read(text: &str) -> Result<Manifest, Vec<Mistake>> {
    let whole = |problem: String, remedy: &str| {
        Err(vec![Mistake { document: "the file".to_owned(), violation: Violation::new("", problem, remedy) }])
    };
    if text.len() > MAX_BYTES {
        return whole(
            format!("has more than {MAX_BYTES} bytes, which no API server takes"),
            "shorten it, or split it into several files",
        );
    }
    let (mut manifest, mut mistakes) = (Manifest::default(), Vec::new());
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let (label, outcome) = match serde_yaml::Value::deserialize(document) {
            Ok(yaml) => match json(yaml, 0) {
                Ok(Value::Null) => continue,
                Ok(value) => (label(index, &value), manifest.take(value)),
                Err(violation) => (format!("document {}", index + 1), Err(vec![violation])),
            },
            Err(error) => {
                mistakes
                    .push(Mistake { document: format!("document {}", index + 1), violation: yaml_violation(&error) });
                // Where one document ends and the next begins is not known any more.
                break;
            }
        };
        let found = outcome.err().unwrap_or_default();
        mistakes.extend(found.into_iter().map(|violation| Mistake { document: label.clone(), violation }));
    }
    if mistakes.is_empty() && manifest.objects.is_empty() {
        return whole(
            "contains no SessionBackend".to_owned(),
            &format!("begin one with apiVersion: {API_VERSION} and kind: {KIND}"),
        );
    }
    mistakes.extend(manifest.rivals());
    if mistakes.is_empty() { Ok(manifest) } else { Err(mistakes) }
}

impl Manifest {
    /// Takes one document in.
    fn take(&mut self, mut value: Value) -> Result<(), Vec<Violation>> {
        drop_nulls(&mut value);
        let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
        match (text("apiVersion"), text("kind")) {
            (_, KIND) => self.take_object(value),
            ("v1", "Secret") => {
                let secret = Secret::read(&value)?;
                let key = (secret.namespace.clone(), secret.name.clone());
                let violation = Violation::new(
                    "metadata.name",
                    "is the name of an earlier Secret of this file",
                    "rename one of them",
                );
                if self.secrets.insert(key, secret).is_some() { Err(vec![violation]) } else { Ok(()) }
            }
            (_, "") => Err(vec![Violation::new("kind", "is required", format!("write {KIND} or Secret"))]),
            (_, kind) => Err(vec![Violation::new(
                "kind",
                format!("{} is not read from this file", presentable(kind, 40)),
                format!("put only {KIND} ({API_VERSION}) and Secret (v1) here"),
            )]),
        }
    }

    fn take_object(&mut self, value: Value) -> Result<(), Vec<Violation>> {
        let Entry { object, desired } = understand(value)?;
        let same =
            |entry: &Entry| name(&entry.object) == name(&object) && namespace(&entry.object) == namespace(&object);
        if self.objects.iter().any(same) {
            let remedy = "rename one of them";
            return Err(vec![Violation::new(
                "metadata.name",
                "is the name of an earlier SessionBackend of this file",
                remedy,
            )]);
        }
        self.objects.push(Entry { object, desired });
        Ok(())
    }

    /// Two objects that would write the same variable of the same service.
    fn rivals(&self) -> Vec<Mistake> {
        let mut holders: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut mistakes = Vec::new();
        for entry in &self.objects {
            let Desired::Present(target) = &entry.desired else { continue };
            let this = format!("{}/{}", namespace(&entry.object), name(&entry.object));
            for (index, service) in target.services.iter().enumerate() {
                let region = &entry.object.spec.aws.region;
                let held = crate::env::names(&target.env.format).into_iter().find_map(|variable| {
                    let key = (format!("{region}/{}", service.name), variable.clone());
                    let holder = holders.entry(key).or_insert_with(|| this.clone());
                    (*holder != this).then(|| (variable, holder.clone()))
                });
                mistakes.extend(held.map(|(variable, holder)| Mistake {
                    document: format!("SessionBackend {this}"),
                    violation: Violation::new(
                        format!("spec.services[{index}]"),
                        format!("{variable} of service {} is already written by SessionBackend {holder}", service.name),
                        "remove the service from one of them, or give the variable another name in env.names",
                    ),
                }));
            }
        }
        mistakes
    }

    /// A Secret of the file.
    #[must_use]
    pub fn secret(&self, namespace: &str, name: &str) -> Option<&Secret> {
        self.secrets.get(&(namespace.to_owned(), name.to_owned()))
    }
}

/// One object as an API server gives it out.
///
/// # Errors
/// Everything that is wrong, in the order of the fields.
pub fn understand(mut value: Value) -> Result<Entry, Vec<Violation>> {
    // What `kubectl get -o yaml` prints can be applied again: the server drops the status, once it knows its fields.
    let status = value.as_object_mut().and_then(|object| object.remove("status"));
    let mut found = admit(&value, None);
    if let Some(status) = status {
        found.extend(unknown_in_status(&status));
        found = ordered(found);
    }
    let object = match serde_json::from_value::<SessionBackend>(value) {
        Ok(object) => object,
        // The decoder's own words may quote a value; admission has said the same by field.
        Err(_) if !found.is_empty() => return Err(found),
        Err(_) => {
            return Err(vec![Violation::new(
                "spec",
                "cannot be read",
                "this is a defect; report it with the manifest",
            )]);
        }
    };
    match parse(&object) {
        // What is being deleted needs no valid spec.
        Ok(desired) if found.is_empty() || matches!(desired, Desired::Absent { .. }) => Ok(Entry { object, desired }),
        Ok(_) => Err(found),
        Err(more) => {
            found.extend(more);
            Err(ordered(found))
        }
    }
}

/// The name of an object that has been read.
#[must_use]
pub fn name(object: &SessionBackend) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

/// The namespace of an object.
#[must_use]
pub fn namespace(object: &SessionBackend) -> &str {
    object.metadata.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE)
}

fn label(index: usize, value: &Value) -> String {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(|text| presentable(text, 63));
    match (text("/kind"), text("/metadata/name")) {
        (Some(kind), Some(name)) => format!("document {} ({kind} {name})", index + 1),
        (Some(kind), None) => format!("document {} ({kind})", index + 1),
        (None, _) => format!("document {}", index + 1),
    }
}

/// The parser's own words speak of syntax only, but they may quote a key: they are cut and stripped.
fn yaml_violation(error: &serde_yaml::Error) -> Violation {
    let at = error.location().map(|at| format!(" (line {}, column {})", at.line(), at.column())).unwrap_or_default();
    let words = error.to_string();
    if words.contains("recursion limit") {
        too_deep()
    } else if words.contains("duplicate entry") {
        Violation::new("", format!("gives a field twice{at}"), "remove one of the two")
    } else if words.contains("repetition limit") {
        Violation::new("", "repeats itself without end by its aliases", "write the values out")
    } else {
        Violation::new("", format!("is no YAML{at}"), "correct the indentation or the quotes there")
    }
}

fn too_deep() -> Violation {
    Violation::new(
        "",
        format!("is nested deeper than {MAX_DEPTH} levels"),
        "write the fields of `kubectl explain sessionbackend` only",
    )
}

/// The JSON an API server would see.
fn json(yaml: serde_yaml::Value, depth: usize) -> Result<Value, Violation> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    match yaml {
        serde_yaml::Value::Null => Ok(Value::Null),
        serde_yaml::Value::Bool(value) => Ok(Value::Bool(value)),
        serde_yaml::Value::String(value) => Ok(Value::String(value)),
        serde_yaml::Value::Number(number) => {
            let whole = number.as_u64().map(Value::from).or_else(|| number.as_i64().map(Value::from));
            let finite = || number.as_f64().and_then(serde_json::Number::from_f64).map(Value::Number);
            whole
                .or_else(finite)
                .ok_or_else(|| Violation::new("", "has a number that is none", "write a finite number"))
        }
        serde_yaml::Value::Sequence(items) => items.into_iter().map(|item| json(item, depth + 1)).collect(),
        serde_yaml::Value::Mapping(entries) => entries
            .into_iter()
            .map(|(key, value)| match key {
                serde_yaml::Value::String(key) => Ok((key, json(value, depth + 1)?)),
                _ => Err(Violation::new("", "has a field whose name is no text", "put the name in quotes")),
            })
            .collect::<Result<serde_json::Map<_, _>, _>>()
            .map(Value::Object),
        serde_yaml::Value::Tagged(_) => {
            Err(Violation::new("", "has a YAML tag (!…)", "remove it; an API server does not know it"))
        }
    }
}

/// The API server drops null fields whose schema does not admit null, and no field of ours does.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
